//! The integration tests: one binary that starts the real gateway and talks to it over sockets.
//! It must not reach into the library for anything that a user could not see from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::large_futures,
    reason = "in a test a panic is the report"
)]

mod abuse;
mod apps;
mod attack;
mod browser;
mod certificates;
mod cli;
mod cluster;
mod dialects;
mod drain;
mod durability;
mod faults;
mod floods;
mod flow;
mod h2apps;
mod h2spec;
mod hostile;
mod kaltura;
mod keys;
mod layering;
mod nuvla;
mod openapi;
mod operator;
mod outages;
mod promises;
mod raw;
mod slow;
mod storms;
mod streams;
mod support;
mod tickets;
mod upstreams;
mod versal;
