//! What carries a client's bytes: the socket alone, or TLS on it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::proxy::gather;

use super::watch::Watch;

/// A connection in the clear or by TLS.
pub(super) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What a look at a client's next words finds.
pub(super) enum Peek {
    /// There are some.
    More,
    /// There will be none: the client has gone.
    End,
}

impl Transport {
    pub(super) fn plain(tcp: TcpStream, watch: &Rc<Watch>) -> Transport {
        Transport::Plain(Socket { tcp, watch: Rc::clone(watch) })
    }

    /// Begins TLS on the socket.
    pub(super) fn handshake(
        tcp: TcpStream,
        acceptor: TlsAcceptor,
        watch: &Rc<Watch>,
    ) -> Pin<Box<dyn Future<Output = io::Result<Transport>>>> {
        let socket = Socket { tcp, watch: Rc::clone(watch) };
        Box::pin(async move { Ok(Transport::Tls(Box::new(acceptor.accept(socket).await?))) })
    }

    /// Ready when there is something to read, or the end.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Transport::Plain(socket) => socket.tcp.poll_read_ready(cx).map(drop),
            // What was read from the socket may have been decrypted already, and may be no word of the client's at all.
            Transport::Tls(tls) => Pin::new(tls).poll_fill_buf(cx).map(drop),
        }
    }

    /// Looks at what comes next, and leaves it where it is.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Peek> {
        match self {
            Transport::Plain(socket) => socket.poll_peek(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_fill_buf(cx).map(|next| match next {
                Ok([]) | Err(_) => Peek::End,
                Ok(_) => Peek::More,
            }),
        }
    }

    /// Ends a connection on which nothing is on its way: by TLS the client is told, as far as the socket takes it at once.
    pub(super) fn leave(mut self) {
        if let Transport::Tls(tls) = &mut self {
            let _ = Pin::new(tls).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }
}

/// A client's socket. It tells the watch whether what is written gets on its way: below TLS, which would take a little more
/// from us though its client reads nothing.
pub(super) struct Socket {
    tcp: TcpStream,
    watch: Rc<Watch>,
}

impl Socket {
    fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Peek> {
        if self.tcp.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let mut byte = [0];
        self.tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map(|peeked| match peeked {
            Ok(0) | Err(_) => Peek::End,
            Ok(_) => Peek::More,
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.watch.wrote(polled.is_pending());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = gather::poll_write(&mut self.tcp, cx, bufs);
        self.watch.wrote(polled.is_pending());
        polled
    }
}
