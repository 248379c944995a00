//! The rest of a request whose answer came early.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http_body::Body as _;
use tokio::sync::oneshot;

use super::outgoing::Outgoing;
use crate::upstream::body::RequestBody;
use crate::upstream::connect::Stream;

/// How long a client may go on to send what nobody wants. Closed at once, many would never see the
/// answer: what is still on its way to us makes the close a reset.
const LINGER: Duration = Duration::from_secs(30);

/// The task that sends the rest; it stops to send when this is dropped.
#[derive(Debug)]
pub(super) struct Rest {
    sent: Rc<Cell<bool>>,
    _answering: oneshot::Sender<()>,
}

impl Rest {
    /// Sends `body` on `stream`; `out` is `None` when the app takes no more of it.
    pub(super) fn send(
        stream: Rc<RefCell<Stream>>,
        out: Option<Outgoing>,
        mut body: RequestBody,
    ) -> Self {
        let (answering, answered) = oneshot::channel();
        let sent = Rc::new(Cell::new(false));
        let told = Rc::clone(&sent);
        tokio::task::spawn_local(async move {
            if let Some(mut out) = out {
                let sending = poll_fn(|cx| out.poll(cx, &mut *stream.borrow_mut(), &mut body));
                tokio::select! {
                    result = sending => match result {
                        Ok(()) => return told.set(true),
                        Err(stopped) => tracing::debug!(?stopped, "the rest of a request"),
                    },
                    _ = answered => {}
                }
            }
            drop(stream);
            let _ = tokio::time::timeout(LINGER, discard(body)).await;
        });
        Self { sent, _answering: answering }
    }

    /// Whether all of the request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.get()
    }
}

/// Reads to the end, at the pace that a request's body must have.
async fn discard(mut body: RequestBody) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}
