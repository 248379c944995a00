//! The accept loop over real sockets: cap, descriptor exhaustion, shutdown, PROXY headers.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream as StdStream;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::super::bind::{bind, bind_all};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

type Arrival = (TcpStream, Peer, ConnectionPermit);

/// A loop under test: where it listens, what arrives, how it ends.
struct Running {
    address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    gate: ConnectionGate,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(cap: usize, proxy: Option<ProxyRules>) -> Self {
        Self::start_on(bind("127.0.0.1:0".parse().unwrap()).unwrap(), cap, proxy)
    }

    fn start_on(listener: std::net::TcpListener, cap: usize, proxy: Option<ProxyRules>) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let gate = ConnectionGate::new(cap);
        let shutdown = CancellationToken::new();
        let on = move |stream, peer, permit| {
            let _ = sender.send((stream, peer, permit));
        };
        let task = tokio::task::spawn_local(accept_loop(
            TcpListener::from_std(listener).unwrap(),
            gate.clone(),
            proxy.map(Arc::new),
            shutdown.clone(),
            on,
        ));
        Self { address, arrivals, gate, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn arrival(&mut self) -> Arrival {
        within(self.arrivals.recv()).await.unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("waited too long")
}

async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn trusting(networks: &[&str]) -> ProxyRules {
    ProxyRules::new(networks.iter().map(|network| network.parse().unwrap()).collect())
}

#[test]
fn a_connection_comes_with_its_peer_and_without_delay() {
    local(async {
        let mut running = Running::start(10, None);
        let client = running.connect().await;
        let (stream, peer, _permit) = running.arrival().await;
        let address = client.local_addr().unwrap();
        assert_eq!(peer, Peer { client: address, socket: address, proxied: false });
        assert!(stream.nodelay().unwrap(), "TCP_NODELAY comes from the listening socket");
    });
}

#[test]
fn ipv4_over_an_ipv6_listener_has_its_own_form() {
    local(async {
        // A machine without IPv6 cannot have the problem.
        let Ok(listener) = bind("[::]:0".parse().unwrap()) else {
            return;
        };
        let mut running = Running::start_on(listener, 10, None);
        let port = running.address.port();
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (_stream, peer, _permit) = running.arrival().await;
        assert_eq!(peer.client, client.local_addr().unwrap());
    });
}

#[test]
fn the_cap_holds_and_nobody_is_turned_away() {
    local(async {
        let mut running = Running::start(2, None);
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(running.connect().await);
        }
        let first = running.arrival().await;
        let _second = running.arrival().await;
        until(|| running.gate.tally().waited == 1).await;
        until(|| running.gate.waiting() == 1).await;
        assert_eq!(running.gate.open(), 2);
        assert!(running.arrivals.try_recv().is_err(), "a third one came in");
        drop(first);
        let mut last = running.arrival().await;
        // Each slot that is freed lets the next one in.
        for _ in 0..2 {
            drop(last);
            last = running.arrival().await;
        }
        assert_eq!(running.gate.tally().accepted, 5);
    });
}

#[test]
fn two_workers_share_one_cap_and_neither_starves() {
    local(async {
        let listeners = bind_all("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_eq!(address, listeners[1].local_addr().unwrap());
        let gate = ConnectionGate::new(1);
        let served = Rc::new(RefCell::new([0_usize; 2]));
        for (worker, listener) in listeners.into_iter().enumerate() {
            let served = Rc::clone(&served);
            let on = move |mut stream: TcpStream, _: Peer, permit| {
                served.borrow_mut()[worker] += 1;
                tokio::task::spawn_local(async move {
                    let _ = stream.write_all(b"x").await;
                    drop(permit);
                });
            };
            let listener = TcpListener::from_std(listener).unwrap();
            let shutdown = CancellationToken::new();
            tokio::task::spawn_local(accept_loop(listener, gate.clone(), None, shutdown, on));
        }
        let mut clients = Vec::new();
        for _ in 0..64 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        for client in &mut clients {
            let mut byte = [0];
            within(client.read_exact(&mut byte)).await.unwrap();
        }
        // The kernel spreads by a hash of the addresses: 64 to one side would be 1 in 2^63.
        assert!(served.borrow().iter().all(|count| *count > 0), "{served:?}");
    });
}

#[test]
fn an_address_in_use_is_refused() {
    let listeners = bind_all("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let error = bind_all(address, 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(listeners);
    bind_all(address, 2).unwrap();
}

#[test]
fn shutdown_takes_those_who_already_wait_and_frees_the_port() {
    local(async {
        let mut running = Running::start(10, None);
        // The loop has not run yet: these wait in the kernel, and the loop sees the shutdown first.
        let mut clients =
            [StdStream::connect(running.address), StdStream::connect(running.address)]
                .map(Result::unwrap);
        running.shutdown.cancel();
        within(&mut running.task).await.unwrap();
        for client in &mut clients {
            let (mut stream, peer, _permit) = running.arrival().await;
            assert_eq!(peer.client, client.local_addr().unwrap());
            stream.write_all(b"x").await.unwrap();
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
        }
        assert!(TcpStream::connect(running.address).await.is_err());
    });
}

#[test]
fn many_failures_make_few_log_lines_and_bounded_pauses() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut failures = Failures::default();
        let full = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let start = Instant::now();
        failures.survive(&full).await;
        assert_eq!(start.elapsed(), PAUSES[0]);
        assert_eq!(failures.unlogged, 0);
        failures.survive(&full).await;
        assert_eq!(start.elapsed(), PAUSES[0] + PAUSES[1]);
        assert_eq!(failures.unlogged, 1, "logged twice within a second");
        let gone = io::Error::from_raw_os_error(Errno::CONNABORTED.raw_os_error());
        let before = start.elapsed();
        failures.survive(&gone).await;
        assert_eq!(start.elapsed(), before);
    });
}

