//! Three masters that share the slots, and moving slots between them.

use std::net::SocketAddr;

use super::super::process::{free_port, wait_for};
use super::{Server, Value};

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The whole set. Dropping it kills all of it.
#[derive(Debug)]
pub(crate) struct Cluster {
    servers: Vec<Server>,
    ids: Vec<String>,
}

impl Cluster {
    /// Starts three masters and waits until each finds the cluster whole.
    pub(crate) fn start() -> Self {
        // The address between the nodes; its default, the port + 10000, may be anybody's.
        let start = |_| {
            Server::builder()
                .config("cluster-enabled yes")
                .config("cluster-node-timeout 2000")
                .mode(&format!("cluster-port {}\n", free_port()))
        };
        let servers: Vec<Server> = (0..3).map(start).collect();
        let ids = servers.iter().map(|s| s.command(&["CLUSTER", "MYID"]).text().to_owned());
        let cluster = Self { ids: ids.collect(), servers };
        let count = u16::try_from(cluster.servers.len()).unwrap();
        for (number, server) in (0..).zip(&cluster.servers) {
            let bound = |number: u16| u32::from(SLOTS) * u32::from(number) / u32::from(count);
            let slots: Vec<String> =
                (bound(number)..bound(number + 1)).map(|slot| slot.to_string()).collect();
            let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"]
                .into_iter()
                .chain(slots.iter().map(String::as_str))
                .collect();
            server.command(&words);
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        let first = &cluster.servers[0];
        for other in &cluster.servers[1..] {
            let bus = other.command(&["CONFIG", "GET", "cluster-port"]).texts()[1].clone();
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus]);
        }
        cluster.wait_whole();
        cluster
    }

    /// Waits until every node knows all others and finds all slots served.
    pub(crate) fn wait_whole(&self) {
        for server in &self.servers {
            wait_for("the cluster to be whole", || {
                let info = server.command(&["CLUSTER", "INFO"]).text().to_owned();
                let said = |line: &str| info.lines().any(|have| have == line);
                let known = format!("cluster_known_nodes:{}", self.servers.len());
                (said("cluster_state:ok") && said(&known) && said("cluster_slots_ok:16384"))
                    .then_some(())
            });
        }
    }

    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Server::addr).collect()
    }

    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// kill -9 to one node.
    pub(crate) fn kill(&mut self, node: usize) {
        self.servers[node].kill();
    }

    /// Starts a node again with the data that it keeps on disk.
    pub(crate) fn restart(&mut self, node: usize) {
        self.servers[node].restart();
    }

    /// The slot of a key.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        u16::try_from(self.servers[0].command(&["CLUSTER", "KEYSLOT", key]).int()).unwrap()
    }

    /// The node that serves a slot.
    pub(crate) fn owner(&self, slot: u16) -> usize {
        let table = self.servers[0].command(&["CLUSTER", "SLOTS"]);
        let row = table.list().iter().find(|row| {
            let row = row.list();
            (row[0].int()..=row[1].int()).contains(&i64::from(slot))
        });
        let port = row.unwrap_or_else(|| panic!("nobody serves {slot}")).list()[2].list()[1].int();
        self.servers.iter().position(|server| i64::from(server.port()) == port).unwrap()
    }

    /// Begins to move a slot: from now on its old node sends clients on for keys that it has not.
    pub(crate) fn begin_move(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let slot = slot.to_string();
        self.servers[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]);
        self.servers[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]);
    }

    /// Moves the keys of a slot whose move has begun.
    pub(crate) fn move_keys(&self, slot: u16, to: usize) {
        let from = &self.servers[self.owner(slot)];
        let (slot, port) = (slot.to_string(), self.servers[to].port().to_string());
        loop {
            let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).texts();
            if keys.is_empty() {
                return;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            from.command(&words);
        }
    }

    /// Ends a move: tells everybody, the new node first.
    pub(crate) fn end_move(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let order =
            [to, from].into_iter().chain((0..self.servers.len()).filter(|&n| n != to && n != from));
        for node in order {
            let words = ["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.ids[to]];
            self.servers[node].command(&words);
        }
    }

    /// Moves a slot with its keys.
    pub(crate) fn move_slot(&self, slot: u16, to: usize) {
        self.begin_move(slot, to);
        self.move_keys(slot, to);
        self.end_move(slot, to);
    }

    /// The names of all keys of all nodes that match.
    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        self.servers.iter().flat_map(|server| server.keys(0, pattern)).collect()
    }

    /// Sends a command to every node.
    pub(crate) fn everywhere(&self, words: &[&str]) -> Vec<Value> {
        self.servers.iter().map(|server| server.command(words)).collect()
    }
}
