//! Answers on a connection over a real socket: what is body, and whether the connection is kept.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::super::head::Sending;
use super::super::{Broken, Connection, READ, READ_MOST, ResponseBody};
use crate::headers::AnswerHead;
use crate::upstream::body::RequestBody;
use crate::upstream::connect::Stream;
use crate::upstream::{Error, Failure};

/// A connection, and the app at its other end.
async fn connected() -> (Box<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (app, _) = listener.accept().await.unwrap();
    client.set_nodelay(true).unwrap();
    app.set_nodelay(true).unwrap();
    (Box::new(Connection::new(Stream::Plain(client))), app)
}

fn begin(connection: &mut Connection) {
    let head = b"GET / HTTP/1.1\r\n\r\n";
    connection.out.begin(Sending::Nothing, |out| out.extend_from_slice(head));
    (connection.reader, connection.deaf) = Default::default();
}

async fn ask(
    mut connection: Box<Connection>,
    method: Method,
) -> Result<(Box<AnswerHead>, ResponseBody), Failure> {
    begin(&mut connection);
    let mut body = RequestBody::empty();
    let begun = poll_fn(|cx| connection.poll_answer(cx, &mut body, &method, &mut |_| {})).await?;
    Ok(connection.into_body(begun, body))
}

/// The body up to its end or what broke it, and the connection if it may be used again.
async fn drained(mut body: ResponseBody) -> (Vec<u8>, Option<Broken>, Option<Box<Connection>>) {
    let mut data = Vec::new();
    loop {
        match body.frame().await {
            Some(Ok(frame)) => data.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Some(Err(error)) => return (data, Some(error), body.reusable()),
            None => {
                assert!(body.frame().await.is_none(), "something behind the end");
                return (data, None, body.reusable());
            }
        }
    }
}

