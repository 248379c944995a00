use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::clock::{Clock, UnixMs};
use crate::metrics::RequestKind;

struct Running {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(readiness: Readiness) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Arc::new(readiness);
    let metrics = Metrics::new(Clock::manual(UnixMs(1_700_000_000_000)), "1.2.3");
    let names = vec!["Metrics.Example".to_owned()];
    let admin = Arc::new(Admin::new(metrics.clone(), Arc::clone(&readiness), names));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, admin, shutdown.clone()));
    Running { address, readiness, metrics, shutdown, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything that comes back for `head` until the listener closes the connection.
    async fn raw(&self, head: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    async fn request(&self, method: &str, path: &str, host: &str) -> String {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.request("GET", path, "127.0.0.1").await;
        (status(&answer), body(&answer).to_owned())
    }
}

/// Until the end, or until the connection is reset.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn live_is_ok_also_while_draining() {
    let running = start(Readiness::default()).await;
    assert_eq!(running.get("/livez").await, (200, "ok\n".to_owned()));
    running.readiness.drain();
    assert_eq!(running.get("/livez?from=probe").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn ready_follows_the_checks_and_the_drain() {
    let up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&up);
    let readiness = Readiness::default().with_check("store", move || {
        let up = seen.load(Ordering::Relaxed);
        Box::pin(async move { if up { Ok(()) } else { Err("no \"connection\"".to_owned()) } })
    });
    let running = start(readiness).await;
    let (code, text) = running.get("/readyz").await;
    assert_eq!(code, 503);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reasons = serde_json::json!([{ "check": "store", "reason": "no \"connection\"" }]);
    assert_eq!(report, serde_json::json!({ "ready": false, "reasons": reasons }));

    up.store(true, Ordering::Relaxed);
    assert_eq!(running.get("/readyz").await, (200, "{\"ready\":true,\"reasons\":[]}".to_owned()));

    running.readiness.drain();
    let (code, text) = running.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("\"check\":\"draining\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_end_counts_as_failed() {
    let readiness = Readiness::default().with_check("store", || Box::pin(std::future::pending()));
    let running = start(readiness).await;
    let (code, text) = running.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("\"reason\":\"no answer within 1s\""), "{text}");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let running = start(Readiness::default()).await;
    running.metrics.worker().request(RequestKind::Own, 200, 10);
    let answer = running.request("GET", "/metrics", "localhost").await;
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.contains(kind), "{answer}");
    assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    let line = "\nportcullis_requests_total{kind=\"own\",status=\"2xx\"} 1\n";
    assert!(answer.contains(line), "{answer}");
    assert!(answer.ends_with("\n# EOF\n"), "{answer}");
}

#[tokio::test]
async fn head_has_the_headers_only() {
    let running = start(Readiness::default()).await;
    let answer = running.request("HEAD", "/livez", "127.0.0.1").await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");
    assert_eq!(body(&answer), "");
}

#[tokio::test]
async fn anything_else_is_refused() {
    let running = start(Readiness::default()).await;
    for path in ["/", "/metrics/", "/livez/../metrics", "/debug", "//livez", "*"] {
        let answer = running.request("GET", path, "127.0.0.1").await;
        assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let answer = running.request(method, "/readyz", "127.0.0.1").await;
        assert_eq!(status(&answer), 405, "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    let garbage = running.raw("\x16\x03\x01 not http\r\n\r\n").await;
    assert!(garbage.is_empty() || status(&garbage) == 400, "{garbage}");
}

#[tokio::test]
async fn foreign_names_are_turned_away() {
    let running = start(Readiness::default()).await;
    let own = [
        "127.0.0.1",
        "127.0.0.1:9643",
        "10.1.2.3",
        "[::1]",
        "[::1]:9643",
        "localhost",
        "LOCALHOST:9643",
        "localhost.",
        "metrics.example",
        "metrics.example:80",
    ];
    for host in own {
        assert_eq!(status(&running.request("GET", "/livez", host).await), 200, "{host}");
    }
    let foreign = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "sub.localhost",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "metrics.example.evil",
        "2130706433",
        "",
    ];
    for host in foreign {
        for path in ["/livez", "/metrics", "/other"] {
            let code = status(&running.request("GET", path, host).await);
            assert!(matches!(code, 400 | 421), "{host} {path}: {code}");
        }
    }
    let absolute = "http://evil.example/metrics";
    assert_eq!(status(&running.request("GET", absolute, "127.0.0.1").await), 421);
    let absolute = "http://127.0.0.1/livez";
    assert_eq!(status(&running.request("GET", absolute, "127.0.0.1").await), 200);
}

#[tokio::test]
async fn exactly_one_host_is_needed() {
    let running = start(Readiness::default()).await;
    let twice = "GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n";
    assert_eq!(status(&running.raw(twice).await), 400);
    assert_eq!(status(&running.raw("GET /livez HTTP/1.1\r\n\r\n").await), 400);
    assert_eq!(status(&running.raw("GET /livez HTTP/1.0\r\n\r\n").await), 200);
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off() {
    let running = start(Readiness::default()).await;
    let begun = Instant::now();
    for part in ["", "GET /livez HTTP/1.1\r\nhost: "] {
        assert_eq!(running.raw(part).await, "");
    }
    assert!(begun.elapsed() >= 2 * HEAD_TIMEOUT);
    assert!(begun.elapsed() < 2 * CONNECTION_TIMEOUT, "{:?}", begun.elapsed());
}

/// Regression: they kept probes waiting until they were cut.
#[tokio::test(start_paused = true)]
async fn silent_connections_keep_nobody_out() {
    let running = start(Readiness::default()).await;
    let mut silent = Vec::new();
    let begun = Instant::now();
    for _ in 0..3 * CONNECTIONS {
        silent.push(running.connect().await);
    }
    assert_eq!(running.get("/livez").await, (200, "ok\n".to_owned()));
    assert!(begun.elapsed() < HEAD_TIMEOUT, "{:?}", begun.elapsed());
    assert_eq!(read_all(&mut silent[0]).await, "", "the oldest is closed");
}

#[tokio::test]
async fn a_panic_costs_its_connection_only() {
    let readiness = Readiness::default().with_check("broken", || panic!("a mistake in a check"));
    let running = start(readiness).await;
    assert_eq!(running.request("GET", "/readyz", "127.0.0.1").await, "");
    assert_eq!(running.get("/livez").await.0, 200);
}

#[tokio::test]
async fn shutdown_closes_everything() {
    let running = start(Readiness::default()).await;
    let mut idle = running.connect().await;
    assert_eq!(running.get("/livez").await.0, 200);
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(running.address).await.is_err());
}
