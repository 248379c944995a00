//! A dialect that panics on demand, behind connections of both protocols.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::api::browser::{Browser, BrowserSettings};
use crate::api::{Ask, Context, Core, Dialect, Fault, LocalFuture, Reply};
use crate::headers::{Rules, Trust};
use crate::log::{AccessLog, LineWriter};
use crate::metrics::Metrics;
use crate::route::Router;
use crate::section::{Problems, Section};
use crate::serve::{Arrival, CookieName, Limits, Mount, Parts, Site, Table, Worker, serve};
use crate::session::testing::World;

/// Panics in the words of a refusal below `/worse`, in the answer below `/panic`, and waits at `/wait`.
#[derive(Debug, Default)]
struct Broken {
    gate: Notify,
}

impl Dialect for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn answer<'a>(&'a self, ask: Ask<'a>, _: Core<'a>) -> LocalFuture<'a, Reply> {
        Box::pin(async move {
            match ask.path {
                "/panic" | "/worse" => panic!("a mistake in an answer"),
                "/wait" => self.gate.notified().await,
                _ => {}
            }
            Reply::json(StatusCode::OK, &json!({}))
        })
    }

    fn refuse(&self, fault: &Fault, context: &Context<'_>) -> Reply {
        assert!(!context.target.ends_with("/worse"), "a mistake in the words of a refusal");
        Reply::json(fault.status, &json!({ "code": fault.code, "request": context.request }))
    }
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    /// What was written, one JSON object in each line.
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A worker, and what it writes down.
struct Running {
    worker: Rc<Worker>,
    broken: Arc<Broken>,
    access: LineWriter,
    accessed: Memory,
    logged: Memory,
    _logging: tracing::subscriber::DefaultGuard,
}

fn site(broken: &Arc<Broken>, world: &World) -> Site {
    let problems = Problems::default();
    let mut root = Section::parse(Path::new("x.toml"), String::new(), &problems);
    let settings = BrowserSettings { mount: "/auth".to_owned(), name: "x".to_owned() };
    let dialect = Arc::clone(broken) as Arc<dyn Dialect>;
    let table = Table {
        router: Router::new(Vec::new(), &["localhost".to_owned()]).unwrap(),
        rules: Vec::new(),
        ways: Vec::new(),
        places: Vec::new(),
        headers: Rules::read(&mut root.table("headers")),
    };
    Site {
        table: Arc::new(table),
        upstreams: Vec::new(),
        trust: Trust::default(),
        browser: Arc::new(Browser::new(settings, world.clock.clone()).unwrap()),
        mounts: vec![Mount { host: None, prefix: "/api".to_owned(), dialect }],
        mount: "/auth".to_owned(),
        cookie: CookieName::new("__Host-x".to_owned()),
        lifetime: Duration::from_secs(60),
        hsts: None,
        limits: Limits::read(&mut root.table("limits")),
        public_url: "https://localhost".to_owned(),
    }
}

impl Running {
    fn new() -> Self {
        let (world, broken) = (World::new(), Arc::new(Broken::default()));
        let (accessed, logged) = (Memory::default(), Memory::default());
        let access = LineWriter::stream("access", accessed.clone(), world.clock.clone()).unwrap();
        let worker = Worker::new(Parts {
            site: Arc::new(ArcSwap::from_pointee(site(&broken, &world))),
            authority: Arc::clone(&world.authority),
            clock: world.clock.clone(),
            access: AccessLog::new(Some(access.clone())),
            metrics: Metrics::new(world.clock.clone(), "x").worker(),
        });
        let out = logged.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || out.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        Self { worker: worker.unwrap(), broken, access, accessed, logged, _logging }
    }

    /// A connection to the worker.
    async fn connect(&self, h2: bool) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let place = Box::new(());
        let arrival = Arrival { peer: peer.ip(), sni: None, h2, tls: Some("1.3"), place };
        tokio::task::spawn_local(serve(Rc::clone(&self.worker), stream, arrival));
        client
    }

    /// Ids of the requests that were told of as lost, all in one line each.
    fn lost(&self) -> Vec<String> {
        let lines = self.logged.lines();
        let lost = lines.iter().map(|line| {
            assert_eq!(line["level"], "ERROR");
            line["fields"]["request"].as_str().unwrap().to_owned()
        });
        lost.collect()
    }

    /// Id and status of the requests in the access log.
    fn accessed(&self) -> Vec<(String, u64)> {
        assert_eq!(self.worker.in_flight.get(), 0);
        self.worker.flush();
        assert!(self.access.drain(Duration::from_secs(10)));
        let told = |line: &Value| {
            (line["request"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap())
        };
        self.accessed.lines().iter().map(told).collect()
    }
}

fn ask(client: &mut SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let request = Request::get(format!("https://localhost/api{path}")).body(()).unwrap();
    client.send_request(request, true).unwrap().0
}

#[tokio::test]
async fn a_panic_ends_one_stream_and_no_other() {
    let running = Running::new();
    let work = async {
        let (client, connection) =
            h2::client::handshake(running.connect(true).await).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let mut client = client.ready().await.unwrap();
        let waiting = ask(&mut client, "/wait");
        let answer = ask(&mut client, "/panic").await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = answer.into_body().data().await.unwrap().unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "internal-error");
        // Where there are no words for it either, the stream just ends.
        let error = ask(&mut client, "/worse").await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        running.broken.gate.notify_one();
        assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
        assert_eq!(ask(&mut client, "/fine").await.unwrap().status(), StatusCode::OK);
        drop(client);
        connection.await.unwrap().unwrap();
        body["request"].as_str().unwrap().to_owned()
    };
    let panicked = LocalSet::new().run_until(work).await;
    let accessed = running.accessed();
    let statuses: Vec<_> = accessed.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [500, 500, 200, 200]);
    // The second is lost twice: in its answer, and in the words for that.
    assert_eq!(accessed[0].0, panicked);
    let worse = &accessed[1].0;
    assert_eq!(running.lost().join(" "), format!("{panicked} {worse} {worse}"));
}

#[tokio::test]
async fn a_panic_is_answered_over_http1_and_closes() {
    let running = Running::new();
    let work = async {
        let mut client = running.connect(false).await;
        let get = |path| format!("GET /api{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all((get("/fine") + &get("/panic") + &get("/fine")).as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = LocalSet::new().run_until(work).await;
    let answers: Vec<_> = text.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(answers.len(), 2, "{text}");
    assert!(answers[0].starts_with("200"), "{text}");
    assert!(answers[1].starts_with("500"), "{text}");
    assert!(answers[1].to_ascii_lowercase().contains("connection: close"), "{text}");
    let accessed = running.accessed();
    assert_eq!(running.lost(), [accessed[1].0.as_str()]);
    assert_eq!(accessed[1].1, 500);
}
