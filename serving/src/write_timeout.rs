//! A stream that gives up on a client which does not read. A client that reads nothing, or a byte now and then,
//! would otherwise hold its slot and its answer for ever.
//!
//! A write may wait [`AT_FIRST`], and a second more for each [`A_SECOND`] bytes that the client took, up to
//! [`MOST`]; then the stream breaks. A client that keeps up is never cut off, however long the answer.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may at first leave an answer unread.
const AT_FIRST: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 12 });
/// The longest wait, however much the client has taken.
const MOST: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });
/// The client gets one more second for each of so many bytes.
const A_SECOND: usize = 16 * 1024;

/// A stream whose writes time out.
pub(crate) struct WriteTimeout<S> {
    stream: S,
    /// How much longer the client may keep writes waiting.
    left: Duration,
    /// When the present wait began.
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> WriteTimeout<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, left: AT_FIRST, since: None, timer: Box::pin(sleep(AT_FIRST)) }
    }

    fn wrote(&mut self, written: Poll<Result<usize>>, context: &mut Context<'_>) -> Poll<Result<usize>> {
        if let Poll::Ready(written) = written {
            let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            let taken = written.as_ref().map_or(0, |bytes| *bytes);
            let more = Duration::from_secs(1).mul_f64(taken as f64 / A_SECOND as f64);
            self.left = (self.left.saturating_sub(waited) + more).min(MOST);
            return Poll::Ready(written);
        }
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            self.timer.as_mut().reset(now + self.left);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_never_reads_is_given_up_and_one_that_reads_a_byte_now_and_then_too() {
        for pause in [Duration::from_hours(1), Duration::from_millis(100)] {
            let (near, mut far) = duplex(1_024);
            let mut near = WriteTimeout::new(near);
            let drip = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(pause).await;
                    if far.read_u8().await.is_err() {
                        return;
                    }
                }
            });
            let began = Instant::now();
            let ended = near.write_all(&vec![0; 1 << 20]).await.expect_err("no end");
            assert_eq!(ended.kind(), ErrorKind::TimedOut);
            assert!(began.elapsed() < 2 * AT_FIRST, "{:?}", began.elapsed());
            drip.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_keeps_on_has_all_of_a_long_answer() {
        let (near, mut far) = duplex(1_024);
        let mut near = WriteTimeout::new(near);
        let reader = tokio::spawn(async move {
            let (mut all, mut part) = (0, vec![0; 4_096]);
            loop {
                // 40 KB a second.
                tokio::time::sleep(Duration::from_millis(25)).await;
                match far.read(&mut part).await.unwrap() {
                    0 => return all,
                    read => all += read,
                }
            }
        });
        near.write_all(&vec![0; 8 << 20]).await.unwrap();
        near.shutdown().await.unwrap();
        drop(near);
        assert_eq!(reader.await.unwrap(), 8 << 20);
    }
}
