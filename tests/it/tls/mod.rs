//! TLS on our own listeners, spoken to by rustls and by OpenSSL.

mod admin;
mod certificates;
mod client;
mod connections;
mod reload;

use certificates::{Authority, Files};
use client::TlsClient;

use crate::support::{Gateway, GatewayBuilder, Upstream};

/// A gateway that speaks TLS where clients connect, and what its certificate is vouched for by.
struct Secured {
    authority: Authority,
    files: Files,
}

impl Secured {
    fn new() -> Secured {
        let authority = Authority::new();
        let files = Files::holding(&authority.server(2080));
        Secured { authority, files }
    }

    fn before(&self, upstream: &Upstream) -> GatewayBuilder {
        let (certificate, key) = self.files.settings();
        Gateway::builder()
            .live(upstream)
            .set("KEYGATE_TLS__CERTIFICATE", &certificate)
            .set("KEYGATE_TLS__KEY", &key)
    }

    fn client(&self) -> TlsClient {
        TlsClient::trusting(&self.authority)
    }
}
