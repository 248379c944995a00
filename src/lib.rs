//! Portcullis: a reverse-proxy authentication gateway.

pub mod audit;
pub mod clock;
pub mod secret;
pub mod section;
pub mod session;
pub mod store;
