//! Portcullis: a reverse-proxy authentication gateway.

pub mod admin;
pub mod api;
pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod directory;
pub mod headers;
pub mod ks;
pub mod listener;
pub mod log;
pub mod login;
pub mod metrics;
pub mod pages;
pub mod panics;
pub mod policy;
pub mod route;
pub mod secret;
pub mod section;
pub mod serve;
pub mod session;
pub mod store;
pub mod threads;
pub mod timer;
pub mod tls;
pub mod upstream;
