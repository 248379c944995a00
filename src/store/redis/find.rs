//! Where the master is: at a fixed place, or where the sentinels say.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connect::{Dialer, Server};
use super::error::Failure;

/// Limit on asking one sentinel.
const ASK: Duration = Duration::from_millis(250);
/// How often the sentinels are asked whether the master is still the same.
const WATCH: Duration = Duration::from_secs(1);

/// Tells where to connect.
#[derive(Clone, Debug)]
pub(super) enum Finder {
    Fixed(Server),
    Sentinels(Arc<Sentinels>),
}

/// The sentinels of one master.
#[derive(Debug)]
pub(super) struct Sentinels {
    pub(super) master: String,
    pub(super) servers: Vec<Server>,
    pub(super) dialer: Dialer,
}

impl Finder {
    pub(super) async fn find(&self) -> Result<Server, Failure> {
        match self {
            Self::Fixed(server) => Ok(server.clone()),
            Self::Sentinels(sentinels) => sentinels.find().await,
        }
    }

    /// Ready once the master is known to be elsewhere than at `server`.
    pub(super) async fn elsewhere(&self, server: &Server) {
        let Self::Sentinels(sentinels) = self else { return std::future::pending().await };
        loop {
            sleep(WATCH).await;
            let answers = sentinels.ask_all().await;
            let others = answers.iter().filter(|named| *named != server).count();
            // One that was away for a while may name a former master.
            if others * 2 > answers.len() {
                return;
            }
        }
    }
}

impl Sentinels {
    /// The server that most of those who answer take for the master.
    async fn find(self: &Arc<Self>) -> Result<Server, Failure> {
        let answers = self.ask_all().await;
        let count = |one: &Server| answers.iter().filter(|other| *other == one).count();
        let named = answers.iter().max_by_key(|server| count(server)).cloned();
        named.ok_or(Failure::Down("no sentinel names a master"))
    }

    async fn ask_all(self: &Arc<Self>) -> Vec<Server> {
        let mut asked = JoinSet::new();
        for server in self.servers.clone() {
            let all = Arc::clone(self);
            asked.spawn(async move { timeout(ASK, all.ask(&server)).await.ok().flatten() });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    async fn ask(&self, sentinel: &Server) -> Option<Server> {
        let (mut connection, driver) = self.dialer.dial(sentinel, None).await.ok()?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        // The connection lasts for one question: its driver needs no task.
        let answer = tokio::select! {
            answer = question.query_async::<Option<(String, u16)>>(&mut connection) => answer,
            () = driver => return None,
        };
        match answer {
            Ok(named) => named.map(|(host, port)| Server::Tcp(host, port)),
            Err(error) => {
                tracing::debug!(%error, %sentinel, "a sentinel does not tell");
                None
            }
        }
    }
}
