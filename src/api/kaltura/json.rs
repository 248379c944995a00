//! Answers as JSON.

use serde_json::{Map, Value as Json, json};

use super::error::ApiError;
use super::value::Value;

/// `value` as JSON. Properties without a value are left out.
pub(super) fn encode(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Error(error) => failure(error),
        Value::Int(number) => Json::from(*number),
        Value::List(items) => items.iter().map(encode).collect(),
        Value::Null => Json::Null,
        Value::Object(kind, properties) => {
            let given = properties.iter().filter(|(_, value)| *value != Value::Null);
            let mut all: Map<String, Json> =
                given.map(|(name, value)| ((*name).to_owned(), encode(value))).collect();
            all.insert("objectType".to_owned(), Json::from(*kind));
            Json::Object(all)
        }
        Value::Text(text) => Json::from(text.as_str()),
    }
}

fn failure(error: &ApiError) -> Json {
    let args: Map<String, Json> =
        error.args.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "code": error.code,
        "message": error.message,
        "objectType": "KalturaAPIException",
        "args": args,
    })
}

/// `value` as a call of `callback`, for scripts of other origins (JSONP).
pub(super) fn call(callback: &str, value: &Value) -> String {
    // Ends of lines in JavaScript before ES2019, but plain characters in JSON.
    let json = encode(value).to_string().replace('\u{2028}', "\\u2028");
    format!("{callback}({});", json.replace('\u{2029}', "\\u2029"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::kaltura::xml::tests::value;

    /// Reads back what was written, by its shape.
    fn agrees(value: &Value, json: &Json) -> bool {
        match value {
            Value::Bool(flag) => json.as_bool() == Some(*flag),
            Value::Error(error) => {
                json["code"] == *error.code
                    && json["message"] == *error.message
                    && json["objectType"] == "KalturaAPIException"
                    && error.args.iter().all(|(name, value)| json["args"][*name] == **value)
            }
            Value::Int(number) => json.as_i64() == Some(*number),
            Value::List(items) => {
                let list = json.as_array().unwrap();
                list.len() == items.len() && items.iter().zip(list).all(|(a, b)| agrees(a, b))
            }
            Value::Null => json.is_null(),
            Value::Object(kind, properties) => {
                let shown = properties.iter().filter(|(_, value)| *value != Value::Null);
                json["objectType"] == **kind
                    && json.as_object().unwrap().len() == shown.count() + 1
                    && properties.iter().all(|(name, value)| agrees(value, &json[*name]))
            }
            Value::Text(text) => json.as_str() == Some(text),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in value()) {
            let text = encode(&value).to_string();
            let json: Json = serde_json::from_str(&text).unwrap();
            prop_assert!(agrees(&value, &json), "{}", text);
            let call = call("a.b", &value);
            let inside = call.strip_prefix("a.b(").unwrap().strip_suffix(");").unwrap();
            let ends = inside.contains(['\u{2028}', '\u{2029}']);
            prop_assert!(!ends);
            prop_assert_eq!(serde_json::from_str::<Json>(inside).unwrap(), json);
        }
    }

    #[test]
    fn shapes_are_those_of_the_original() {
        let shown = |value| encode(&value).to_string();
        assert_eq!(shown(Value::Text("djJ8".to_owned())), "\"djJ8\"");
        assert_eq!(shown(Value::Null), "null");
        let user = Value::Object(
            "KalturaUser",
            vec![
                ("id", Value::Text("a".to_owned())),
                ("tags", Value::Null),
                ("isAdmin", Value::Bool(false)),
            ],
        );
        assert_eq!(shown(user), r#"{"id":"a","isAdmin":false,"objectType":"KalturaUser"}"#);
    }
}
