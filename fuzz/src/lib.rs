//! What must hold for every input of a parser that strangers reach: one module per fuzz target.
//!
//! Each `run` panics when its property is broken. Knows no fuzzing engine: libFuzzer, the smoke run
//! and a replay of one file call the same functions.

mod asked;
pub mod browser;
pub mod client;
pub mod config;
pub mod cookie;
mod core;
pub mod duration;
pub mod frames;
pub mod kaltura_params;
pub mod ks;
mod lines;
pub mod nuvla;
pub mod proxy;
pub mod record;
pub mod reply;
pub mod reply_h2;
pub mod request;
pub mod route;
pub mod stamp;
pub mod ticket;
pub mod token;
pub mod users;
pub mod versal;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the module, the binary and the corpus folder.
    pub name: &'static str,
    /// Panics when the property does not hold for the bytes.
    pub run: fn(&[u8]),
    /// Words that mutations are made of.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "browser", run: browser::run, words: browser::WORDS },
    Target { name: "client", run: client::run, words: client::WORDS },
    Target { name: "config", run: config::run, words: config::WORDS },
    Target { name: "cookie", run: cookie::run, words: cookie::WORDS },
    Target { name: "duration", run: duration::run, words: duration::WORDS },
    Target { name: "frames", run: frames::run, words: frames::WORDS },
    Target { name: "kaltura_params", run: kaltura_params::run, words: kaltura_params::WORDS },
    Target { name: "ks", run: ks::run, words: ks::WORDS },
    Target { name: "nuvla", run: nuvla::run, words: nuvla::WORDS },
    Target { name: "proxy", run: proxy::run, words: proxy::WORDS },
    Target { name: "record", run: record::run, words: record::WORDS },
    Target { name: "reply", run: reply::run, words: reply::WORDS },
    Target { name: "reply_h2", run: reply_h2::run, words: reply_h2::WORDS },
    Target { name: "request", run: request::run, words: request::WORDS },
    Target { name: "route", run: route::run, words: route::WORDS },
    Target { name: "stamp", run: stamp::run, words: stamp::WORDS },
    Target { name: "ticket", run: ticket::run, words: ticket::WORDS },
    Target { name: "token", run: token::run, words: token::WORDS },
    Target { name: "users", run: users::run, words: users::WORDS },
    Target { name: "versal", run: versal::run, words: versal::WORDS },
];

/// Makes the binary of a target: a libFuzzer target under `cargo fuzz`, otherwise a program that
/// replays the files it is given.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name::run(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for file in std::env::args_os().skip(1) {
                $crate::$name::run(&std::fs::read(&file)?);
                println!("{} holds", file.display());
            }
            Ok(())
        }
    };
}
