//! Requests over a connection: bodies as they are asked for, and what is left of them.

use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

type Shared = Rc<RefCell<Transport<DuplexStream>>>;

fn open() -> (Shared, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    (Rc::new(RefCell::new(Transport::new(near, LIMITS))), far)
}

async fn head(transport: &Shared) -> Result<Option<Head>, Ended> {
    poll_fn(|cx| transport.borrow_mut().poll_head(cx, false)).await
}

/// Takes a head; its body.
async fn request(transport: &Shared) -> (Head, RequestBody<DuplexStream>) {
    let head = head(transport).await.unwrap().unwrap();
    transport.borrow_mut().begin_body(&head);
    (head, RequestBody::new(Rc::clone(transport)))
}

fn post(framing: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n")
}

#[tokio::test]
async fn bodies_come_when_they_are_asked_for() {
    for (framing, sent, length) in [
        ("Content-Length: 5\r\n", "hello", Some(5)),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n", None),
    ] {
        let (transport, mut far) = open();
        far.write_all(format!("{}{sent}{}", post(framing), post("")).as_bytes()).await.unwrap();
        let (_, mut body) = request(&transport).await;
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (length, false));
        let data = (&mut body).collect().await.unwrap().to_bytes();
        assert_eq!(data, "hello");
        // It is over for its holder, whatever comes next on the connection.
        assert!(body.is_end_stream() && transport.borrow().is_read());
        let (next, _) = request(&transport).await;
        assert_eq!(next.framing, Framing::Empty);
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn a_client_is_asked_for_its_body_once_and_only_if_it_is_wanted() {
    let (transport, mut far) = open();
    let head = post("Content-Length: 5\r\nExpect: 100-continue\r\n");
    far.write_all(head.as_bytes()).await.unwrap();
    let (_, mut body) = request(&transport).await;
    let client = async {
        let mut interim = [0; 25];
        far.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        far.write_all(b"he").await.unwrap();
        tokio::task::yield_now().await;
        far.write_all(b"llo").await.unwrap();
        far
    };
    let (data, mut far) = tokio::join!((&mut body).collect(), client);
    assert_eq!(data.unwrap().to_bytes(), "hello");
    drop(body);
    assert!(transport.borrow_mut().begin_answer());

    // Here before it was asked for: nothing is said, and nothing is lost.
    far.write_all(format!("{head}hello").as_bytes()).await.unwrap();
    let (_, body) = request(&transport).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    assert!(transport.borrow_mut().begin_answer());

    // Not wanted: it may come or not, so no request can follow.
    far.write_all(head.as_bytes()).await.unwrap();
    let (_, body) = request(&transport).await;
    drop(body);
    assert!(!transport.borrow_mut().begin_answer());
    transport.borrow_mut().end();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn an_unwanted_body_that_is_here_does_not_end_the_connection() {
    for (sent, follows) in [("hello", true), ("hell", false)] {
        let (transport, mut far) = open();
        far.write_all(format!("{}{sent}", post("Content-Length: 5\r\n")).as_bytes()).await.unwrap();
        let (_, body) = request(&transport).await;
        drop(body);
        assert_eq!(transport.borrow_mut().begin_answer(), follows);
    }
}

#[tokio::test]
async fn a_body_outlives_neither_its_client_nor_its_connection() {
    let (transport, mut far) = open();
    far.write_all(format!("{}he", post("Content-Length: 5\r\n")).as_bytes()).await.unwrap();
    let (_, mut body) = request(&transport).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "he");
    drop(far);
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());

    let (transport, mut far) = open();
    far.write_all(post("Content-Length: 5\r\n").as_bytes()).await.unwrap();
    let (_, mut body) = request(&transport).await;
    let end = async {
        tokio::task::yield_now().await;
        transport.borrow_mut().end();
    };
    let (frame, ()) = tokio::join!(body.frame(), end);
    assert!(frame.unwrap().is_err());
}

#[tokio::test]
async fn who_waits_for_a_body_learns_that_it_was_let_go() {
    for whole in [true, false] {
        let (transport, mut far) = open();
        far.write_all(post("Content-Length: 5\r\n").as_bytes()).await.unwrap();
        let (_, mut body) = request(&transport).await;
        let holder = async {
            if whole {
                far.write_all(b"hello").await.unwrap();
                (&mut body).collect().await.unwrap();
            }
            drop(body);
        };
        let wait = poll_fn(|cx| transport.borrow_mut().poll_read_to_end(cx));
        let (read, ()) = tokio::join!(wait, holder);
        assert_eq!(read, whole);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_and_one_that_goes_on_is_not_lost() {
    let (transport, mut far) = open();
    far.write_all(post("").as_bytes()).await.unwrap();
    let _ = request(&transport).await;
    far.write_all(b"GET /next HTTP/1.1\r\n\r\n").await.unwrap();
    let gone = poll_fn(|cx| Poll::Ready(transport.borrow_mut().poll_gone(cx))).await;
    assert!(gone.is_pending());
    assert_eq!(head(&transport).await.unwrap().unwrap().parts.uri, "/next");
    drop(far);
    poll_fn(|cx| transport.borrow_mut().poll_gone(cx)).await;
    assert!(matches!(head(&transport).await, Ok(None)));
}

#[tokio::test]
async fn idle_connections_hold_little() {
    let (transport, mut far) = open();
    let size = 1 << 20;
    let sending = tokio::spawn(async move {
        far.write_all(post(&format!("Content-Length: {size}\r\n")).as_bytes()).await.unwrap();
        far.write_all(&vec![b'x'; size]).await.unwrap();
        far
    });
    let (_, body) = request(&transport).await;
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), size);
    let _far = sending.await.unwrap();
    transport.borrow_mut().shrink();
    assert!(transport.borrow().capacity() <= 4096);
}

#[tokio::test]
async fn partial_writes_lose_and_repeat_nothing() {
    let (near, mut far) = tokio::io::duplex(7);
    let transport = Rc::new(RefCell::new(Transport::new(near, LIMITS)));
    let large = vec![b'l'; 10_000];
    {
        let output = &mut transport.borrow_mut().output;
        output.text().extend_from_slice(b"head ");
        output.put("small ".into(), b"after ");
        output.put(large.clone().into(), b" end");
    }
    let write = async {
        poll_fn(|cx| transport.borrow_mut().poll_flush(cx)).await.unwrap();
        transport.borrow_mut().end();
    };
    let mut got = Vec::new();
    let (_, count) = tokio::join!(write, far.read_to_end(&mut got));
    assert_eq!(count.unwrap(), 5 + 12 + large.len() + 4);
    assert_eq!(got, [&b"head small after "[..], &large, b" end"].concat());
}
