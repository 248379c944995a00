//! Identity headers: which there are, and their values, rendered once per session.
//!
//! A header that is in the list is also removed from every client's request: there is no second list.

use std::sync::{Arc, OnceLock};

use http::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::nuvla::{self, AuthnInfo, Extras};
use super::stamped::lines;
use crate::section::{Section, closest};
use crate::session::{Identity, Live, NUVLA, Principal};

/// Bound on the bytes of all identity headers together: apps commonly refuse heads over 16 KiB.
const LIMIT: usize = 12 * 1024;

/// What must be coded so that any text is one plain ASCII value that decodes to itself.
const CODED: &AsciiSet = &CONTROLS.add(b'%');

/// The identity does not fit into its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity headers of this session take {bytes} bytes, more than {LIMIT}")]
pub struct Oversize {
    /// What they would take.
    pub bytes: usize,
}

/// A value that identity headers are made of.
#[derive(Debug)]
struct Field {
    /// Name in `[headers]` and in templates.
    key: &'static str,
    /// Default header name.
    header: &'static str,
    value: fn(&Identity) -> Option<String>,
}

/// Every field; adding one here also guards its default header name.
const FIELDS: &[Field] = &[
    Field { key: "user", header: "x-auth-user", value: |id| some(&id.user) },
    Field { key: "identifier", header: "x-auth-identifier", value: |id| some(&id.identifier) },
    Field { key: "name", header: "x-auth-name", value: |id| some(&id.name) },
    Field { key: "email", header: "x-auth-email", value: |id| some(&id.email) },
    Field { key: "groups", header: "x-auth-groups", value: |id| list(&id.groups) },
    Field { key: "roles", header: "x-auth-roles", value: |id| list(&id.roles) },
    Field { key: "active_claim", header: "x-auth-active-claim", value: |id| some(&id.claim) },
    Field { key: "session", header: "x-auth-session", value: |id| some(&id.session) },
    Field { key: "method", header: "x-auth-method", value: |id| some(&id.method) },
    Field { key: "actor", header: "x-auth-actor", value: |id| id.actor.as_deref().and_then(some) },
    Field {
        key: "tenant",
        header: "x-auth-tenant",
        value: |id| id.tenant.as_deref().and_then(some),
    },
    Field { key: "privileges", header: "x-auth-privileges", value: |id| list(&id.privileges) },
];

/// Names that are ours whatever is configured.
const RESERVED: [&str; 2] = [nuvla::NAME, "x-auth-assertion"];

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| coded(text, CODED))
}

/// The text coded, also the spaces at its ends: whoever reads a header drops them.
fn coded(text: &str, set: &'static AsciiSet) -> String {
    let inner = text.trim_matches(' ');
    let ends = text.len() - inner.len();
    let before = text.len() - text.trim_start_matches(' ').len();
    let space = |count: usize| "%20".repeat(count);
    match inner.is_empty() {
        true => space(ends),
        false => {
            format!("{}{}{}", space(before), utf8_percent_encode(inner, set), space(ends - before))
        }
    }
}

/// One word of a text whose words are told apart by spaces.
pub(super) fn word(text: &str) -> String {
    const WORD: &AsciiSet = &CODED.add(b' ');
    utf8_percent_encode(text, WORD).to_string()
}

fn list(items: &[String]) -> Option<String> {
    const ITEM: &AsciiSet = &CODED.add(b',');
    let coded: Vec<_> = items.iter().map(|item| coded(item, ITEM)).collect();
    (!coded.is_empty()).then(|| coded.join(","))
}

/// What Nuvla calls the user: `user/<stable id>` when it has no name of its own for them.
fn nuvla_id(identity: &Identity) -> Option<String> {
    if identity.user.is_empty() {
        return None;
    }
    some(&identity.user_claim_in(NUVLA))
}

/// The claim of the session's owner to be themselves.
fn owner(identity: &Identity) -> Option<String> {
    if identity.user.is_empty() {
        return None;
    }
    some(&Principal::of_record(&identity.user).to_string())
}

