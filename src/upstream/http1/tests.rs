//! Requests and answers on a connection; see also `tests/it/raw/replies.rs`.

mod requests;
