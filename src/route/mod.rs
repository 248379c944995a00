//! From a request target to a route. It knows no session and no upstream connection.

pub mod target;