/// What Versal calls the user, if it knows them.
fn versal_id(identity: &Identity) -> Option<String> {
    identity.aliases.get("versal").and_then(|alias| some(alias))
}

/// What Kaltura calls the user: the login name when it has no name of its own for them.
fn kaltura_id(identity: &Identity) -> Option<String> {
    some(identity.aliases.get("kaltura").unwrap_or(&identity.identifier))
}

/// A piece of a template.
#[derive(Debug)]
enum Piece {
    Text(String),
    Claim,
    Words(fn(&Identity) -> &[String]),
    Field(fn(&Identity) -> Option<String>),
    Word(fn(&Identity) -> Option<String>),
}

#[derive(Debug)]
enum Source {
    Field(fn(&Identity) -> Option<String>),
    Template(Vec<Piece>),
}

impl Source {
    fn render(&self, identity: &Identity) -> Option<String> {
        let pieces = match self {
            Self::Field(value) => return value(identity),
            Self::Template(pieces) => pieces,
        };
        let (mut out, mut named, mut found) = (String::new(), false, false);
        for piece in pieces {
            let value = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Claim => owner(identity)?.replace(' ', "%20"),
                Piece::Words(items) => {
                    let words: Vec<_> = items(identity).iter().map(|item| word(item)).collect();
                    words.join(" ")
                }
                Piece::Field(value) => value(identity).unwrap_or_default(),
                // One word stays one: nobody's id may look like a claim that follows it.
                Piece::Word(value) => value(identity).unwrap_or_default().replace(' ', "%20"),
            };
            (named, found) = (true, found || !value.is_empty());
            out.push_str(&value);
        }
        // Nothing of what it names is known: apps may take the rest of it for a name.
        (found || !named).then_some(out)
    }
}

/// The identity headers of a configuration.
#[derive(Debug)]
pub struct IdentityHeaders {
    headers: Vec<(HeaderName, Source)>,
    /// Tells this configuration from every other: what was rendered for another is not used.
    mark: Arc<()>,
}

/// The headers of one session, ready for its requests.
#[derive(Debug)]
pub(super) struct Rendered {
    mark: Arc<()>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The same as lines of HTTP/1.1.
    pub(super) lines: Vec<u8>,
    /// Made when the first app asks for it; `None` when a template makes that header.
    pub(super) nuvla: OnceLock<Option<AuthnInfo>>,
}

impl Rendered {
    fn authn_info(&self, identity: &Identity) -> Option<&AuthnInfo> {
        let templated = || self.headers.iter().any(|(name, _)| name == nuvla::NAME);
        let render = || if templated() { None } else { AuthnInfo::render(identity) };
        self.nuvla.get_or_init(render).as_ref()
    }
}

impl IdentityHeaders {
    /// Reads `[headers]`: a name per field (`""` switches it off) and `[headers.templates]`.
    pub fn read(section: &mut Section) -> Self {
        let mut headers = Vec::new();
        for field in FIELDS {
            let name = match section.text(field.key) {
                None => HeaderName::from_static(field.header),
                Some(text) if text.value.is_empty() => continue,
                Some(text) => match header_name(&text.value) {
                    Ok(name) => name,
                    Err(what) => {
                        section.problem_at(&text, what, NAME_REMEDY);
                        continue;
                    }
                },
            };
            headers.push((name, Source::Field(field.value)));
        }
        let mut templates = section.table("templates");
        for (name, text) in templates.pairs() {
            match (header_name(&name.value), template(&text)) {
                (Ok(header), Ok(pieces)) => headers.push((header, Source::Template(pieces))),
                (Err(what), _) => templates.problem_at(&name, what, NAME_REMEDY),
                (_, Err((what, remedy))) => templates.problem_at(&name, what, remedy),
            }
        }
        let mut seen = Vec::new();
        for (name, _) in &headers {
            if seen.contains(&name) {
                let what = format!("the header {name} is made twice");
                section.problem("templates", what, "give each identity header its own name");
            }
            seen.push(name);
        }
        Self { headers, mark: Arc::default() }
    }

