//! A client that speaks TLS by rustls.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use socket2::{Domain, Socket, Type};

use crate::support::wait::PATIENCE;
use crate::support::{Answer, Request};

use super::certificates::Authority;

/// How a client connects.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

/// A connection by TLS.
pub struct TlsConnection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsClient {
    /// Both versions, HTTP/1.1 and HTTP/2 offered.
    pub fn trusting(authority: &Authority) -> TlsClient {
        TlsClient::speaking(authority, rustls::ALL_VERSIONS, &["h2", "http/1.1"])
    }

    pub fn speaking(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).expect("it is a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsClient { config: Arc::new(config) }
    }

    pub fn connect(&self, address: SocketAddr) -> TlsConnection {
        self.try_connect(address).expect("the handshake succeeds")
    }

    /// Connects, and shakes hands.
    pub fn try_connect(&self, address: SocketAddr) -> io::Result<TlsConnection> {
        self.shake_hands(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects by a socket that takes only a few kilobytes at a time.
    pub fn connect_narrowly(&self, address: SocketAddr) -> TlsConnection {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.set_recv_buffer_size(4096).expect("it can be narrow");
        socket.connect(&address.into()).expect("the gateway accepts connections");
        self.shake_hands(socket.into()).expect("the handshake succeeds")
    }

    fn shake_hands(&self, tcp: TcpStream) -> io::Result<TlsConnection> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(2 * PATIENCE))?;
        tcp.set_write_timeout(Some(2 * PATIENCE))?;
        let name = ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
        let session = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsConnection { stream: BufReader::new(stream) })
    }
}

impl TlsConnection {
    fn session(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }

    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session().protocol_version()
    }

    pub fn protocol(&self) -> Option<&[u8]> {
        self.session().alpn_protocol()
    }

    /// What the server showed.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let shown = self.session().peer_certificates().expect("it showed some");
        shown[0].clone().into_owned()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the gateway reads what is sent to it");
    }

    /// In as few records as it fits into.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref())?;
        stream.flush()
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("the gateway answers")
    }

    pub fn try_answer(&mut self) -> io::Result<Answer> {
        Answer::read(&mut self.stream, false)
    }

    pub fn ask(&mut self, request: &Request) -> Answer {
        self.try_ask(request).expect("the gateway answers")
    }

    pub fn try_ask(&mut self, request: &Request) -> io::Result<Answer> {
        self.try_send(request.to_bytes())?;
        self.try_answer()
    }

    /// That the gateway ends the connection, and says by TLS that it does.
    #[track_caller]
    pub fn assert_ended_in_order(&mut self) {
        let mut rest = Vec::new();
        let ended = self.stream.read_to_end(&mut rest);
        assert_eq!(ended.expect("the end is announced"), 0, "{}", String::from_utf8_lossy(&rest));
    }

    /// Says that nothing more comes, as a browser does that closes; with `abruptly`, hangs up instead.
    pub fn leave(mut self, abruptly: bool) {
        let stream = self.stream.get_mut();
        if abruptly {
            stream.sock.shutdown(Shutdown::Both).expect("the socket is open");
        } else {
            stream.conn.send_close_notify();
            stream.flush().expect("the gateway reads");
            // The socket itself stays open: the gateway has to understand the words.
            std::mem::forget(self);
        }
    }
}
