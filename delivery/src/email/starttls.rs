//! A TCP stream for an SMTP conversation that begins in plain text and goes on in TLS (RFC 3207).
//!
//! An attacker between us and the server can send more than the answer before TLS begins. lettre (0.11) keeps what it has
//! read in a buffer when it changes to TLS, and would take it for what the server said under TLS (CVE-2011-0411,
//! CVE-2021-38371). So this stream gives out one line at a time. It ends the connection if anything comes after the answer to
//! STARTTLS, or if unread text is there when STARTTLS is sent. Plain text that comes later reaches TLS, which refuses it. So
//! no byte of plain text is in lettre's buffer when TLS begins.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at once before TLS.
const CHUNK: usize = 1024;

/// How far the change to TLS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TlsState {
    /// In plain text.
    Plain,
    /// STARTTLS was sent; its answer is awaited.
    Requested,
    /// STARTTLS was answered: everything that comes now is for TLS.
    Established,
    /// There may be an attacker: nothing is read or written any more.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub(super) struct StartTlsStream {
    stream: TcpStream,
    state: TlsState,
    /// What was received and not given out yet.
    unread: Vec<u8>,
    /// The beginning of the line that is being given out.
    line: Vec<u8>,
}

impl StartTlsStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, state: TlsState::Plain, unread: Vec::new(), line: Vec::new() }
    }

    /// Gives out unread bytes, at most to the end of the line.
    fn give_line(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        let end = self.unread.iter().position(|byte| *byte == b'\n').map_or(self.unread.len(), |at| at + 1);
        let given: Vec<u8> = self.unread.drain(..end.min(into.remaining())).collect();
        self.line.extend_from_slice(given.get(..given.len().min(8)).unwrap_or_default());
        if given.ends_with(b"\n") {
            // The last line of an answer has no `-` after its code.
            let last = self.line.get(3) != Some(&b'-');
            self.line.clear();
            if self.state == TlsState::Requested && last {
                if !self.unread.is_empty() {
                    return Err(self.refuse());
                }
                self.state = TlsState::Established;
            }
        }
        into.put_slice(&given);
        Ok(())
    }

    fn refuse(&mut self) -> io::Error {
        self.state = TlsState::Refused;
        let why = "plain text stands beside the answer to STARTTLS: somebody may be between";
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl AsyncRead for StartTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.state {
            TlsState::Established => return Pin::new(&mut self.stream).poll_read(cx, into),
            TlsState::Refused => return Poll::Ready(Err(self.refuse())),
            TlsState::Plain | TlsState::Requested => {}
        }
        if self.unread.is_empty() {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            self.unread.extend_from_slice(chunk.filled());
        }
        Poll::Ready(self.give_line(into))
    }
}

impl AsyncWrite for StartTlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.state == TlsState::Refused {
            return Poll::Ready(Err(self.refuse()));
        }
        if self.state == TlsState::Plain && bytes.eq_ignore_ascii_case(b"STARTTLS\r\n") {
            if !self.unread.is_empty() {
                return Poll::Ready(Err(self.refuse()));
            }
            self.state = TlsState::Requested;
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

impl AsyncTokioStream for StartTlsStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