// === descriptor exhaustion, in a process of its own ===

const CHILD: &str = "PORTCULLIS_TEST_EXHAUST";

#[test]
fn descriptor_exhaustion_is_survived() {
    if std::env::var_os(CHILD).is_some() {
        return exhausted_child();
    }
    let name = "listener::accept::tests::descriptor_exhaustion_is_survived";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = |word: &str| {
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains(word)).unwrap();
        line.split_once(word).unwrap().1.trim().to_owned()
    };
    let port: u16 = said("port=").parse().unwrap();
    let connect = |_| StdStream::connect(("127.0.0.1", port)).unwrap();
    let clients: Vec<_> = (0..40).map(connect).collect();
    let served: usize = said("exhausted=").parse().unwrap();
    assert!(served < 40, "the limit was never reached");
    // Each client that leaves makes room for one that waits.
    for mut client in clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
    let mut last = connect(0);
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    last.read_exact(&mut [0]).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "the process has ended");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn exhausted_child() {
    local(async {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener = TcpListener::from_std(listener).unwrap();
        let gate = ConnectionGate::new(1000);
        let on = |mut stream: TcpStream, _: Peer, permit: ConnectionPermit| {
            tokio::task::spawn_local(async move {
                let _ = stream.write_all(b"x").await;
                let _ = stream.read(&mut [0]).await;
                drop((stream, permit));
            });
        };
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let limit = Rlimit { current: Some(used + 10), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).unwrap();
        println!("port={port}");
        std::io::stdout().flush().unwrap();
        let shutdown = CancellationToken::new();
        let looping = accept_loop(listener, gate.clone(), None, shutdown, on);
        let looping = tokio::task::spawn_local(looping);
        until(|| gate.tally().accept_errors > 1).await;
        println!("exhausted={}", gate.open());
        std::io::stdout().flush().unwrap();
        let _ = looping.await;
    });
}

