//! Portcullis: a reverse-proxy authentication gateway.

pub mod admin;
pub mod audit;
pub mod clock;
pub mod log;
pub mod metrics;
pub mod secret;
pub mod section;
pub mod session;
