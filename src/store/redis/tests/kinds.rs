//! The suite over every kind of server.

use super::redis::Server;
use super::{open, prefix};
use crate::store::suite;

#[tokio::test]
async fn one_server_passes_the_suite() {
    let server = Server::start();
    let url = format!("url = \"{}\"\n", server.url(3));
    suite::run(|clock| async { open(&(url.clone() + &prefix()), clock) }).await;
}
