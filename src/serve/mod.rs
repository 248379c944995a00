//! Serving one client connection. It decides nothing about who may do what.

pub mod wire;