#[test]
fn the_limit_on_open_files_is_raised_to_the_most_allowed() {
    // The limit belongs to the whole test process: one file less for a moment hurts nobody.
    let limit = getrlimit(Resource::Nofile);
    let lower = limit.maximum.map_or(4096, |most| most - 1);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lower), ..limit }).unwrap();
    assert_eq!(super::super::raise_nofile(), limit.maximum);
    assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
}

// === PROXY protocol ===

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 5555 443\r\n";

/// A version 2 header with `command`, `family` and the bytes behind the length.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

fn v2_tcp4(tlvs: &[u8]) -> Vec<u8> {
    let mut body = vec![192, 0, 2, 7, 198, 51, 100, 1];
    body.extend(5555_u16.to_be_bytes());
    body.extend(443_u16.to_be_bytes());
    body.extend(tlvs);
    v2(0x21, 0x11, &body)
}

fn v2_tcp6(client: [u8; 16]) -> Vec<u8> {
    let mut body = client.to_vec();
    body.extend([0; 16]);
    body.extend(5555_u16.to_be_bytes());
    body.extend(443_u16.to_be_bytes());
    v2(0x21, 0x21, &body)
}

/// Sends `header` with more behind it, and gives what arrives: the told client, and the bytes that
/// were left for the next layer.
async fn told(header: &[u8], one_by_one: bool) -> Option<SocketAddr> {
    let mut running = Running::start(10, Some(trusting(&["127.0.0.0/8"])));
    let mut client = running.connect().await;
    client.set_nodelay(true).unwrap();
    if one_by_one {
        for byte in header {
            client.write_all(&[*byte]).await.unwrap();
            // Lets the reader see each byte by itself.
            tokio::task::yield_now().await;
        }
        client.write_all(b"\x16\x03hello").await.unwrap();
    } else {
        client.write_all(&[header, b"\x16\x03hello"].concat()).await.unwrap();
    }
    let (mut stream, peer, _permit) = running.arrival().await;
    let mut rest = [0; 7];
    within(stream.read_exact(&mut rest)).await.unwrap();
    assert_eq!(&rest, b"\x16\x03hello", "the bytes behind the header");
    assert_eq!(peer.socket, client.local_addr().unwrap());
    if !peer.proxied {
        assert_eq!(peer.client, peer.socket);
    }
    peer.proxied.then_some(peer.client)
}

#[test]
fn good_headers_are_read_to_the_byte() {
    local(async {
        let client: SocketAddr = "192.0.2.7:5555".parse().unwrap();
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
        let mut long = [0; MAX_TLV].to_vec();
        long[0] = 4; // NOOP
        long[1..3].copy_from_slice(&u16::try_from(MAX_TLV - 3).unwrap().to_be_bytes());
        let cases: [(Vec<u8>, Option<SocketAddr>); 9] = [
            (V1.to_vec(), Some(client)),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 5555 443\r\n".to_vec(),
                Some("[2001:db8::7]:5555".parse().unwrap()),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f::f ffff:f::f 65535 65535\r\n".to_vec(), None),
            (v2_tcp4(b""), Some(client)),
            (v2_tcp4(&long), Some(client)),
            (v2_tcp6(mapped), Some(client)),
            (v2(0x20, 0x00, b""), None),
            // LOCAL with an address block: ignored, whatever is in it.
            (v2(0x20, 0x11, &[1, 2, 3]), None),
        ];
        for (header, wanted) in cases {
            assert_eq!(told(&header, false).await, wanted, "{}", header.escape_ascii());
            if header.len() < 100 {
                assert_eq!(told(&header, true).await, wanted, "{}", header.escape_ascii());
            }
        }
    });
}

/// What fits behind the fixed part and the addresses of a version 2 header for TCP over IPv4.
const MAX_TLV: usize = 4096 - 16 - 12;

