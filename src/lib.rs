//! x
pub mod clock;
pub mod secret;
pub mod section;
