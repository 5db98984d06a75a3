//! A TCP stream for a conversation that begins in plain text and goes on in TLS (RFC 3207).
//!
//! Who sits between us and the server can send more than an answer before TLS begins: lettre (0.11) keeps what it has read
//! in a buffer across the change, and would take it for what the server said under TLS (CVE-2011-0411, CVE-2021-38371). So
//! this stream gives out one line at a time, and ends the connection when anything stands behind the answer to STARTTLS, or
//! came before it was asked for. What comes later meets TLS, which refuses it.
//!
//! Never: a byte of plain text in the buffer of who speaks TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at once before TLS.
const CHUNK: usize = 1024;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In plain text.
    Plain,
    /// STARTTLS was sent, its answer is awaited.
    Asked,
    /// All that comes now is TLS's.
    Through,
    /// Somebody may be between: nothing is read or written any more.
    Ended,
}

/// The stream.
#[derive(Debug)]
pub(super) struct Lines {
    stream: TcpStream,
    way: Way,
    /// What was read and not given out.
    held: Vec<u8>,
    /// The line that is being given out, as far as it came.
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, way: Way::Plain, held: Vec::new(), line: Vec::new() }
    }

    /// Gives out of what is held at most the rest of a line.
    fn give(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        let end = self.held.iter().position(|byte| *byte == b'\n').map_or(self.held.len(), |at| at + 1);
        let given: Vec<u8> = self.held.drain(..end.min(into.remaining())).collect();
        self.line.extend_from_slice(given.get(..given.len().min(8)).unwrap_or_default());
        if given.ends_with(b"\n") {
            // The last line of an answer has no `-` behind its code.
            let last = self.line.get(3) != Some(&b'-');
            self.line.clear();
            if self.way == Way::Asked && last {
                if !self.held.is_empty() {
                    return Err(self.end());
                }
                self.way = Way::Through;
            }
        }
        into.put_slice(&given);
        Ok(())
    }

    fn end(&mut self) -> io::Error {
        self.way = Way::Ended;
        let why = "plain text stands beside the answer to STARTTLS: somebody may be between";
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl AsyncRead for Lines {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.way {
            Way::Through => return Pin::new(&mut self.stream).poll_read(cx, into),
            Way::Ended => return Poll::Ready(Err(self.end())),
            Way::Plain | Way::Asked => {}
        }
        if self.held.is_empty() {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            self.held.extend_from_slice(chunk.filled());
        }
        Poll::Ready(self.give(into))
    }
}

impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.way == Way::Ended {
            return Poll::Ready(Err(self.end()));
        }
        if self.way == Way::Plain && bytes.eq_ignore_ascii_case(b"STARTTLS\r\n") {
            if !self.held.is_empty() {
                return Poll::Ready(Err(self.end()));
            }
            self.way = Way::Asked;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Lines {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
