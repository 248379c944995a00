//! Multirequests: many calls in one, later ones with what earlier ones answered.

use super::error::ApiError;
use super::params::Params;
use super::value::Value;

/// Most items of one multirequest.
pub(super) const ITEMS: usize = 100;
/// What items have from the whole.
const INHERITED: [&str; 4] = ["clientTag", "ks", "p", "partnerId"];

/// The items, in order.
pub(super) fn items(params: &Params) -> Vec<Params> {
    // One more than are taken shows that there are too many; each has its own copy of what it inherits.
    let mut items = params.numbered(ITEMS + 1);
    items.iter_mut().for_each(|item| item.inherit(params, &INHERITED));
    items
}

/// Puts answers in the place of references: `{1:result}` is the first answer, `{1:result:objects:0:id}`
/// something in it. Items count from one, whatever their keys.
///
/// # Errors
/// A reference leads nowhere.
pub(super) fn resolve(item: &mut Params, answers: &[Value]) -> Result<(), ApiError> {
    item.replace(&|text| {
        let Some((number, path)) = reference(text) else { return Ok(None) };
        let answer = number.checked_sub(1).and_then(|at| answers.get(at));
        let found = answer.and_then(|answer| answer.at(path.split(':').filter(|s| !s.is_empty())));
        found.map(Some).ok_or_else(ApiError::unresolved)
    })
}

/// The number and the path of a reference.
pub(super) fn reference(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.strip_prefix('{')?.strip_suffix('}')?.split_once(":result")?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !rest.is_empty() && !rest.starts_with(':') {
        return None;
    }
    // More digits than a number has: a reference all the same.
    Some((number.parse().unwrap_or(usize::MAX), rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::read;
    use super::*;

    fn resolved(text: &str, answers: &[Value]) -> Option<String> {
        let mut params = Params::default();
        params.put("a:b", text.into());
        resolve(&mut params, answers).ok()?;
        Some(params.object("a").unwrap().given("b").unwrap().into_owned())
    }

    #[test]
    fn references_lead_to_answers() {
        let partner = Value::Object("KalturaPartner", vec![("id", Value::Int(102))]);
        let list = Value::Object(
            "KalturaPartnerListResponse",
            vec![("objects", Value::List(vec![partner])), ("none", Value::Null)],
        );
        let answers = [Value::Text("ks".to_owned()), list, ApiError::missing_ks().into()];
        let get = |text| resolved(text, &answers);
        assert_eq!(get("{1:result}").as_deref(), Some("ks"));
        assert_eq!(get("{2:result:objects:0:id}").as_deref(), Some("102"));
        assert_eq!(get("{2:result:objectType}").as_deref(), Some("KalturaPartnerListResponse"));
        assert_eq!(get("{2:result:none}").as_deref(), Some(""));
        for broken in [
            "{0:result}",
            "{4:result}",
            "{3:result}",
            "{3:result:code}",
            "{2:result}",
            "{2:result:objects}",
            "{2:result:objects:1:id}",
            "{2:result:x}",
            "{1:result:x}",
            "{99999999999999999999999:result}",
        ] {
            assert_eq!(get(broken), None, "{broken}");
        }
        for plain in ["{1:results}", "{a:result}", "{1:result", "x{1:result}", "{:result}", ""] {
            assert_eq!(get(plain).as_deref(), Some(plain));
        }
    }

    #[test]
    fn items_inherit_what_they_do_not_say() {
        let query = "ks=top&partnerId=1&secret=s&0:a=1&0:ks=own&1:a=2";
        let items = items(&read::head("/", Some(query)).params);
        let get = |at: usize, name: &str| items[at].text(name).map(|text| text.into_owned());
        assert_eq!((get(0, "ks"), get(1, "ks")), (Some("own".into()), Some("top".into())));
        assert_eq!((get(1, "partnerId"), get(1, "secret")), (Some("1".into()), None));
    }
}
