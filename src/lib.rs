//! Portcullis.
pub mod pages;
