//! Privileges of a KS: `name[:value]`, comma-separated.

/// Most privileges of one KS.
pub const MAX_PRIVILEGES: usize = 256;
/// What the fields of a KS are called: no privilege may be called so.
const RESERVED: [&str; 5] = ["_d", "_e", "_m", "_t", "_u"];

/// One privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privilege<'a> {
    /// Its name, never empty.
    pub name: &'a str,
    /// What follows the colon, empty without one.
    pub value: &'a str,
}

impl<'a> Privilege<'a> {
    /// The values, which a slash separates: none when there is nothing behind the name.
    pub fn values(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value.split('/').filter(|value| !value.is_empty())
    }

    /// The values of a privilege whose values are paths (`urirestrict`): a bar separates them.
    pub fn uris(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value.split('|').filter(|uri| !uri.is_empty())
    }
}

/// There are more than [`MAX_PRIVILEGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Kaltura session has at most {MAX_PRIVILEGES} privileges")]
pub struct TooManyPrivileges;

/// Reads a list of privileges. A name counts once, with its last value, as in a KS; `*` is short for
/// `all:*`. What has no name that a KS can hold is left out: empty ones, and those that some reader
/// (PHP's `parse_str`) would take for a field of the KS.
///
/// # Errors
/// When there are too many: none may be lost, since some of them are limits.
pub fn privileges(text: &str) -> Result<Vec<Privilege<'_>>, TooManyPrivileges> {
    let mut list: Vec<Privilege<'_>> = Vec::new();
    for item in text.split(',') {
        let (name, value) = match item.trim() {
            "*" => ("all", "*"),
            item => item.split_once(':').unwrap_or((item, "")),
        };
        if !is_name(name) {
            continue;
        }
        if let Some(known) = list.iter_mut().find(|known| known.name == name) {
            known.value = value;
        } else if list.len() < MAX_PRIVILEGES {
            list.push(Privilege { name, value });
        } else {
            return Err(TooManyPrivileges);
        }
    }
    Ok(list)
}

fn is_name(name: &str) -> bool {
    let odd = |letter: char| letter == '[' || letter.is_control();
    let read = name.trim_start().replace([' ', '.'], "_");
    !read.is_empty() && !name.contains(odd) && !RESERVED.contains(&read.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, &str)> {
        privileges(text).unwrap().iter().map(|one| (one.name, one.value)).collect()
    }

    #[test]
    fn names_and_values_are_told_apart() {
        assert_eq!(
            read("list:*,setrole:ROLE, download ,iprestrict:::1/10.0.0.1,,*"),
            [
                ("list", "*"),
                ("setrole", "ROLE"),
                ("download", ""),
                ("iprestrict", "::1/10.0.0.1"),
                ("all", "*"),
            ]
        );
        let list = privileges("iprestrict:10.0.0.1/10.0.0.2,urirestrict:/a/*|/b").unwrap();
        assert_eq!(list[0].values().collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(list[1].uris().collect::<Vec<_>>(), ["/a/*", "/b"]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_name_counts_once_with_its_last_value() {
        assert_eq!(read("a:1,b:2,a:3,a"), [("a", ""), ("b", "2")]);
    }

    #[test]
    fn no_privilege_can_pass_for_a_field() {
        for text in ["_e:9", "_m:1", " _d:x", ".m:1", "[m:1", "_m[x]:1", "_m\0:1", ":x", " : "] {
            assert_eq!(read(text), [], "{text:?}");
        }
        assert_eq!(read("_x:1"), [("_x", "1")]);
    }

    #[test]
    fn there_are_not_too_many() {
        let text: Vec<_> = (0..=MAX_PRIVILEGES).map(|n| format!("p{n}")).collect();
        assert_eq!(privileges(&text.join(",")), Err(TooManyPrivileges));
        assert_eq!(privileges(&text[1..].join(",")).unwrap().len(), MAX_PRIVILEGES);
    }
}
