//! The command line: what each command means is in its own file.

mod ask;
mod attack;
mod bans;
mod explain;
mod keys;
mod out;
mod sessions;
mod users;

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use self::out::say;
use super::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Users;
use crate::log::escape_deceptive;
use crate::panics;
use crate::secret::{Secret, hash_password, random};
use crate::section::Problem;
use crate::session::{Directory as _, GROUP, USER};
use crate::{directory, login, tls};

/// Something went wrong.
const FAILED: u8 = 1;
/// The command or the configuration is wrong (EX_USAGE of sysexits.h).
const USAGE: u8 = 64;

/// Reverse-proxy authentication gateway.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    file: File,
}

#[derive(Args, Clone, Debug)]
struct File {
    /// The configuration.
    #[arg(long, default_value = "config.toml", env = "PORTCULLIS_CONFIG", global = true)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try what attackers send on the rules of this configuration, and say which apps could be misled.
    Attack(attack::Attack),
    /// Who must wait after failed logins: of the running gateway, or of its store.
    #[command(subcommand)]
    Ban(bans::BanCommand),
    /// Serve (this is the default).
    Run(Run),
    /// Say everything that is wrong with the configuration, the users and the certificates.
    Check,
    /// Say which route and rule decide about a request, and why.
    Explain(explain::Question),
    /// Read a password from standard input, print its hash for users.toml.
    HashPassword,
    /// Groups in the users file.
    #[command(subcommand)]
    Group(users::GroupCommand),
    /// API keys and partner keys in the users file.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Partners in the users file.
    #[command(subcommand)]
    Partner(keys::PartnerCommand),
    /// Sessions of the running gateway, or of its store when none runs here.
    #[command(subcommand)]
    Session(sessions::SessionCommand),
    /// People in the users file.
    #[command(subcommand)]
    User(users::UserCommand),
}

/// How to serve.
#[derive(Args, Debug, Default)]
struct Run {
    /// The process that starts it and without which it ends: for gateways that a command needs for a while.
    #[arg(long, hide = true)]
    parent: Option<i32>,
}

/// Has the kernel kill this process when `parent`, which started it, ends by whatever cause.
fn end_with(parent: i32) -> std::io::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it was watched.
    match getppid().map(Pid::as_raw_pid) {
        Some(now) if now == parent => Ok(()),
        _ => Err(std::io::Error::other("the process that started this one has ended")),
    }
}

/// Why a command failed.
#[derive(Debug)]
struct Error {
    text: String,
    code: u8,
}

impl Error {
    fn new(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), code: FAILED }
    }

    fn usage(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), code: USAGE }
    }
}

impl From<Vec<Problem>> for Error {
    fn from(problems: Vec<Problem>) -> Self {
        Self::usage(Failure::Config(problems))
    }
}

/// Carries out a command line. Exit codes: 0, 1 failure, 64 usage or configuration; for `attack` 2 in the place
/// of both, and 1 for findings.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let file = cli.file.config;
    panics::hush();
    let done = match cli.command.unwrap_or(Command::Run(Run::default())) {
        Command::Attack(asked) => attack::attack(&file, asked),
        Command::Ban(command) => bans::ban(&file, &command),
        Command::Run(asked) => run(&file, &asked),
        Command::Check => check(&file),
        Command::Explain(question) => explain::explain(&file, &question),
        Command::HashPassword => hash(&file),
        Command::Group(command) => users::group(&file, command),
        Command::Key(command) => keys::key(&file, command),
        Command::Partner(command) => keys::partner(&file, command),
        Command::Session(command) => sessions::session(&file, &command),
        Command::User(command) => users::user(&file, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.text.is_empty() {
                eprintln!("{}", error.text);
            }
            ExitCode::from(error.code)
        }
    }
}

/// A value as one line of JSON, for terminals, too: what could deceive is in its texts, and escaped there.
fn json(value: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_string(value).map_err(Error::new)?;
    Ok(escape_deceptive(&json))
}

/// A value that is one word in JSON.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn run(file: &Path, asked: &Run) -> Result<(), Error> {
    if let Some(parent) = asked.parent {
        end_with(parent).map_err(Error::new)?;
    }
    super::run(file).map_err(|failure| match &failure {
        Failure::Config(_) => Error::usage(&failure),
        Failure::Start(_) => Error::new(&failure),
    })
}

