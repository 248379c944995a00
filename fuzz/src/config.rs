//! The configuration file: any text gives a configuration, or problems with a place and a remedy.

use std::path::Path;

use portcullis::config::Config;

/// Words of configurations.
pub const WORDS: &[&str] = &[
    "[server]\n",
    "[tls]\n",
    "[store]\n",
    "[session]\n",
    "[directory]\n",
    "[login]\n",
    "[log]\n",
    "[limits]\n",
    "[headers]\n",
    "[headers.templates]\n",
    "[api.browser]\n",
    "[[upstream]]\n",
    "[[route]]\n",
    "[[listener]]\n",
    "public_url = ",
    "listen = ",
    "url = ",
    "path = ",
    "allow = ",
    "{ groups = [\"a\"] }",
    "\"https://a.example\"",
    "\"127.0.0.1:0\"",
    "\"/\"",
    "\"anyone\"",
    "true",
    "-1",
    "9223372036854775808",
    "\"1h\"",
    "\"64KiB\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "\n",
    "\u{e9}",
    "1979-05-27",
    "0x1f",
    "nan",
    "x.y.z = 1\n",
    "host = \"*.a\"\n",
    "upstream = \"app\"\n",
];

/// Reads `data` as `config.toml`.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Secrets are read from files that the operator names: none is touched here.
    if ["file", "env"].iter().any(|word| text.contains(word)) {
        return;
    }
    match Config::parse(Path::new("config.toml"), text.to_owned()) {
        Ok(config) => {
            let _ = (config.trust(), config.hsts(), format!("{config:?}"));
            assert!(!config.listeners.listeners.is_empty(), "it would listen nowhere");
            assert!(!config.server.hosts.is_empty(), "it would answer to no name");
            assert!(config.table.ways.iter().all(|way| *way < config.upstreams.len()));
            assert!(config.server.public_url.starts_with("https://"));
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a word");
            let lines = text.split('\n').count();
            for problem in problems {
                assert!(problem.line <= lines, "{problem}: a file of {lines} lines");
                assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{problem}");
            }
        }
    }
}
