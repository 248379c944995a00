//! One connection and its requests: route, session, policy, headers, upstream.
//!
//! The wiring of a request; each step's rules are in its own module.

mod answer;
mod body;
mod carrier;
mod caught;
mod connection;
mod cookie;
mod date;
mod exchange;
mod forward;
pub mod frames;
mod host;
pub mod http1;
mod http2;
mod interim;
mod mount;
mod own;
mod pipeline;
mod redact;
mod redirect;
mod site;
mod size;
mod stop;
mod tunnel;
mod upload;
mod whoami;
mod worker;

pub use self::connection::{Arrival, serve};
pub use self::cookie::CookieName;
pub use self::mount::{Mount, sort_mounts};
pub use self::redirect::redirect;
pub use self::site::{Limits, Site, Table};
pub use self::worker::{Parts, Worker};
