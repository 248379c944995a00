//! Requests and answers on a connection; see also `tests/it/raw/replies.rs`.

mod answers;
mod chunks;
mod heads;
mod requests;

use std::path::Path;
use std::rc::Rc;

use http::{HeaderValue, Request, Version};

use crate::headers::{Client, Extras, Forwarding, Hop, Rules, Stamped};
use crate::policy::{Decision, Facts, Rule};
use crate::section::{Problems, Section};

/// A request of somebody who is not signed in, to the host `app`.
fn stamped<B>(request: Request<B>) -> Stamped<B> {
    let problems = Problems::default();
    let rules = Rules::read(&mut Section::parse(Path::new("c.toml"), String::new(), &problems));
    let from = "192.0.2.1".parse().unwrap();
    let client = Client::find(from, request.headers(), &crate::headers::Trust::default());
    let facts = Facts { session: None, method: request.method().as_str(), ip: from };
    let Decision::Permit(permit) = Rule::Anyone.decide(&facts) else { unreachable!() };
    let host = HeaderValue::from_static("app");
    let forwarding = Forwarding::new(&client, client.value(), true, host, Version::HTTP_11);
    let id = HeaderValue::from_static("r1");
    let hop = Hop { forwarding: Rc::new(forwarding), id, websocket: false };
    let (parts, body) = request.into_parts();
    rules.stamp(&permit, Box::new(parts), body, hop, Extras::default()).unwrap()
}
