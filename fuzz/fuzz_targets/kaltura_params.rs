//! Fuzz target; see `src/kaltura_params.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(kaltura_params);
