//! An application under the test's full control: records every byte that the gateway sends it and
//! answers with whatever bytes the test wants, correct or not.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::process::eventually;
use super::raw::reset_on_close;
use super::wire::{Body, Head, Reader};

/// One request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// The how manieth connection it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) head: Head,
    /// Empty until the body was read.
    pub(crate) body: Body,
}

impl Recorded {
    /// The value of the header, or `None`. Several fields of one name are joined with `, `.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    /// How many fields have this name when every character but letters and digits counts as `-`:
    /// the way in which CGI, WSGI and PHP applications read names.
    pub(crate) fn aliases(&self, name: &str) -> Vec<&(String, String)> {
        let name = normal(name);
        self.head.headers.iter().filter(|(field, _)| normal(field) == name).collect()
    }

    /// Head and body exactly as they came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.raw.as_slice(), self.body.raw.as_slice()].concat()
    }
}

/// A header name as an application may see it.
pub(crate) fn normal(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }
    };
    name.chars().map(plain).collect()
}

/// Holds a reply back until the test opens it.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn passed(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Pour,
    Wait(Gate),
    Open(Gate),
    ReadBody,
    Hang,
    Reset,
    Shut,
    Close,
    Echo,
}

/// What the upstream does with a request, step by step. Without a closing step the connection is
/// kept for the next request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply(Vec<Step>);

impl Reply {
    /// 200 with a text.
    pub(crate) fn ok(text: &str) -> Self {
        Self::status("200 OK", "Content-Type: text/plain\r\n", text)
    }

    /// A well-formed answer; each of `lines` ends with CRLF.
    pub(crate) fn status(status: &str, lines: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// Exactly these bytes, after the request's body was read.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::ReadBody, Step::Send(bytes.into())])
    }

    /// As [`Self::raw`], without reading the request's body.
    pub(crate) fn early(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::Send(bytes.into())])
    }

    /// The head of a stream of server-sent events; add events with [`Self::event`].
    pub(crate) fn sse() -> Self {
        Self::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        )
    }

    pub(crate) fn event(self, data: &str) -> Self {
        self.chunk(&format!("data: {data}\n\n"))
    }

    /// Accepts an upgrade to WebSocket, then sends back whatever comes.
    pub(crate) fn websocket(request: &Recorded) -> Self {
        let key = request.header("sec-websocket-key").unwrap_or_default();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        Self::raw(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ))
        .step(Step::Echo)
    }

    /// Reads the body and never answers; ends when the gateway goes away.
    pub(crate) fn hang() -> Self {
        Self(vec![Step::ReadBody, Step::Hang])
    }

    /// Resets the connection without an answer.
    pub(crate) fn reset() -> Self {
        Self(vec![Step::Reset])
    }

    pub(crate) fn then(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Send(bytes.into()))
    }

    /// One chunk of a chunked body.
    pub(crate) fn chunk(self, data: &str) -> Self {
        self.then(format!("{:x}\r\n{data}\r\n", data.len()))
    }

    /// Bytes without end, some 10 MB a second.
    pub(crate) fn pour(self) -> Self {
        self.step(Step::Pour)
    }

    pub(crate) fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Opens the gate: what stands before is done.
    pub(crate) fn open(self, gate: &Gate) -> Self {
        self.step(Step::Open(gate.clone()))
    }

    /// Reads the body of the request, after [`Self::early`].
    pub(crate) fn then_read(self) -> Self {
        self.step(Step::ReadBody)
    }

    /// Sends nothing any more; the connection stays open in the other direction.
    pub(crate) fn then_shut(self) -> Self {
        self.step(Step::Shut)
    }

    pub(crate) fn then_hang(self) -> Self {
        self.step(Step::Hang)
    }

    pub(crate) fn then_reset(self) -> Self {
        self.step(Step::Reset)
    }

    pub(crate) fn then_close(self) -> Self {
        self.step(Step::Close)
    }

    fn step(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }
}

type Responder = dyn Fn(&Recorded) -> Reply + Send + Sync;

#[derive(Default)]
struct Shared {
    log: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
    abandoned: AtomicUsize,
}

/// The running upstream. It has a thread of its own, so that a test which blocks does not stop it.
pub(crate) struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Answers every request with 200 and the text `hello`.
    pub(crate) fn start() -> Self {
        Self::answering(|_| Reply::ok("hello"))
    }

    /// Answers every request with what `responder` says.
    pub(crate) fn answering(
        responder: impl Fn(&Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // Whatever comes at once waits its turn: a lost SYN costs a second.
        SockRef::from(&listener).listen(4096).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let serving = serve(listener, shared.clone(), Arc::new(responder));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        });
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The last request; fails the test when there was none.
    pub(crate) fn last(&self) -> Recorded {
        self.requests().pop().expect("no request reached the upstream")
    }

    pub(crate) fn forget(&self) {
        self.shared.log.lock().unwrap().clear();
    }

    /// Waits until `count` requests have come.
    pub(crate) async fn received(&self, count: usize) -> Vec<Recorded> {
        eventually(format!("{count} requests at the upstream"), || {
            Some(self.requests()).filter(|log| log.len() >= count)
        })
        .await
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many replies the gateway left while the upstream was hanging.
    pub(crate) fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, responder: Arc<Responder>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(connection(tcp, number, shared.clone(), responder.clone()));
    }
}

async fn connection(tcp: TcpStream, number: usize, shared: Arc<Shared>, responder: Arc<Responder>) {
    let _ = tcp.set_nodelay(true);
    let mut reader = Reader::new(tcp);
    while let Some(head) = reader.head().await {
        let mut line = head.first_line.split(' ').map(str::to_owned);
        let mut part = || line.next().unwrap_or_default();
        let request = Recorded {
            connection: number,
            method: part(),
            target: part(),
            version: part(),
            head,
            body: Body::default(),
        };
        let at = {
            let mut log = shared.log.lock().unwrap();
            log.push(request.clone());
            log.len() - 1
        };
        for step in responder(&request).0 {
            if !perform(step, &mut reader, &request, at, &shared).await {
                return;
            }
        }
    }
}

/// Does one step; `false` = the connection is over.
async fn perform(
    step: Step,
    reader: &mut Reader<TcpStream>,
    request: &Recorded,
    at: usize,
    shared: &Shared,
) -> bool {
    match step {
        Step::Send(bytes) => reader.stream.write_all(&bytes).await.is_ok(),
        Step::Pour => {
            let mut pause = tokio::time::interval(Duration::from_millis(2));
            while reader.stream.write_all(&[b'x'; 20_000]).await.is_ok() {
                pause.tick().await;
            }
            shared.abandoned.fetch_add(1, Ordering::SeqCst);
            false
        }
        Step::Wait(gate) => {
            gate.passed().await;
            true
        }
        Step::Open(gate) => {
            gate.open();
            true
        }
        Step::Shut => reader.stream.shutdown().await.is_ok(),
        Step::ReadBody => {
            let body = reader.request_body(&request.head).await;
            let complete = !body.truncated;
            // The test may have emptied the log meanwhile.
            if let Some(entry) = shared.log.lock().unwrap().get_mut(at) {
                entry.body = body;
            }
            complete
        }
        Step::Hang => {
            reader.rest().await;
            shared.abandoned.fetch_add(1, Ordering::SeqCst);
            false
        }
        Step::Reset => {
            reset_on_close(&reader.stream);
            false
        }
        Step::Close => false,
        Step::Echo => {
            let mut bytes = reader.take_buffer();
            while reader.stream.write_all(&bytes).await.is_ok() && reader.fill().await {
                bytes = reader.take_buffer();
            }
            false
        }
    }
}
