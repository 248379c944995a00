//! Where parameters are: in pairs of path segments, in the query, in the body. The path counts before
//! the query, the query before the body.

use http::header::{self, HeaderMap};
use percent_encoding::{percent_decode, percent_decode_str};
use serde_json::Value;

use super::call::Call;
use super::multipart;
use super::params::{Params, is_number};
use crate::api::once::Once;

/// Most pairs of a query or form. PHP leaves out what is more (`max_input_vars`), and would take another `ks` for the last
/// one.
const PAIRS: usize = 1000;

/// Names that decide whose a call is, or one of its items, and in whose name it is made.
const DECIDING: [&str; 3] = ["service", "action", "ks"];

/// Why parameters cannot be read.
pub(super) type Malformed = &'static str;

const TWO_WAYS: Malformed = "A parameter has a name that can be read in two ways.";
const MIXED: Malformed =
    "Name the items of a multirequest as `1:service` or as `\"1\": {..}`, not both.";

/// What a path below the mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A page or file of the app.
    Elsewhere,
    /// The API without a word about the service.
    Entry,
    /// The API, with the service in the path.
    Named,
}

/// What the head of a request says.
#[derive(Debug)]
pub(super) struct HeadParams {
    pub(super) place: Place,
    pub(super) params: Params,
    pub(super) malformed: Option<Malformed>,
}

/// The parameters of path and query.
pub(super) fn head(path: &str, query: Option<&str>) -> HeadParams {
    let mut malformed = None;
    let mut params = Params::default();
    if let Err(error) = form(query.unwrap_or_default().as_bytes(), &mut params) {
        malformed = Some(error);
    }
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    let script = segments.next_if(|first| first.eq_ignore_ascii_case("index.php"));
    // Whatever is no page or file of its own, Kaltura's server hands to the API.
    let count = path.split('/').filter(|segment| !segment.is_empty()).count();
    let may_be_page = count % 2 == 1 || path.contains('.') || Call::of(&params).is_none();
    let is_api = script.is_some() || segments.peek().is_none() || !may_be_page;
    let mut place = if is_api { Place::Entry } else { Place::Elsewhere };
    let mut pairs = Params::default();
    let mut seen = Vec::new();
    while let (Some(name), Some(value)) = (segments.next(), segments.next()) {
        let decoded = |text| percent_decode_str(text).decode_utf8();
        let (Ok(name), Ok(value)) = (decoded(name), decoded(value)) else {
            malformed = Some("The path is not UTF-8.");
            continue;
        };
        if name == "service" {
            place = Place::Named;
        }
        // PHP takes the first of several, ends at a 0, and knows segments with the name of its script for those.
        let is_script = |text: &str| ["api_v3", "index.php"].contains(&text);
        let twice = DECIDING.contains(&own(&name)) && seen.contains(&name);
        if is_ambiguous(&name) || twice || name == "0" || is_script(&name) || is_script(&value) {
            malformed = Some(TWO_WAYS);
        }
        seen.push(name.clone());
        pairs.put(&name, Value::String(value.into_owned()));
    }
    params.overlay(pairs);
    if params.has_mixed_items() {
        malformed = Some(MIXED);
    }
    HeadParams { place, params, malformed }
}

/// All parameters of a request.
///
/// # Errors
/// What is wrong; the parameters of the head are still those of [`head`].
pub(super) fn whole(
    head: HeadParams,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Params, Malformed> {
    if let Some(error) = head.malformed {
        return Err(error);
    }
    let mut params = body(headers, bytes)?;
    params.overlay(head.params);
    if params.has_mixed_items() {
        return Err(MIXED);
    }
    Ok(params)
}

/// The parameters of a body.
pub(super) fn body(headers: &HeaderMap, bytes: &[u8]) -> Result<Params, Malformed> {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let kind = kinds.next().map(|kind| kind.to_str().unwrap_or("?")).unwrap_or_default();
    if kinds.next().is_some() {
        return Err("The request has more than one Content-Type.");
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(Params::default());
    }
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => json(bytes),
        "multipart/form-data" => multipart(kind, bytes),
        // Tools that send JSON without a word are more common than forms that begin so.
        "" if bytes.trim_ascii_start().starts_with(b"{") => json(bytes),
        "" | "application/x-www-form-urlencoded" => {
            let mut params = Params::default();
            form(bytes, &mut params)?;
            Ok(params)
        }
        _ => Err("Send the body as JSON, as a form, or as a multipart form with a part `json`."),
    }
}

