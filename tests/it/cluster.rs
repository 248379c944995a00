//! Two nodes over one Redis: what holds on one holds on the other, at once or within a second.

mod claims;
mod guesses;
mod partition;
mod revocation;
mod sessions;
