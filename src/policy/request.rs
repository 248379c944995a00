//! Conditions on the request: method and source network.

use ipnet::IpNet;

use super::{Condition, Facts, either};
use crate::section::Section;
use crate::session::Identity;

/// `methods`: request methods.
pub(super) fn methods(table: &mut Section) -> Option<Box<dyn Condition>> {
    let mut list = Vec::new();
    for method in table.texts("methods") {
        if method.value.is_empty() || !method.value.bytes().all(|byte| byte.is_ascii_uppercase()) {
            table.problem_at(
                &method,
                format!("\"{}\" is not a method", method.value),
                "write it in capitals, such as \"GET\"",
            );
        }
        list.push(method.value);
    }
    (!list.is_empty()).then(|| Box::new(Methods(list)) as Box<dyn Condition>)
}

/// `networks`: where the client is, after trusted proxies.
pub(super) fn networks(table: &mut Section) -> Option<Box<dyn Condition>> {
    let list: Vec<IpNet> = table
        .parsed_list("networks", "10.0.0.0/8")
        .into_iter()
        .map(|network| network.value)
        .collect();
    (!list.is_empty()).then(|| Box::new(Networks(list)) as Box<dyn Condition>)
}

#[derive(Debug)]
struct Methods(Vec<String>);

impl Condition for Methods {
    fn holds(&self, _: &Identity, facts: &Facts<'_>) -> bool {
        // HEAD is GET without the body, as it is for routes.
        let head = facts.method == "HEAD";
        self.0.iter().any(|method| method == facts.method || head && method == "GET")
    }

    fn looks_at_method(&self) -> bool {
        true
    }

    fn wants(&self) -> String {
        format!("use {}", either(&self.0))
    }
}

#[derive(Debug)]
struct Networks(Vec<IpNet>);

impl Condition for Networks {
    fn holds(&self, _: &Identity, facts: &Facts<'_>) -> bool {
        let ip = facts.ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    fn wants(&self) -> String {
        format!("come from the network {}", either(&self.0))
    }
}