fn json(bytes: &[u8]) -> Result<Params, Malformed> {
    // The error is not shown: it could repeat what was sent.
    match serde_json::from_slice(bytes) {
        Ok(Once(Value::Object(object))) if object.keys().any(|name| is_ambiguous(name)) => {
            Err(TWO_WAYS)
        }
        Ok(Once(Value::Object(object))) => Ok(Params::of(object)),
        Ok(_) => Err("The JSON of the body is not an object."),
        Err(error) if error.is_data() => Err("In the JSON of the body a name stands twice."),
        Err(_) => Err("The body is not JSON."),
    }
}

fn multipart(kind: &str, bytes: &[u8]) -> Result<Params, Malformed> {
    const BROKEN: Malformed = "The multipart form cannot be read.";
    let boundary = multipart::boundary(kind).ok_or(BROKEN)?;
    let fields = multipart::fields(bytes, boundary).ok_or(BROKEN)?;
    if fields.iter().any(|(name, _)| is_ambiguous(name)) {
        return Err(TWO_WAYS);
    }
    if let Some((_, content)) = fields.iter().find(|(name, _)| name == "json") {
        // Beside it nothing else counts, unless it is empty, or PHP takes another one.
        let decides = |name: &str| name == "json" || DECIDING.contains(&own(name));
        return match fields.iter().filter(|(name, _)| decides(name)).count() {
            1 => json(content),
            _ => Err(TWO_WAYS),
        };
    }
    let mut params = Params::default();
    for (name, content) in fields {
        let text = str::from_utf8(content).map_err(|_| "The form is not UTF-8.")?;
        params.put(&name, Value::String(text.to_owned()));
    }
    Ok(params)
}

