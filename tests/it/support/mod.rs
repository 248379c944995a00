//! What the tests are built from: gateway, upstream, clients, real applications.
//! Nothing here judges an answer; that is what the tests do.
#![allow(dead_code, reason = "a tool box: some tools wait for their test")]

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod gateway;
pub(crate) mod h2raw;
pub(crate) mod html;
pub(crate) mod load;
pub(crate) mod open;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod rest;
mod selftest;
pub(crate) mod site;
pub(crate) mod source;
pub(crate) mod tls;
pub(crate) mod tools;
pub(crate) mod upstream;
pub(crate) mod wire;
pub(crate) mod world;

pub(crate) use client::Client;
pub(crate) use gateway::Gateway;
pub(crate) use proxy::Proxy;
pub(crate) use raw::Raw;
pub(crate) use site::Site;
pub(crate) use upstream::{Reply, Upstream};
pub(crate) use wire::Response;
