//! Tells whether a request's body was handed to a connection: from then on the message may have arrived.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A flag that is set once the body of the latest request is handed to a connection.
#[derive(Default)]
pub(super) struct BodySent(Arc<AtomicBool>);

impl BodySent {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Makes the body of the next request, and clears the flag, since an earlier request was answered.
    pub(super) fn body(&self, bytes: Bytes) -> reqwest::Body {
        self.0.store(false, Ordering::Release);
        reqwest::Body::wrap(MarkedBody { bytes: Some(bytes), sent: Arc::clone(&self.0) })
    }
}

struct MarkedBody {
    bytes: Option<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Body for MarkedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
