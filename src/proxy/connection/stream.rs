//! A client's connection, as hyper gets it: it tells the watch what happens, answers in our words where hyper would
//! answer in none, and lingers when it ends.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::model::Denial;
use crate::proxy::gateway::Gateway;

use super::transport::{Peek, Transport};
use super::watch::Watch;

/// How much is still read, and how long, after the last answer of a connection was written.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A client's connection, in the clear or by TLS.
pub(super) struct WatchedStream {
    inner: Transport,
    watch: Rc<Watch>,
    gateway: Rc<Gateway>,
    /// What is written in place of hyper's words, and how much of it was.
    last_words: Vec<u8>,
    said: usize,
    linger: Option<Linger>,
}

impl WatchedStream {
    pub(super) fn new(inner: Transport, watch: Rc<Watch>, gateway: Rc<Gateway>) -> WatchedStream {
        WatchedStream { inner, watch, gateway, last_words: Vec::new(), said: 0, linger: None }
    }

    /// What it is carried by, alone.
    pub(super) fn into_inner(self) -> Transport {
        self.inner
    }

    /// Ready when there is something to read, or the end.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_readable(cx)
    }

    /// hyper answers what it cannot read with a bare status, which no client of the API understands: it is held back,
    /// and our own answer takes its place.
    fn replaces(&mut self, written: &[u8]) -> bool {
        if !self.watch.is_reading_head() {
            return false;
        }
        let Some(denial) = bare_refusal(written) else { return false };
        self.watch.begin_closing();
        self.last_words = self.gateway.refuse_unread(denial);
        true
    }

    /// Whether the client has gone, though the answer to its request is not through. What it sent ahead does not count.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.watch.waits_for_answer() {
            return false;
        }
        match self.inner.poll_peek(cx) {
            Poll::Ready(Peek::End) => true,
            Poll::Ready(Peek::More) => {
                self.watch.has_sent_ahead();
                false
            }
            Poll::Pending => false,
        }
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.said < self.last_words.len() {
            let rest = &self.last_words[self.said..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.said += written;
        }
        Poll::Ready(Ok(()))
    }
}

/// What hyper means, if `written` is an answer that it gave by itself. Every answer of ours has a request id.
fn bare_refusal(written: &[u8]) -> Option<Denial> {
    const LONGEST: usize = 256;
    let status = written.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    let text = std::str::from_utf8(written)
        .ok()
        .filter(|text| text.len() < LONGEST && text.ends_with("\r\n\r\n"))?;
    if text.contains("x-request-id") || !text.contains("content-length: 0\r\n") {
        return None;
    }
    match status {
        // 414 is about the target, which counts as part of the head here.
        b"31" | b"14" => Some(Denial::HeadersTooLarge),
        _ => Some(Denial::BadRequest),
    }
}

/// The end of a connection whose client may still be writing. If the socket were closed now, what the client wrote
/// would be answered by a reset, and the reset would take away the answer that it has not read yet.
struct Linger {
    deadline: Pin<Box<Sleep>>,
    budget: usize,
}

impl Linger {
    fn begin() -> Linger {
        Linger { deadline: Box::pin(tokio::time::sleep(LINGER_TIME)), budget: LINGER_BYTES }
    }

    /// Ready when the client is through, or was given long enough.
    fn poll(&mut self, stream: &mut Transport, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 8 * 1024];
        while self.budget > 0 && self.deadline.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {
                    self.budget = self.budget.saturating_sub(read.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.watch.read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_gone(cx) {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        ready!(self.poll_last_words(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.begin_closing();
        ready!(self.poll_last_words(cx))?;
        let Self { inner, linger, .. } = &mut *self;
        if linger.is_none() {
            ready!(Pin::new(&mut *inner).poll_shutdown(cx))?;
        }
        linger.get_or_insert_with(Linger::begin).poll(inner, cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && self.replaces(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_hyper_gave_by_itself_is_replaced() {
        let bare = |status: &str| {
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n")
        };
        assert_eq!(bare_refusal(bare("400 Bad Request").as_bytes()), Some(Denial::BadRequest));
        let too_large = bare("431 Request Header Fields Too Large");
        assert_eq!(bare_refusal(too_large.as_bytes()), Some(Denial::HeadersTooLarge));
        assert_eq!(bare_refusal(bare("414 URI Too Long").as_bytes()), Some(Denial::HeadersTooLarge));
        assert_eq!(bare_refusal(bare("200 OK").as_bytes()), None);
        let upstreams = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nx-request-id: req_1\r\n\r\n";
        assert_eq!(bare_refusal(upstreams.as_bytes()), None);
    }
}
