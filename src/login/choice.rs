//! What a new password must be like (NIST SP 800-63B-4 section 3.1.1.2, OWASP ASVS 6.2).
//!
//! Length and a list, no rules about kinds of characters; stored passwords are never judged here.

use super::password::LENGTH;

/// Fewest characters.
const SHORTEST: usize = 8;

/// Common passwords of at least [`SHORTEST`] characters in lower case, the most common first; lines
/// with `#` are comments.
const COMMON: &str = include_str!("common-passwords.txt");

/// Whether somebody may choose `password`. It is judged, and later hashed, as the bytes it came in:
/// Unicode is not normalised, nothing is trimmed or cut.
///
/// # Errors
/// A sentence for the person who chose it.
pub fn check_new_password(password: &str) -> Result<(), String> {
    if password.chars().count() < SHORTEST {
        return Err(format!("The password is too short: use at least {SHORTEST} characters."));
    }
    if password.len() > LENGTH {
        return Err(format!("The password is too long: use at most {LENGTH} bytes."));
    }
    let mut letters = password.chars();
    let first = letters.next();
    if letters.all(|letter| Some(letter) == first) {
        return Err("The password is one character repeated: use another.".to_owned());
    }
    let folded = password.trim().to_lowercase();
    if COMMON.lines().any(|line| line == folded && !line.starts_with('#')) {
        return Err("The password is on the list of common passwords: use another.".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_long_common_and_repeated_passwords_are_refused() {
        for (bad, reason) in [
            ("", "too short"),
            ("seven77", "too short"),
            ("ääääääb", "too short"),
            ("password", "common"),
            ("PassWord1", "common"),
            (" iloveyou ", "common"),
            ("zzzzzzzzzzzzzzzzzz", "repeated"),
            (&"ab".repeat(LENGTH), "too long"),
        ] {
            assert!(check_new_password(bad).unwrap_err().contains(reason), "{bad}");
        }
        for good in ["correct horse battery", "b7k-9qz-", "пароль-на-века", &"𝔘x".repeat(64)]
        {
            check_new_password(good).unwrap();
        }
    }

    #[test]
    fn the_list_holds_thousands_that_could_be_chosen() {
        let entries: Vec<_> = COMMON.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(entries.len() >= 3_000, "{}", entries.len());
        for entry in entries {
            assert!(entry.chars().count() >= SHORTEST, "{entry}");
            assert_eq!(entry, entry.to_lowercase());
        }
    }
}
