//! Python, Node and Chromium: programs from `tests/apps` and `tests/browser`, with time limits.
//! `tests/run.sh` installs them and says where they are.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Finished, Proc, free_port};

/// The target folder of this build.
fn target() -> &'static Path {
    let program = Path::new(env!("CARGO_BIN_EXE_portcullis"));
    program.parent().and_then(Path::parent).unwrap()
}

/// The path in the variable, or where `tests/run.sh` puts it in this build's target folder.
fn tool(variable: &str, fallback: &str) -> PathBuf {
    let path = env::var_os(variable)
        .map_or_else(|| target().join("test-env").join(fallback), PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: run `tests/run.sh --setup` (or set {variable})",
        path.display()
    );
    path
}

pub(crate) fn python() -> PathBuf {
    tool("PORTCULLIS_TEST_PYTHON", "python/bin/python")
}

pub(crate) fn node() -> PathBuf {
    tool("PORTCULLIS_TEST_NODE", "/usr/bin/node")
}

pub(crate) fn node_modules() -> PathBuf {
    tool("PORTCULLIS_TEST_NODE_MODULES", "node/node_modules")
}

pub(crate) fn client_modules() -> PathBuf {
    tool("PORTCULLIS_TEST_CLIENT_MODULES", "clients/node_modules")
}

pub(crate) fn chromium() -> PathBuf {
    tool("PORTCULLIS_TEST_CHROMIUM", "/usr/bin/chromium")
}

fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder)
}

fn python_command() -> Command {
    let mut command = Command::new(python());
    command.current_dir(source("apps"));
    command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs `tests/apps/SCRIPT ARGS` to its end.
pub(crate) fn run_python(script: &str, args: &[&str], limit: Duration) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let mut command = python_command();
    command.arg(script).args(args);
    Proc::start(script, dir.path(), command).finish(limit)
}

/// Holds `docs/api/openapi.yaml` against the gateway at `origin`, as `tests/openapi` says. The whole
/// report outlives the run, in `test-artifacts` of the target folder.
pub(crate) fn run_schemathesis(origin: &str, env: &[(&str, &str)], limit: Duration) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = target().join("test-artifacts");
    fs::create_dir_all(&artifacts).unwrap();
    let mut command = Command::new(python().with_file_name("schemathesis"));
    command
        .current_dir(dir.path())
        .env("PYTHONPATH", source("openapi"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .envs(env.iter().copied())
        .arg("--config-file")
        .arg(source("openapi").join("schemathesis.toml"))
        .arg("run")
        .arg(source("../docs/api/openapi.yaml"))
        .args(["--url", origin, "--no-color", "--report-junit-path"])
        .arg(artifacts.join("openapi.xml"));
    Proc::start("schemathesis", dir.path(), command).finish(limit)
}

/// Runs `tests/browser/SCRIPT ARGS` to its end. The script finds the browser and its library by
/// the environment; its screenshots of failures outlive the run, in `test-artifacts` of the target
/// folder.
pub(crate) fn run_browser(script: &str, args: &[&str], limit: Duration) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = target().join("test-artifacts");
    fs::create_dir_all(&artifacts).unwrap();
    let mut command = Command::new(node());
    command
        .current_dir(source("browser"))
        .env("PORTCULLIS_TEST_NODE_MODULES", node_modules())
        .env("PORTCULLIS_TEST_CHROMIUM", chromium())
        .env("PORTCULLIS_TEST_ARTIFACTS", artifacts)
        .env("HOME", dir.path())
        .arg(script)
        .args(args);
    Proc::start(script, dir.path(), command).finish(limit)
}

/// A driver of a client library, `tests/clients/SCRIPT`, that trusts `authority` (a PEM file).
pub(crate) fn client_command(script: &str, authority: &Path, home: &Path) -> Command {
    let by_python = Path::new(script).extension().is_some_and(|kind| kind == "py");
    let mut command = Command::new(if by_python { python() } else { node() });
    command
        .current_dir(source("clients"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("REQUESTS_CA_BUNDLE", authority)
        .env("NODE_EXTRA_CA_CERTS", authority)
        .env("PORTCULLIS_TEST_CLIENT_MODULES", client_modules())
        .env("HOME", home)
        .arg(script);
    command
}

/// A real application on a port of its own. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct App {
    // Before `_dir`: the process must be gone before its folder is removed.
    proc: Proc,
    addr: SocketAddr,
    _dir: TempDir,
}

impl App {
    /// Starts `tests/apps/SCRIPT PORT` and waits until it listens.
    pub(crate) fn python(script: &str) -> Self {
        Self::start(script, |command, port| {
            command.arg(script).arg(port.to_string());
        })
    }

    /// gunicorn with `tests/apps/MODULE.py`, reading header names as plain WSGI servers do: `_`
    /// and `-` are one character.
    pub(crate) fn wsgi(module: &str) -> Self {
        Self::start(module, |command, port| {
            command.args(["-m", "gunicorn", "--header-map", "dangerous", "--workers", "1"]);
            command.args(["--threads", "4", "--no-control-socket", "--bind"]);
            command.arg(format!("127.0.0.1:{port}")).arg(format!("{module}:app"));
        })
    }

    fn start(name: &str, arguments: impl FnOnce(&mut Command, u16)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = python_command();
        arguments(&mut command, port);
        let mut proc = Proc::start(name, dir.path(), command);
        proc.wait_listening(addr);
        Self { proc, addr, _dir: dir }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the application has printed.
    pub(crate) fn output(&self) -> String {
        self.proc.stdout()
    }
}
