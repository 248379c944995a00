//! Portcullis: a reverse-proxy authentication gateway. Modules stand in the order of a request's way.

pub mod route;
pub mod serve;
