//! Answers as XML 1.0.

use super::error::ApiError;
use super::value::Value;

/// The document of an answer. What XML 1.0 cannot hold, such as most control characters, becomes
/// U+FFFD.
pub(super) fn encode(value: &Value) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><xml>");
    element("result", value, &mut out);
    out.push_str("</xml>");
    out
}

fn element(name: &str, value: &Value, out: &mut String) {
    out.extend(["<", name, ">"]);
    match value {
        Value::Bool(flag) => out.push(if *flag { '1' } else { '0' }),
        Value::Error(error) => failure(error, out),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::List(items) => items.iter().for_each(|item| element("item", item, out)),
        Value::Null => {}
        Value::Object(kind, properties) => {
            text("objectType", kind, out);
            properties.iter().for_each(|(name, value)| element(name, value, out));
        }
        Value::Text(text) => escape(text, out),
    }
    out.extend(["</", name, ">"]);
}

fn failure(error: &ApiError, out: &mut String) {
    out.push_str("<error>");
    text("code", &error.code, out);
    text("message", &error.message, out);
    text("objectType", "KalturaAPIException", out);
    out.push_str("<args>");
    for (name, value) in &error.args {
        out.push_str("<item>");
        text("objectType", "KalturaApiExceptionArg", out);
        text("name", name, out);
        text("value", value, out);
        out.push_str("</item>");
    }
    out.push_str("</args></error>");
}

fn text(name: &str, value: &str, out: &mut String) {
    out.extend(["<", name, ">"]);
    escape(value, out);
    out.extend(["</", name, ">"]);
}

fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // As itself it would be read as a line feed.
            '\r' => out.push_str("&#13;"),
            letter => out.push(carried(letter)),
        }
    }
}

/// `letter`, when XML 1.0 can hold it (section 2.2).
fn carried(letter: char) -> char {
    match letter {
        '\t' | '\n' | '\r' => letter,
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        letter => letter,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use proptest::prelude::*;
    use roxmltree::{Document, Node};

    use super::*;

    fn scalar() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[\\PC\t\r\n]{0,12}", any::<String>(), "[<>&\"'\\]\0-\u{1f}]{0,8}"];
        let args = prop::collection::vec(any::<String>(), 0..3);
        let error = (any::<String>(), args).prop_map(|(message, args)| {
            let args = ["A", "B", "C"].into_iter().zip(args).collect();
            let code = "INVALID_KS".into();
            Value::Error(Box::new(ApiError { code, message, args, retry_after: None }))
        });
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            Just(Value::Null),
            text.prop_map(Value::Text),
            error,
        ]
    }

    /// Any answer.
    pub(crate) fn value() -> impl Strategy<Value = Value> {
        scalar().prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec(inner, 0..4).prop_map(|values| {
                    let names = ["id", "name", "objects", "expiry"];
                    Value::Object("KalturaUser", names.into_iter().zip(values).collect())
                }),
            ]
        })
    }

    fn as_read(text: &str) -> String {
        text.chars().map(carried).collect()
    }

    fn text_of<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
        let child = node.children().find(|child| child.has_tag_name(name)).unwrap();
        child.text().unwrap_or_default()
    }

    fn agrees(value: &Value, node: Node<'_, '_>) -> bool {
        let text = node.text().unwrap_or_default();
        match value {
            Value::Bool(flag) => text == if *flag { "1" } else { "0" },
            Value::Error(error) => {
                let shown = node.first_child().unwrap();
                let args = shown.children().find(|child| child.has_tag_name("args")).unwrap();
                shown.has_tag_name("error")
                    && text_of(shown, "code") == error.code
                    && text_of(shown, "message") == as_read(&error.message)
                    && args.children().count() == error.args.len()
                    && args.children().zip(&error.args).all(|(item, (name, value))| {
                        text_of(item, "name") == *name && text_of(item, "value") == as_read(value)
                    })
            }
            Value::Int(number) => text == number.to_string(),
            Value::List(items) => {
                node.children().count() == items.len()
                    && node
                        .children()
                        .zip(items)
                        .all(|(item, value)| item.has_tag_name("item") && agrees(value, item))
            }
            Value::Null => !node.has_children(),
            Value::Object(kind, properties) => {
                text_of(node, "objectType") == *kind
                    && node.children().count() == properties.len() + 1
                    && node.children().skip(1).zip(properties).all(|(child, (name, value))| {
                        child.has_tag_name(*name) && agrees(value, child)
                    })
            }
            Value::Text(written) => text == as_read(written),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in value()) {
            let text = encode(&value);
            let document = Document::parse(&text).unwrap();
            let root = document.root_element();
            prop_assert!(root.has_tag_name("xml") && root.children().count() == 1);
            prop_assert!(agrees(&value, root.first_element_child().unwrap()), "{}", text);
        }
    }

    #[test]
    fn shapes_are_those_of_the_original() {
        let shown = |value| {
            let text = encode(&value);
            let text =
                text.strip_prefix("<?xml version=\"1.0\" encoding=\"utf-8\"?><xml>").unwrap();
            text.strip_suffix("</xml>").unwrap().to_owned()
        };
        assert_eq!(shown(Value::Text("djJ8".to_owned())), "<result>djJ8</result>");
        assert_eq!(shown(Value::Null), "<result></result>");
        let list = Value::List(vec![Value::Text("a".to_owned()), Value::Int(1)]);
        assert_eq!(shown(list), "<result><item>a</item><item>1</item></result>");
        let user = Value::Object(
            "KalturaUser",
            vec![
                ("id", Value::Text("a&b".to_owned())),
                ("tags", Value::Null),
                ("isAdmin", Value::Bool(true)),
            ],
        );
        assert_eq!(
            shown(user),
            "<result><objectType>KalturaUser</objectType><id>a&amp;b</id><tags></tags>\
             <isAdmin>1</isAdmin></result>"
        );
    }
}
