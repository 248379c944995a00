//! What an app may answer and how it is read; see also `tests/it/raw/replies.rs`.
