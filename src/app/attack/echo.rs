//! An app that notes what it gets and answers with nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bytes of a line, and lines of a head: more than any gateway is configured to pass.
const LONGEST: u64 = 1 << 20;
const LINES: usize = 10_000;

/// One request as the app got it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) host: String,
    pub(super) target: String,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
}

/// The running app. Its threads end with the process: a command is over soon.
#[derive(Debug)]
pub(super) struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Echo {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                thread::spawn(move || serve(&stream, &log));
            }
        });
        Ok(Self { address, seen })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came since the last call.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Requests without bodies, one after the other.
fn serve(stream: &TcpStream, log: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = request(&mut reader) {
        log.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let mut writer = stream;
        if writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.take(LONGEST).read_until(b'\n', &mut line).ok().filter(|read| *read > 0)?;
        if lines.len() > LINES || !line.ends_with(b"\n") {
            return None;
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut seen = Seen::default();
    let mut lines = lines.iter();
    seen.target = lines.next()?.split(' ').nth(1)?.to_owned();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        if name == "host" {
            seen.host = value.split(':').next().unwrap_or_default().to_owned();
        }
        seen.fields.push((name, value));
    }
    Some(seen)
}
