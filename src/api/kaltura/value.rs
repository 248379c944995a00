//! What an action answers, and what stands in its place when it fails.

use super::error::ApiError;

/// An answer, before a format is chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A flag: `true` in JSON, `1` in XML.
    Bool(bool),
    /// An error in place of an answer.
    Error(Box<ApiError>),
    /// An integer.
    Int(i64),
    /// A list.
    List(Vec<Self>),
    /// Nothing: left out of objects in JSON, an empty element in XML.
    Null,
    /// An object: its type, and its properties in order.
    Object(&'static str, Vec<(&'static str, Self)>),
    /// A text.
    Text(String),
}

impl Value {
    /// A text, or nothing when it is empty.
    pub(super) fn text(text: &str) -> Self {
        if text.is_empty() { Self::Null } else { Self::Text(text.to_owned()) }
    }

    /// A time in whole seconds since the epoch.
    pub(super) fn seconds(seconds: u64) -> Self {
        Self::Int(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// The id of a partner, which is a number.
    pub(super) fn partner(id: Option<&str>) -> Self {
        match id {
            None => Self::Null,
            Some(id) => id.parse().map_or_else(|_| Self::text(id), Self::Int),
        }
    }

    /// What is at a path of names of properties and places in lists, when it is a scalar.
    pub(super) fn at<'a>(&self, mut path: impl Iterator<Item = &'a str>) -> Option<String> {
        let Some(step) = path.next() else { return self.scalar() };
        match self {
            Self::List(items) => items.get(step.parse::<usize>().ok()?)?.at(path),
            Self::Object(kind, _) if step == "objectType" => {
                path.next().is_none().then(|| (*kind).to_owned())
            }
            Self::Object(_, all) => all.iter().find(|(name, _)| *name == step)?.1.at(path),
            _ => None,
        }
    }

    fn scalar(&self) -> Option<String> {
        match self {
            Self::Bool(flag) => Some(u8::from(*flag).to_string()),
            Self::Int(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::Null => Some(String::new()),
            Self::Error(_) | Self::List(_) | Self::Object(..) => None,
        }
    }
}