fn form(bytes: &[u8], params: &mut Params) -> Result<(), Malformed> {
    let pairs = bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    for (count, pair) in pairs.enumerate() {
        if count == PAIRS {
            return Err("There are too many parameters.");
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        if is_ambiguous(&name) {
            return Err(TWO_WAYS);
        }
        params.put(&name, Value::String(value));
    }
    Ok(())
}

/// Whether the gateway and an app may read a name in two ways.
fn is_ambiguous(name: &str) -> bool {
    misleads(name) || is_disguised(name)
}

/// Whether apps of this API, which are written in PHP, take a name for that of an item, or of something in it, and it is
/// none here, or the other way round: everything that PHP takes for a number is the number of an item there (`1e0`, `-1`,
/// `01`, `2[ks]`), and a null or an empty list is another parameter there, beside the one that it would be here.
fn misleads(name: &str) -> bool {
    let first = name.split(':').next().unwrap_or_default();
    let read = first.split(['\0', '[']).next().unwrap_or_default();
    if is_numeric(read) && !is_number(first) {
        return true;
    }
    let stem = name.strip_suffix("__null").or_else(|| name.strip_suffix(":-"));
    stem.is_some_and(|stem| is_number(stem) || DECIDING.contains(&own(stem)))
}

/// As PHP's function of this name, of any version.
fn is_numeric(text: &str) -> bool {
    let text = text.trim();
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let is_hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.is_some_and(is_hex)
        || text.bytes().any(|byte| byte.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

/// A name without the number of an item before it.
fn own(name: &str) -> &str {
    let of_item = name.split_once(':').filter(|(number, _)| is_number(number));
    of_item.map_or(name, |(_, own)| own)
}

/// Whether PHP takes another name for one that decides, of the call or of an item: it leaves out blanks before, and what
/// follows a NUL or a bracket. What is below such a name (`ks:x`) would take its place here.
fn is_disguised(name: &str) -> bool {
    let visible = name.trim_start();
    let own = own(visible);
    let read = own.split(['\0', '[', ':', '.', ' ']).next().unwrap_or_default();
    (DECIDING.contains(&read) || read == "json") && (read != own || visible != name)
}

/// Strict: what is not UTF-8 would otherwise be changed, and a password with it.
fn decode(text: &[u8]) -> Result<String, Malformed> {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).decode_utf8().map_err(|_| "The form is not UTF-8.")?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(kind: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        headers
    }

    fn value(params: &Params, name: &str) -> String {
        params.text(name).unwrap_or_default().into_owned()
    }

    #[test]
    fn every_encoding_says_the_same() {
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n\
                         {\"userId\":\"a b\",\"o\":{\"f\":1}}\r\n--b--\r\n";
        let parts = "--b\r\nContent-Disposition: form-data; name=userId\r\n\r\na b\r\n\
                     --b\r\nContent-Disposition: form-data; name=\"o:f\"\r\n\r\n1\r\n--b--";
        let json = r#"{"userId":"a b","o":{"f":1}}"#;
        for (kind, body) in [
            ("application/json", json),
            ("Application/JSON; charset=utf-8", json),
            ("", json),
            ("application/json", r#"{"userId":"a b","o:f":"1"}"#),
            ("application/x-www-form-urlencoded", "userId=a+b&o%3Af=1"),
            ("", "userId=a%20b&o:f=1"),
            ("multipart/form-data; boundary=b", multipart),
            ("multipart/form-data; boundary=\"b\"", parts),
        ] {
            let params = super::body(&headers(kind), body.as_bytes()).unwrap();
            let field = value(&params.object("o").unwrap(), "f");
            assert_eq!((value(&params, "userId").as_str(), &*field), ("a b", "1"), "{kind} {body}");
        }
        let read = head("/service/x/userId/a%20b/o:f/1", None);
        assert_eq!(value(&read.params, "userId"), "a b");
    }

    #[test]
    fn the_path_counts_before_the_query_and_the_query_before_the_body() {
        let read = head("/service/session/a/path", Some("a=query&b=query"));
        let json = br#"{"a":"body","b":"body","c":"body"}"#;
        let params = whole(read, &headers("application/json"), json).unwrap();
        let all = ["a", "b", "c"].map(|name| value(&params, name));
        assert_eq!(all, ["path", "query", "body"]);
    }

    #[test]
    fn places_are_told_apart() {
        for (path, place) in [
            ("/", Place::Entry),
            ("/index.php", Place::Entry),
            ("/index.php/", Place::Entry),
            ("/service/session", Place::Named),
            ("/index.php/service/session/action/get", Place::Named),
            ("/clientTag/x/service/session", Place::Named),
            ("/service", Place::Elsewhere),
            ("/testme/index.php", Place::Elsewhere),
            ("/a/service/session/x", Place::Elsewhere),
        ] {
            assert_eq!(head(path, None).place, place, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (kind, body) in [
            ("application/json", "{"),
            ("application/json", "[]"),
            ("application/json", "{\"a\":1}x"),
            ("text/plain", "a=b"),
            ("multipart/form-data", "--b--"),
            ("multipart/form-data; boundary=b", "--c--"),
            ("application/x-www-form-urlencoded", "a=%ff"),
        ] {
            assert!(super::body(&headers(kind), body.as_bytes()).is_err(), "{kind} {body}");
        }
        assert!(super::body(&headers("text/plain"), b" ").is_ok());
        assert!(head("/a/%ff", None).malformed.is_some());
        assert!(head("/", Some(&"a&".repeat(PAIRS + 1))).malformed.is_some());
    }

    proptest! {
        #[test]
        fn forms_come_back(pairs in prop::collection::btree_map("[a-z]{1,6}", any::<String>(), 0..6)) {
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(&pairs);
            let read = head("/", Some(&text.finish())).params;
            for (name, content) in &pairs {
                prop_assert_eq!(read.given(name).unwrap(), content.as_str());
            }
        }

        #[test]
        fn nothing_panics(path in "[/a-z:%{}-]{0,20}", query: String, bytes: Vec<u8>, at in 0usize..5) {
            let kind = ["", "application/json", "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=b", "x/y"][at];
            let _ = whole(head(&path, Some(&query)), &headers(kind), &bytes);
        }
    }
}