/// Warns of names that do not mean whom somebody may think they do.
fn doubtful_names(config: &Config) -> Result<(), Error> {
    if !config.directory.file.exists() {
        return Ok(());
    }
    let (users, _) = Users::open(&config.directory, &config.login.costs()).map_err(Error::new)?;
    shadowed_names(&users)?;
    unknown_names(config, &users)
}

/// Warns of e-mail addresses that mean somebody else.
fn shadowed_names(users: &Users) -> Result<(), Error> {
    users.shadowed().iter().try_for_each(|warning| say(format!("warning: {warning}")))
}

/// Warns of users and groups whom rules name and the directory does not have: nobody passes by those.
fn unknown_names(config: &Config, users: &Users) -> Result<(), Error> {
    for (route, rule) in config.table.rules.iter().enumerate() {
        for name in rule.named() {
            let is_known = match (name.strip_prefix(USER), name.strip_prefix(GROUP)) {
                (Some(user), _) => users.by_login(user).or_else(|| users.by_id(user)).is_some(),
                (_, Some(group)) => users.group(group).is_some(),
                _ => true,
            };
            if !is_known {
                let file = config.directory.file.display();
                say(format!(
                    "warning: [[route]] number {} names {name}, which {file} does not have",
                    route + 1
                ))?;
            }
        }
    }
    Ok(())
}

fn check(file: &Path) -> Result<(), Error> {
    let failed = |problems: Vec<Problem>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let count = problems.len();
        Error::new(format!("{}\n{count} problem(s) in all", lines.join("\n")))
    };
    let config = Config::load(file).map_err(failed)?;
    let mut problems = directory::check(&config.directory);
    let now = Clock::system().now();
    match tls::Tls::check(&config.tls, &config.server.hosts, now) {
        Ok(warnings) => {
            warnings.iter().try_for_each(|warning| say(format!("warning: {warning}")))?
        }
        Err(more) => problems.extend(more),
    }
    if let Err(more) = super::build::upstreams_of(&config, &[]) {
        problems.extend(more);
    }
    problems.extend(config.store.check().err());
    if !problems.is_empty() {
        return Err(failed(problems));
    }
    doubtful_names(&config)?;
    say(format!("{} is sound", file.display()))
}

fn hash(file: &Path) -> Result<(), Error> {
    // Costs come from the configuration when there is one; without one the defaults are good.
    let costs = Config::load(file).map(|config| config.login.costs()).unwrap_or_default();
    let password = new_password()?;
    let hash = hash_password(&password, &costs).map_err(Error::new)?;
    say(hash.expose())?;
    Ok(())
}

/// Asks for a password twice on a terminal; reads one line otherwise. Judged, not yet hashed.
fn new_password() -> Result<Secret, Error> {
    let input = std::io::stdin();
    let password = if input.is_terminal() {
        let first = ask("Password: ")?;
        if ask("The same again: ")? != first {
            return Err(Error::new("the two passwords differ"));
        }
        first
    } else {
        let mut line = String::new();
        input.lock().read_line(&mut line).map_err(Error::new)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    login::check_new_password(&password).map_err(Error::new)?;
    Ok(Secret::new(password))
}

/// Reads a line without showing it.
fn ask(prompt: &str) -> Result<String, Error> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    let before = tcgetattr(&input).map_err(Error::new)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    tcsetattr(&input, OptionalActions::Flush, &hidden).map_err(Error::new)?;
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    tcsetattr(&input, OptionalActions::Flush, &before).map_err(Error::new)?;
    eprintln!();
    read.map_err(Error::new)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A random password in groups that are easy to read out.
fn generated_password() -> Result<Secret, Error> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789+";
    let bytes: [u8; 20] = random().map_err(Error::new)?;
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % 5 == 0 {
            text.push('-');
        }
        let letter = LETTERS.get(usize::from(byte % 32)).copied().unwrap_or(b'x');
        text.push(char::from(letter));
    }
    Ok(Secret::new(text))
}
