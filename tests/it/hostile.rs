//! The hostile corpus: requests and answers of attackers, from files and from generators, judged by what they
//! do and not by a status. What reaches the application is what a strict reader reads, and nothing beyond it;
//! who it is said to come from is who holds the session; and what is odd but right gets through.

mod answers;
mod corpus;
mod h2;
mod judge;
mod mutations;
mod paths;
#[path = "../../src/app/attack/readings.rs"]
mod readings;
mod replies;
mod stand;
mod strict;
#[path = "../../src/app/attack/targets.rs"]
mod targets;

use judge::Fault;
use stand::Stand;

use crate::support::process::is_thorough;

/// What came of many cases.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    faults: Vec<(String, Vec<u8>, Fault)>,
}

impl Tally {
    fn add(&mut self, name: &str, bytes: &[u8], faults: Vec<Fault>) {
        self.cases += 1;
        let faults = faults.into_iter().map(|fault| (name.to_owned(), bytes.to_vec(), fault));
        self.faults.extend(faults);
    }

    fn count(&self, of: impl Fn(&Fault) -> bool) -> usize {
        self.faults.iter().filter(|(_, _, fault)| of(fault)).count()
    }

    /// Prints the figures, and fails the test with the first faults when there are any.
    #[track_caller]
    fn report(self, subject: &str) {
        println!(
            "hostile {subject}: cases {}, unsafe {}, false refusals {}, wrong identities {}, hangs {}",
            self.cases,
            self.count(|fault| matches!(fault, Fault::Unsafe(_))),
            self.count(|fault| matches!(fault, Fault::FalseRefusal(_))),
            self.count(|fault| matches!(fault, Fault::Identity(_))),
            self.count(|fault| matches!(fault, Fault::Hangs(_))),
        );
        let shown: Vec<String> = self
            .faults
            .iter()
            .take(40)
            .map(|(name, bytes, fault)| format!("{name}: {fault:?}\n    {}", bytes.escape_ascii()))
            .collect();
        assert!(self.faults.is_empty(), "{} faults\n{}", self.faults.len(), shown.join("\n"));
    }
}

macro_rules! corpus {
    ($($test:ident: $file:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let cases = corpus::cases(include_str!(concat!("../hostile/", $file, ".toml")));
            let slow: Vec<_> = cases.iter().cloned().map(corpus::Case::slow).collect();
            Stand::start().await.attack([cases, slow].concat()).await.report($file);
        }
    )*};
}

corpus! {
    framing_is_read_as_a_strict_reader_reads_it: "framing";
    benign_requests_pass: "benign";
    hosts_are_one: "hosts";
    headers_say_only_what_is_true: "headers";
    cookies_are_ours_or_nobodys: "cookies";
    connections_are_not_turned_into_something_else: "upgrades";
    limits_hold: "limits";
}
