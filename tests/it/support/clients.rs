//! The client libraries that people use, unmodified: each in a process of its own that runs a driver
//! from `tests/clients` and is told what to do, one step at a time.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Gateway;
use super::process::{PATIENCE, Proc};
use super::tools::client_command;

/// What a library raised: its type, its text, and what else the driver tells of it.
pub(crate) type Raised = Value;

/// A running driver. Dropping it kills it.
pub(crate) struct Driver {
    // Before `_home`: the process must be gone before its folder is removed.
    proc: Proc,
    input: ChildStdin,
    answers: Receiver<String>,
    _home: TempDir,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("proc", &self.proc).finish_non_exhaustive()
    }
}

impl Driver {
    /// Starts `tests/clients/SCRIPT`, which is to trust the certificates in `authority`.
    fn start(script: &str, authority: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        let command = client_command(script, authority, home.path());
        let (proc, input, output) = Proc::talking(script, home.path(), command);
        let (tell, answers) = channel();
        // A thread, so that waiting for a line has an end.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { proc, input, answers, _home: home }
    }

    /// Has the driver do a step, and gives what the library returned or raised.
    pub(crate) fn step(&mut self, name: &str, args: &Value) -> Result<Value, Raised> {
        let asked = json!({ "do": name, "args": args }).to_string();
        writeln!(self.input, "{asked}").unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}", self.proc.report());
        });
        let line = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            panic!("{name}: {error}\n{}", self.proc.report());
        });
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["ok"].take()),
        }
    }

    /// As [`Self::step`]; fails the test when the library raised something.
    #[track_caller]
    pub(crate) fn done(&mut self, name: &str, args: &Value) -> Value {
        self.step(name, args).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// PyPI's `nuvla-api`.
#[derive(Debug)]
pub(crate) struct NuvlaClient(Driver);

impl NuvlaClient {
    /// A client of the gateway, whose API is at `/api`.
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self::with(gateway, &json!({}))
    }

    /// With options of the library, such as `compress` and `reauthenticate`.
    pub(crate) fn with(gateway: &Gateway, options: &Value) -> Self {
        Self::at(gateway.origin(), &gateway.certificate(), options)
    }

    pub(crate) fn at(origin: &str, authority: &Path, options: &Value) -> Self {
        let mut driver = Driver::start("nuvla_client.py", authority);
        driver.done("open", &json!([origin, options]));
        Self(driver)
    }

    /// `login_password`: status, headers and body of the answer.
    pub(crate) fn login_password(&mut self, name: &str, password: &str) -> Value {
        self.0.done("login_password", &json!([name, password]))
    }

    pub(crate) fn login_apikey(&mut self, key: &str, secret: &str) -> Value {
        self.0.done("login_apikey", &json!([key, secret]))
    }

    /// `session/<uuid>`, or `None`.
    pub(crate) fn current_session(&mut self) -> Option<String> {
        self.0.done("current_session", &json!([])).as_str().map(str::to_owned)
    }

    pub(crate) fn logout(&mut self) {
        self.0.done("logout", &json!([]));
    }

    /// `search`: `count`, `ids` and `data`.
    pub(crate) fn search(&mut self, kind: &str, more: &Value) -> Result<Value, Raised> {
        self.0.step("search", &json!([kind, more]))
    }

    pub(crate) fn get(&mut self, resource: &str) -> Result<Value, Raised> {
        self.0.step("get", &json!([resource]))
    }

    pub(crate) fn operation(
        &mut self,
        resource: &str,
        name: &str,
        data: &Value,
    ) -> Result<Value, Raised> {
        self.0.step("operation", &json!([resource, name, data]))
    }

    /// Any request with the library's cookies, for the app behind: status, headers and body.
    pub(crate) fn request(&mut self, method: &str, path: &str) -> Value {
        self.0.done("request", &json!([method, path]))
    }

    /// Names and values of the cookies that it keeps.
    pub(crate) fn cookies(&mut self) -> Value {
        self.0.done("cookies", &json!([]))
    }

    /// Any step of the driver.
    pub(crate) fn driver(&mut self) -> &mut Driver {
        &mut self.0
    }
}

/// A client library of Kaltura. Arguments of calls are the library's own, in its order; null leaves
/// one to the library.
#[derive(Debug)]
pub(crate) struct KalturaClient(Driver);