    /// Every name that no client may send.
    pub(super) fn guarded(&self) -> Vec<String> {
        let configured = self.headers.iter().map(|(name, _)| name.as_str());
        let defaults = FIELDS.iter().map(|field| field.header);
        let mut names: Vec<_> =
            configured.chain(defaults).chain(RESERVED).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// The headers of `live`, rendered once for as long as the session does not change.
    pub(super) fn rendered(&self, live: &Live, extras: Extras) -> Result<Arc<Rendered>, Oversize> {
        let kept = live.rendering(|identity| Arc::new(self.render(identity)));
        let rendered = match kept.filter(|kept| Arc::ptr_eq(&kept.mark, &self.mark)) {
            Some(kept) => Arc::clone(kept),
            // A reload is under way: the session's entry is replaced within a second or two.
            None => Arc::new(self.render(live.identity())),
        };
        let mut bytes = rendered.lines.len();
        if extras.nuvla_authn_info {
            bytes += rendered.authn_info(live.identity()).map_or(0, |info| info.line.len());
        }
        if bytes > LIMIT { Err(Oversize { bytes }) } else { Ok(rendered) }
    }

    /// The headers of an identity.
    #[cfg(test)]
    pub(super) fn fields(&self, identity: &Identity) -> Vec<(HeaderName, HeaderValue)> {
        self.render(identity).headers
    }

    fn render(&self, identity: &Identity) -> Rendered {
        let headers: Vec<_> = self
            .headers
            .iter()
            .filter_map(|(name, source)| {
                let value = source.render(identity)?;
                Some((name.clone(), HeaderValue::from_str(&value).ok()?))
            })
            .collect();
        let lines = lines(&headers);
        Rendered { mark: Arc::clone(&self.mark), headers, lines, nuvla: OnceLock::new() }
    }
}

const NAME_REMEDY: &str = "use letters, digits and `-`, such as \"X-Auth-User\"";

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("\"{text}\" is not a header name"))?;
    if !super::is_plain(name.as_str()) {
        return Err(format!("\"{text}\" has characters that are dropped from every request"));
    }
    let framing = ["host", "cookie", "content-length", "connection", "transfer-encoding", "te"];
    let own = matches!(name.as_str(), "remote-user" | "x-remote-user");
    if framing.contains(&name.as_str()) || super::forwarded::is_class(name.as_str()) && !own {
        return Err(format!("\"{text}\" has another meaning and cannot carry identity"));
    }
    Ok(name)
}

fn template(text: &str) -> Result<Vec<Piece>, (String, String)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((key, after)) = tail.split_once('}') else {
            return Err((format!("`{{` without `}}` in \"{text}\""), "close it".to_owned()));
        };
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(piece(key)?);
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        let what = format!("the template {text:?} is not plain ASCII");
        return Err((what, "use plain ASCII text around the fields".to_owned()));
    }
    Ok(pieces)
}

fn piece(key: &str) -> Result<Piece, (String, String)> {
    match key {
        // A name with spaces must not look like two claims.
        "active_claim" => return Ok(Piece::Word(|id| some(&id.claim))),
        "user_claim" => return Ok(Piece::Claim),
        "groups" => return Ok(Piece::Words(|id| &id.groups)),
        "roles" => return Ok(Piece::Words(|id| &id.roles)),
        "nuvla_id" => return Ok(Piece::Word(nuvla_id)),
        "versal_id" => return Ok(Piece::Word(versal_id)),
        "kaltura_id" => return Ok(Piece::Word(kaltura_id)),
        _ => {}
    }
    if let Some(field) = FIELDS.iter().find(|field| field.key == key) {
        // A name is for people, and has spaces.
        let make = if field.key == "name" { Piece::Field } else { Piece::Word };
        return Ok(make(field.value));
    }
    let mut known: Vec<_> = FIELDS.iter().map(|field| field.key).collect();
    known.extend(["kaltura_id", "nuvla_id", "user_claim", "versal_id"]);
    let remedy = match closest(key, &known) {
        Some(near) => format!("did you mean {{{near}}}?"),
        None => format!("known fields: {}", known.join(", ")),
    };
    Err((format!("unknown field {{{key}}} in a header template"), remedy))
}
