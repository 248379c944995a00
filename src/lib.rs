//! Portcullis: a reverse-proxy authentication gateway.

pub mod audit;
pub mod clock;
pub mod directory;
pub mod login;
pub mod secret;
pub mod section;
pub mod session;