impl KalturaClient {
    /// PyPI's `KalturaApiClient`, which speaks XML, as a client of the gateway at `/api_v3`.
    pub(crate) fn python(gateway: &Gateway) -> Self {
        Self::python_at(gateway.origin(), &gateway.certificate())
    }

    pub(crate) fn python_at(origin: &str, authority: &Path) -> Self {
        Self::opened("kaltura_client.py", origin, authority)
    }

    /// npm's `kaltura-client`, which speaks JSON.
    pub(crate) fn node(gateway: &Gateway) -> Self {
        Self::node_at(gateway.origin(), &gateway.certificate())
    }

    pub(crate) fn node_at(origin: &str, authority: &Path) -> Self {
        Self::opened("kaltura_client.cjs", origin, authority)
    }

    fn opened(script: &str, origin: &str, authority: &Path) -> Self {
        let mut driver = Driver::start(script, authority);
        driver.done("open", &json!([origin]));
        Self(driver)
    }

    /// The session of all calls to come.
    pub(crate) fn set_ks(&mut self, ks: &str) {
        self.0.done("ks", &json!([ks]));
    }

    /// `SERVICE.ACTION(ARGS)`; an error of the API has `code` and `message`.
    pub(crate) fn call(
        &mut self,
        service: &str,
        action: &str,
        args: &[Value],
    ) -> Result<Value, Raised> {
        let all = [&[json!(service), json!(action)], args].concat();
        self.0.step("call", &json!(all))
    }

    /// As [`Self::call`], for actions that answer with a text; fails the test when there is none.
    #[track_caller]
    pub(crate) fn text(&mut self, service: &str, action: &str, args: &[Value]) -> String {
        let told = self.call(service, action, args);
        let told = told.unwrap_or_else(|error| panic!("{service}.{action}: {error}"));
        told.as_str().unwrap_or_else(|| panic!("{service}.{action}: {told}")).to_owned()
    }

    /// Several calls in one request, each `[SERVICE, ACTION, ARGS..]`; `{"ref": "1:result"}` stands
    /// for an earlier result.
    pub(crate) fn multi(&mut self, calls: &Value) -> Result<Value, Raised> {
        self.0.step("multi", &json!([calls]))
    }

    /// A session (version 2) that the client makes alone, from an admin secret. Python only, as are
    /// the further steps of [`Self::driver`].
    pub(crate) fn sealed(
        &mut self,
        (partner, secret): (u32, &str),
        (user, kind): (&str, u8),
        seconds: i64,
        privileges: &str,
    ) -> String {
        let args = json!([secret, user, kind, partner, seconds, privileges]);
        self.0.done("seal", &args).as_str().unwrap().to_owned()
    }

    /// Any step of the driver.
    pub(crate) fn driver(&mut self) -> &mut Driver {
        &mut self.0
    }
}

/// npm's `versal-sdk`: its modules that talk to the API.
#[derive(Debug)]
pub(crate) struct VersalSdk {
    driver: Driver,
    api: String,
}

impl VersalSdk {
    /// A client of the gateway, whose API is at `/api2`.
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self::at(&format!("{}/api2", gateway.origin()), &gateway.certificate())
    }

    pub(crate) fn at(api: &str, authority: &Path) -> Self {
        Self { driver: Driver::start("versal_client.cjs", authority), api: api.to_owned() }
    }

    /// The id of a new session.
    pub(crate) fn signin(&mut self, email: &str, password: &str) -> Result<Value, Raised> {
        let url = format!("{}/signin", self.api);
        let options = json!({ "authUrl": url, "email": email, "password": password });
        self.driver.step("signin", &json!([options]))
    }

    /// Who `session` is.
    pub(crate) fn user(&mut self, session: &str) -> Result<Value, Raised> {
        let options = json!({ "apiUrl": self.api, "sessionId": session });
        self.driver.step("user", &json!([options]))
    }

    /// `GET /gadgets`, which the app answers.
    pub(crate) fn gadgets(&mut self, catalog: &str, session: &str) -> Result<Value, Raised> {
        let options = json!({ "apiUrl": self.api, "sessionId": session });
        self.driver.step("gadgets", &json!([catalog, options]))
    }
}
