//! Portcullis: a reverse-proxy authentication gateway.

pub mod api;
pub mod audit;
pub mod clock;
pub mod headers;
pub mod pages;
pub mod policy;
pub mod secret;
pub mod section;
pub mod session;
pub mod timer;
pub mod upstream;
