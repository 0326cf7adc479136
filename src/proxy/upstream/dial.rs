//! New connections to an upstream, in the clear or by TLS.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::UpstreamUrl;
use crate::proxy::gather;

use super::wire::Wire;

/// Makes connections. Shared by all workers.
pub struct Dialer {
    tls: TlsConnector,
}

/// TLS to upstreams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of root certificates cannot be used.
    #[error("upstream.ca_file {path}: {source}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// One of its certificates cannot be a root.
    #[error("upstream.ca_file {path}: {source}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Connect(#[source] io::Error),
    #[error("not connected within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("not a name for TLS: {0}")]
    Name(#[source] rustls::pki_types::InvalidDnsNameError),
    #[error("{0}")]
    Handshake(#[source] hyper::Error),
}

impl Dialer {
    /// Trusts the certificates in `ca_file`, or else the system's.
    ///
    /// # Errors
    /// The file cannot be read or holds no usable certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Dialer, TlsError> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(path) => {
                let name = path.display().to_string();
                let certificates = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|source| TlsError::CaFile { path: name.clone(), source })?;
                for certificate in certificates {
                    roots
                        .add(certificate)
                        .map_err(|source| TlsError::Certificate { path: name.clone(), source })?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Dialer { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Connects within `limit` and gets ready to speak HTTP/1.1.
    pub(super) async fn dial(&self, url: &UpstreamUrl, limit: Duration) -> Result<Wire, DialError> {
        let stream = match tokio::time::timeout(limit, self.connect(url)).await {
            Ok(connected) => connected?,
            Err(_elapsed) => return Err(DialError::TimedOut(limit)),
        };
        let handshake = http1::Builder::new().max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(DialError::Handshake)?;
        Ok(Wire::new(sender, connection))
    }

    async fn connect(&self, url: &UpstreamUrl) -> Result<Stream, DialError> {
        let host = url.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, url.port)).await.map_err(DialError::Connect)?;
        tcp.set_nodelay(true).map_err(DialError::Connect)?;
        if !url.tls {
            return Ok(Stream::Plain(tcp));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(DialError::Name)?;
        let tls = self.tls.connect(name, tcp).await.map_err(DialError::Connect)?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

/// A connection in the clear or by TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => gather::poll_write(stream, cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}
