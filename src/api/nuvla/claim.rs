//! Claims and groups between Nuvla's words and the core's.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::Body;
use super::refuse::Failure;
use crate::session::{GroupNode, Identity, NUVLA, group_claim, user_claim};

const WANTED: &str = "`claim` is the text group/<name> or user/<id>, and `extended` is a boolean";
/// Bound on a claim, in bytes.
const CLAIM: usize = 1 << 10;

/// What `switch-group` is told; further keys are left alone.
#[derive(Deserialize)]
pub(super) struct SwitchBody {
    /// `group/<name>` or `user/<id>`.
    pub(super) claim: String,
    /// Whether the sub-groups are claims as well.
    pub(super) extended: bool,
}

impl SwitchBody {
    pub(super) fn read(body: &Body) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Document {
            claim: String,
            extended: Option<bool>,
        }
        let wrong = || Failure::schema(WANTED);
        if body.is_empty() {
            return Err(wrong());
        }
        let (claim, extended) = if body.is_form() {
            let fields = body.fields()?;
            let extended = match fields.get("extended") {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err(wrong()),
            };
            (fields.get("claim").ok_or_else(wrong)?.to_owned(), extended)
        } else {
            let document: Document = body.json(WANTED)?;
            (document.claim, document.extended.unwrap_or(false))
        };
        if claim.is_empty() || claim.len() > CLAIM {
            return Err(wrong());
        }
        Ok(Self { claim, extended })
    }
}

/// The core's claim that a client means: itself by its id in Nuvla, or as it is.
pub(super) fn meant(own: &Identity, claim: &str) -> String {
    if claim == own.user_claim_in(NUVLA) {
        let is_claim = own.user.contains('/');
        return if is_claim { own.user.clone() } else { user_claim(&own.user) };
    }
    claim.to_owned()
}

/// The forest of groups, sorted by name.
pub(super) fn group_tree(forest: &[GroupNode]) -> Vec<Value> {
    let mut nodes: Vec<_> = forest.iter().collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    nodes.into_iter().map(node).collect()
}

fn node(group: &GroupNode) -> Value {
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(group_claim(&group.name)));
    body.insert("name".to_owned(), json!(group.name));
    if !group.description.is_empty() {
        body.insert("description".to_owned(), json!(group.description));
    }
    if !group.children.is_empty() {
        body.insert("children".to_owned(), Value::Array(group_tree(&group.children)));
    }
    Value::Object(body)
}
