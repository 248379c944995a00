//! Parameters of a call: a tree of named values, whatever they came in.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

/// Levels of a flat name (`a:b:c`) that are told apart; what follows belongs to the last one.
const LEVELS: usize = 8;

/// Parameters. Some are secret: `Debug` shows none.
#[derive(Clone, Default)]
pub(super) struct Params(Map<String, Value>, Items);

/// How the items of a multirequest were named.
#[derive(Clone, Copy, Default)]
struct Items {
    /// By their fields: `1:service`.
    flat: bool,
    /// As a whole: `"1": {..}`.
    whole: bool,
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({} values)", self.0.len())
    }
}

impl Params {
    /// The parameters of an object.
    pub(super) fn of(object: Map<String, Value>) -> Self {
        let mut params = Self::default();
        object.into_iter().for_each(|(name, value)| params.put(&name, value));
        params
    }

    /// Sets a parameter by its flat name: `object:field`; `name__null` is a null, `name:-` an empty list.
    pub(super) fn put(&mut self, name: &str, value: Value) {
        let (name, value) = match (name.strip_suffix("__null"), name.strip_suffix(":-")) {
            (Some(name), _) => (name, Value::Null),
            (None, Some(name)) => (name, Value::Array(Vec::new())),
            (None, None) => (name, value),
        };
        let mut steps = name.splitn(LEVELS, ':');
        let Some(first) = steps.next() else { return };
        if is_number(first) {
            let Items { flat, whole } = &mut self.1;
            *(if first.len() == name.len() { whole } else { flat }) = true;
        }
        let mut place = self.0.entry(first).or_insert(Value::Null);
        for step in steps {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(fields) = place else { return };
            place = fields.entry(step).or_insert(Value::Null);
        }
        merge(place, value);
    }

    /// Adds parameters that count before those that are here.
    pub(super) fn overlay(&mut self, over: Self) {
        self.1.flat |= over.1.flat;
        self.1.whole |= over.1.whole;
        for (name, value) in over.0 {
            merge(self.0.entry(name).or_insert(Value::Null), value);
        }
    }

    /// Whether items are named in both ways: what counts then depends on an order that is not kept here.
    pub(super) fn has_mixed_items(&self) -> bool {
        self.1.flat && self.1.whole
    }

    /// Adds those of `names` that are not here, from `other`.
    pub(super) fn inherit(&mut self, other: &Self, names: &[&str]) {
        for name in names {
            if let (None, Some(value)) = (self.0.get(*name), other.0.get(*name)) {
                self.0.insert((*name).to_owned(), value.clone());
            }
        }
    }

    /// The scalar `name` as a text, even when it is empty. Flags are `1` and `0`.
    pub(super) fn given(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.0.get(name)? {
            Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "1" } else { "0" })),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Array(_) | Value::Null | Value::Object(_) => None,
        }
    }

    /// The scalar `name` as a text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.given(name).filter(|text| !text.is_empty())
    }

    /// The fields of the object `name`.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        match self.0.get(name)? {
            Value::Object(fields) => Some(Self(fields.clone(), Items::default())),
            _ => None,
        }
    }

    /// Objects with a number for a name, such as the items of a multirequest, by their numbers: at most
    /// `most`.
    pub(super) fn numbered(&self, most: usize) -> Vec<Self> {
        let mut items: Vec<(u32, _)> = self
            .0
            .iter()
            .filter_map(|(name, value)| match value {
                Value::Object(fields) if is_number(name) => Some((name.parse().ok()?, fields)),
                _ => None,
            })
            .collect();
        items.sort_by_key(|(number, _)| *number);
        let item = |(_, fields): (u32, &Map<_, _>)| Self(fields.clone(), Items::default());
        items.into_iter().take(most).map(item).collect()
    }

    /// Replaces every text for which `with` has something.
    ///
    /// # Errors
    /// The first error of `with`.
    pub(super) fn replace<E>(
        &mut self,
        with: &impl Fn(&str) -> Result<Option<String>, E>,
    ) -> Result<(), E> {
        self.0.values_mut().try_for_each(|value| replace(value, with))
    }
}

/// Whether a name is that of an item, in the one way in which an item may be called.
pub(super) fn is_number(name: &str) -> bool {
    (1..=4).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_digit())
        && (name == "0" || !name.starts_with('0'))
}

/// Objects are merged, anything else is replaced.
fn merge(place: &mut Value, value: Value) {
    match (place, value) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, value) in more {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
        (place, value) => *place = value,
    }
}

fn replace<E>(
    value: &mut Value,
    with: &impl Fn(&str) -> Result<Option<String>, E>,
) -> Result<(), E> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| replace(item, with)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| replace(field, with)),
        Value::String(text) => {
            if let Some(new) = with(text)? {
                *text = new;
            }
            Ok(())
        }
        Value::Bool(_) | Value::Null | Value::Number(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Value {
        let mut params = Params::default();
        pairs.iter().for_each(|(name, value)| params.put(name, json!(value)));
        Value::Object(params.0)
    }

    #[test]
    fn flat_names_make_objects() {
        assert_eq!(
            read(&[("filter:objectType", "F"), ("filter:a:b", "1"), ("x", "y")]),
            json!({"filter": {"objectType": "F", "a": {"b": "1"}}, "x": "y"})
        );
        assert_eq!(
            read(&[("a__null", ""), ("b:-", ""), ("c:d__null", "")]),
            json!({
                "a": null, "b": [], "c": {"d": null}
            })
        );
        assert_eq!(read(&[("a", "1"), ("a:b", "2")]), json!({"a": {"b": "2"}}));
        assert_eq!(read(&[("a:b", "2"), ("a", "1")]), json!({"a": "1"}));
        let deep = ["a"; 40].join(":");
        assert!(serde_json::to_string(&read(&[(&deep, "1")])).unwrap().matches('{').count() == 8);
    }

    #[test]
    fn scalars_are_texts() {
        let Value::Object(object) = json!({"n": 5, "t": "x", "b": true, "e": "", "z": null}) else {
            unreachable!()
        };
        let params = Params::of(object);
        let text = |name| params.text(name).map(Cow::into_owned);
        assert_eq!(text("n").as_deref(), Some("5"));
        assert_eq!(text("t").as_deref(), Some("x"));
        assert_eq!(text("b").as_deref(), Some("1"));
        assert_eq!((text("e"), text("z"), text("none")), (None, None, None));
        assert_eq!(params.given("e").as_deref(), Some(""));
    }

    #[test]
    fn items_come_in_the_order_of_their_numbers() {
        let Value::Object(object) = json!({"10": {"a": 3}, "9": {"a": 2}, "0:a": 1, "x": {"a": 0}, "1": "no", "007": {"a": 0}})
        else {
            unreachable!()
        };
        let items = Params::of(object).numbered(9);
        let all: Vec<_> = items.iter().map(|item| item.text("a").unwrap().into_owned()).collect();
        assert_eq!(all, ["1", "2", "3"]);
    }
}
