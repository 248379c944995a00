//! A TCP proxy that can cut what is behind it off: at once, or so that nobody notices.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a change of the state may take to be seen.
const TICK: Duration = Duration::from_millis(5);

const FORWARD: u8 = 0;
const HOLD: u8 = 1;
const CUT: u8 = 2;

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: AtomicU8,
    closing: AtomicBool,
    connections: AtomicUsize,
}

impl Shared {
    fn state(&self) -> u8 {
        if self.closing.load(Ordering::SeqCst) { CUT } else { self.state.load(Ordering::SeqCst) }
    }
}

/// The proxy. Dropping it closes everything.
#[derive(Debug)]
pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            state: AtomicU8::new(FORWARD),
            closing: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Forwards again; what was held goes on where it stood.
    pub(crate) fn forward(&self) {
        self.set(FORWARD);
    }

    /// Keeps all connections and takes new ones, and forwards nothing: a network that swallows
    /// packets.
    pub(crate) fn blackhole(&self) {
        self.set(HOLD);
    }

    /// Closes all connections, and new ones at once.
    pub(crate) fn cut(&self) {
        self.set(CUT);
    }

    fn set(&self, state: u8) {
        self.shared.state.store(state, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        thread::spawn(move || connect(&client, &shared));
    }
}

fn connect(client: &TcpStream, shared: &Arc<Shared>) {
    while shared.state() == HOLD {
        thread::sleep(TICK);
    }
    if shared.state() == CUT {
        return;
    }
    let Ok(server) = TcpStream::connect(shared.target) else { return };
    for end in [client, &server] {
        let _ = end.set_nodelay(true);
        let _ = end.set_read_timeout(Some(TICK));
    }
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server, shared));
        scope.spawn(|| copy(&server, client, shared));
    });
}

/// One direction, until either end closes or all is cut.
fn copy(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    loop {
        while shared.state() == HOLD {
            thread::sleep(TICK);
        }
        if shared.state() == CUT {
            break;
        }
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        // Nothing that was read before the cut may pass after it.
        while shared.state() == HOLD {
            thread::sleep(TICK);
        }
        if shared.state() == CUT || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
