//! The OpenAPI file against a running gateway: schemathesis sends what the file allows and what it
//! forbids, and holds every answer against it.

use std::time::Duration;

use crate::support::gateway::password;
use crate::support::tools::run_schemathesis;
use crate::support::{Gateway, Upstream};

/// What a run may take, on a machine that has other work.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn the_gateway_does_what_its_openapi_file_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .set("server", "trusted_proxies", "[\"127.0.0.1/32\"]")
        .set("session", "per_user", "10")
        .block("[api.nuvla]")
        .upstream("app", upstream.addr())
        .private("/", "app")
        .start();
    let secret = password("alice");
    let certificate = gateway.certificate();
    let env = [
        ("PORTCULLIS_ORIGIN", gateway.origin()),
        ("PORTCULLIS_PASSWORD", &secret),
        ("REQUESTS_CA_BUNDLE", certificate.to_str().unwrap()),
    ];
    // It exits with 1 when an answer is not what the file says.
    run_schemathesis(gateway.origin(), &env, LIMIT).success();
}