/// Sends `bytes` and expects the connection to be closed, without an arrival.
async fn refused(rules: ProxyRules, bytes: &[u8], finish: bool) {
    let mut running = Running::start(10, Some(rules));
    let mut client = running.connect().await;
    let _ = client.write_all(bytes).await;
    if finish {
        let _ = client.shutdown().await;
    }
    // A reset is a close, too: it comes when bytes were left unread.
    let end = within(client.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{}", bytes.escape_ascii());
    until(|| running.gate.tally().proxy_refused == 1).await;
    until(|| running.gate.open() == 0).await;
    assert!(running.arrivals.try_recv().is_err(), "{}", bytes.escape_ascii());
}

#[test]
fn bad_headers_close_the_connection() {
    local(async {
        let mut endless = b"PROXY UNKNOWN ".to_vec();
        endless.resize(200, b'x');
        let mut padded = b"PROXY UNKNOWN ".to_vec();
        padded.resize(106, b'x');
        padded.extend(b"\r\n"); // 108 bytes
        let tail = |line: &str| line.as_bytes().to_vec();
        let cases: [(Vec<u8>, &str); 18] = [
            (tail("GET / HTTP/1.1\r\n\r\n"), "no header"),
            (tail("\x16\x03\x01\x02\x00\x01"), "TLS at once"),
            (tail("PROXY TCP4 192.0.2.7 198.51.100.1 5555\r\n"), "no second port"),
            (tail("PROXY TCP4 2001:db8::7 2001:db8::1 5555 443\r\n"), "IPv6 as TCP4"),
            (tail("PROXY TCP4 192.0.2.7 198.51.100.1 +5555 443\r\n"), "plus sign"),
            (tail("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n"), "port too high"),
            (tail("PROXY TCP4 192.0.2.7 198.51.100.1 5555 443\n"), "bare line feed"),
            (tail("PROXY\tTCP4 192.0.2.7 198.51.100.1 5555 443\r\n"), "tab"),
            (tail("PROXY UNKNOWNISH\r\n"), "unknown unknown"),
            (tail("PROXY UNKNOWN\rISH\r\n"), "a bare CR behind UNKNOWN"),
            (tail("PROXY UDP4 192.0.2.7 198.51.100.1 5555 443\r\n"), "unknown protocol"),
            (endless, "no end"),
            (padded, "108 bytes"),
            (v2(0x11, 0x11, &[0; 12]), "version 1 in version 2"),
            (v2(0x22, 0x11, &[0; 12]), "unknown command"),
            (v2(0x21, 0x11, &[0; 11]), "addresses too short"),
            (v2(0x21, 0x12, &[0; 12]), "datagram"),
            (v2_tcp4(&[0; MAX_TLV + 1]), "4097 bytes"),
        ];
        for (bytes, what) in cases {
            println!("{what}");
            refused(trusting(&["127.0.0.0/8"]), &bytes, false).await;
        }
        refused(trusting(&["127.0.0.0/8"]), &V1[..20], true).await;
        refused(trusting(&["127.0.0.0/8"]), &v2_tcp4(b"")[..20], true).await;
        refused(trusting(&["127.0.0.0/8"]), b"", true).await;
    });
}

#[test]
fn an_untrusted_peer_is_closed_unread() {
    local(async {
        refused(trusting(&["10.0.0.0/8", "2001:db8::/32"]), V1, false).await;
        refused(trusting(&["10.0.0.0/8"]), b"", false).await;
    });
}

#[test]
fn a_slow_header_is_cut_and_holds_up_nobody() {
    local(async {
        let rules = trusting(&["127.0.0.0/8"]);
        for begun in [b"".as_slice(), &V1[..10], &v2_tcp4(b"")[..14]] {
            refused(rules.clone().within(Duration::from_millis(30)), begun, false).await;
        }
        let mut running = Running::start(10, Some(rules));
        let slow = running.connect().await;
        let mut quick = running.connect().await;
        quick.write_all(V1).await.unwrap();
        let (_stream, peer, _permit) = running.arrival().await;
        assert_eq!(peer.socket, quick.local_addr().unwrap());
        assert_eq!(running.gate.open(), 2);
        drop(slow);
        until(|| running.gate.open() == 1).await;
    });
}
