//! What busy clients do is no flood: the ways of Go, gRPC, browsers and nghttp2.

use super::upstream as hanging;
use crate::support::h2raw::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, Outcome, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, number,
};
use crate::support::{Gateway, Reply, Upstream};

/// Bytes of a large download.
const LARGE: usize = 16 << 20;

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// Reads DATA of a stream until `enough` says so, and counts the frames.
async fn receive(h2: &mut H2Raw, mut enough: impl FnMut(&[u8], bool) -> bool) -> usize {
    let mut frames = 0;
    loop {
        let (kind, flags, _, payload) = h2.next().await.expect("given up");
        assert!(!matches!(kind, GOAWAY | RST_STREAM), "{kind}: {payload:?}");
        if kind == DATA {
            frames += 1;
            if enough(&payload, flags & END_STREAM != 0) {
                return frames;
            }
        }
    }
}

/// Still good for a request.
async fn is_served(h2: &mut H2Raw, stream: u32, host: &str) {
    h2.request(stream, &get(host, "/public/x")).await;
    assert_eq!(h2.outcome(stream).await, Outcome::Status(200));
}

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::builder().upstream("app", upstream.addr()).public("/", "app").start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_may_be_confirmed_each_4_kib_and_all_at_the_end() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/large" => Reply::ok(&"a".repeat(LARGE)),
        _ => Reply::ok("hello"),
    });
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    let large = u32::try_from(LARGE).unwrap();
    // As Go: room for all of it, and a confirmation for stream and connection whenever 4 KiB were taken.
    h2.send(&[frame(SETTINGS, 0, 0, &[0, 4, 1, 0, 0, 0]), window(0, large)].concat()).await;
    h2.request(1, &get(&host, "/large")).await;
    let mut received = 0;
    receive(&mut h2, |data, _| {
        received += data.len();
        received == LARGE
    })
    .await;
    let confirmed = [window(0, 4096), window(1, 4096)].concat().repeat(LARGE / 4096);
    h2.send(&confirmed).await;
    is_served(&mut h2, 3, &host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_events_may_be_confirmed_and_measured_each() {
    const EVENTS: usize = 3000;
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/events" => (0..EVENTS).fold(Reply::sse(), |reply, _| reply.event("1")),
        _ => Reply::ok("hello"),
    });
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    h2.request(1, &get(&host, "/events")).await;
    // As gRPC: each piece is confirmed for stream and connection, and a PING measures the way.
    let (mut bytes, mut events) = (0, 0);
    while events < EVENTS {
        receive(&mut h2, |data, _| {
            bytes += data.len();
            events += data.iter().filter(|byte| **byte == b'1').count();
            true
        })
        .await;
        let size = u32::try_from(std::mem::take(&mut bytes)).unwrap();
        h2.send(&[window(0, size), window(1, size), frame(PING, 0, 0, b"measured")].concat()).await;
    }
    is_served(&mut h2, 3, &host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_may_be_left_and_uploads_be_of_small_pieces() {
    let upstream = hanging();
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    // As a browser that leaves one page after the other, with PRIORITY as nghttp2 sends it.
    let mut stream = 1;
    for page in 0..5_u32 {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let head = block(&get(&host, "/hang/picture"));
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
            bytes.extend(frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 15]));
            stream += 2;
        }
        bytes.extend(frame(PING, 0, 0, &u64::from(page).to_be_bytes()));
        h2.send(&bytes).await;
        loop {
            let (kind, flags, _, payload) = h2.next().await.expect("given up");
            assert_ne!(kind, GOAWAY, "{}", number(&payload[4..]));
            if kind == PING && flags & ACK != 0 {
                break;
            }
        }
        let back = (stream - 200..stream).step_by(2);
        let back: Vec<u8> =
            back.flat_map(|stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).collect();
        h2.send(&back).await;
    }
    // All of a page before it was looked at.
    let head = block(&get(&host, "/hang/picture"));
    let mut bytes = Vec::new();
    for stream in (stream..stream + 200).step_by(2) {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
    }
    for stream in (stream..stream + 200).step_by(2) {
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    h2.send(&bytes).await;
    stream += 200;
    // As a stream of small messages.
    let mut fields = get(&host, "/public/upload");
    fields[0].1 = "POST";
    h2.frame(HEADERS, END_HEADERS, stream, &block(&fields)).await;
    for _ in 0..20 {
        h2.send(&frame(DATA, 0, stream, b"tiny").repeat(100)).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    h2.frame(DATA, END_STREAM, stream, &[]).await;
    assert_eq!(h2.outcome(stream).await, Outcome::Status(200));
    is_served(&mut h2, stream + 2, &host).await;
}