/// Waits until the connection has noticed what the app did.
async fn noticed(connection: &Connection) {
    for _ in 0..1000 {
        if !connection.is_quiet() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    panic!("the connection is still quiet");
}

#[tokio::test]
async fn only_exactly_one_answer_gives_the_connection_back() {
    let five = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (method, answer, body, kept) in [
        ("GET", format!("{five}hello"), "hello", true),
        ("GET", format!("{five}hello!"), "hello", false),
        ("GET", format!("{five}hello\r\n"), "hello", false),
        ("GET", format!("{five}hello{five}hello"), "hello", false),
        ("GET", format!("{chunks}5\r\nhello\r\n0\r\n\r\n"), "hello", true),
        ("GET", format!("{chunks}5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "hello", true),
        ("GET", format!("{chunks}5\r\nhello\r\n0\r\n\r\n\r\n"), "hello", false),
        ("GET", format!("{chunks}0\r\n\r\n"), "", true),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "", true),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nhello".to_owned(), "", false),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_owned(), "", false),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_owned(), "", true),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nhello".to_owned(), "", false),
        ("HEAD", five.to_owned(), "", true),
        ("HEAD", format!("{five}hello"), "", false),
        ("HEAD", chunks.to_owned(), "", true),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n".to_owned(), "", true),
        ("GET", format!("HTTP/1.1 103 E\r\n\r\n{five}hello"), "hello", true),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello", false),
        ("GET", five.replace("OK\r\n", "OK\r\nConnection: close\r\n") + "hello", "hello", false),
    ] {
        let (connection, mut app) = connected().await;
        app.write_all(answer.as_bytes()).await.unwrap();
        let (_, got) = ask(connection, method.parse().unwrap()).await.unwrap();
        let (data, broken, connection) = drained(got).await;
        assert!(broken.is_none(), "{method} {answer:?}: {broken:?}");
        assert_eq!(data, body.as_bytes(), "{method} {answer:?}");
        assert_eq!(connection.is_some(), kept, "{method} {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_broken_and_its_connection_gone() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx",
    ] {
        let (connection, mut app) = connected().await;
        app.write_all(answer.as_bytes()).await.unwrap();
        drop(app);
        let (_, got) = ask(connection, Method::GET).await.unwrap();
        let (data, broken, connection) = drained(got).await;
        assert!(broken.is_some() && connection.is_none(), "{answer:?}: {broken:?}");
        assert_eq!(data, b"hello", "{answer:?}");
    }
}

#[tokio::test]
async fn nothing_may_be_repeated_once_a_byte_of_an_answer_came() {
    for (bytes, started) in [
        ("", false),
        ("H", true),
        ("\r\n", true),
        ("HTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 100 Continue\r\n\r\n", true),
    ] {
        let (connection, mut app) = connected().await;
        app.write_all(bytes.as_bytes()).await.unwrap();
        app.shutdown().await.unwrap();
        let failure = ask(connection, Method::GET).await.unwrap_err();
        assert!(matches!(failure.error, Error::Reset), "{bytes:?}: {failure:?}");
        assert_eq!((failure.started, failure.unsent), (started, false), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_connection_is_quiet_until_something_comes() {
    let (connection, mut app) = connected().await;
    assert!(connection.is_quiet());
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    noticed(&connection).await;
    let (connection, app) = connected().await;
    drop(app);
    noticed(&connection).await;
    // Also after an answer that filled the memory to its last byte.
    let (connection, mut app) = connected().await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", READ);
    let answer = [head.as_bytes(), &[b'x'; READ]].concat();
    app.write_all(&answer).await.unwrap();
    let (_, got) = ask(connection, Method::GET).await.unwrap();
    let connection = drained(got).await.2.unwrap();
    assert!(connection.is_quiet());
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    noticed(&connection).await;
}

#[tokio::test]
async fn pieces_that_a_client_does_not_take_share_their_memory() {
    let (connection, mut app) = connected().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let (_, mut got) = ask(connection, Method::GET).await.unwrap();
    let mut held: Vec<Bytes> = Vec::new();
    for _ in 0..500 {
        app.write_all(b"8\r\nabcdefgh\r\n").await.unwrap();
        held.push(got.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    // 500 pieces of 13 bytes on the way, read one by one: not 500 times the room of a read.
    let neighbours = held.windows(2).filter(|two| {
        let (one, other) = (two[0].as_ptr().addr(), two[1].as_ptr().addr());
        one.abs_diff(other) < 64
    });
    assert!(neighbours.count() > 450, "each piece holds memory of its own");
}

#[tokio::test]
async fn reads_grow_with_what_the_app_sends_and_idle_connections_hold_little() {
    let (connection, mut app) = connected().await;
    let length = 8 << 20;
    let sending = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        app.write_all(head.as_bytes()).await.unwrap();
        app.write_all(&vec![b'x'; length]).await.unwrap();
        app
    });
    let (_, mut got) = ask(connection, Method::GET).await.unwrap();
    let (mut most, mut total) = (0, 0);
    while let Some(frame) = got.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        (most, total) = (most.max(data.len()), total + data.len());
    }
    assert_eq!(total, length);
    assert!((READ..=2 * READ_MOST).contains(&most), "{most}");
    let connection = got.reusable().unwrap();
    assert!(connection.room == READ && connection.read.capacity() <= READ);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_request_that_the_app_does_not_take_keeps_no_connection() {
    LocalSet::new()
        .run_until(async {
            let (mut connection, mut app) = connected().await;
            begin(&mut connection);
            // More than any socket takes.
            connection.out.begin(Sending::Nothing, |out| out.resize(64 << 20, b'x'));
            app.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n").await.unwrap();
            let mut body = RequestBody::empty();
            let method = Method::POST;
            let begun = poll_fn(|cx| connection.poll_answer(cx, &mut body, &method, &mut |_| {}))
                .await
                .unwrap();
            let (_, mut got) = connection.into_body(begun, body);
            // The rest goes out although nobody reads the answer.
            let mut seen = vec![0; 1 << 20];
            for _ in 0..32 {
                app.read_exact(&mut seen).await.unwrap();
            }
            app.write_all(b"no").await.unwrap();
            let frame = got.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "no");
            assert!(got.reusable().is_none(), "a request is half sent");
            drop(got);
            // And the connection is closed.
            let mut rest = Vec::new();
            let _ = app.read_to_end(&mut rest).await;
            assert!(rest.len() < 32 << 20, "all was sent");
        })
        .await;
}

#[tokio::test]
async fn what_could_not_be_begun_counts_as_unsent() {
    let (mut connection, _app) = connected().await;
    poll_fn(|cx| Pin::new(&mut *connection.stream.borrow_mut()).poll_shutdown(cx)).await.unwrap();
    begin(&mut connection);
    let mut body = RequestBody::empty();
    let method = Method::POST;
    let failure = poll_fn(|cx| connection.poll_answer(cx, &mut body, &method, &mut |_| {}))
        .await
        .unwrap_err();
    assert!(failure.unsent && !failure.started, "{failure:?}");
}
