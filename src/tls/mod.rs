//! TLS on our own listeners: what a listener proves itself with, kept as its files are.
//!
//! rustls on ring, TLS 1.2 and 1.3, and HTTP/1.1 as the only protocol inside. A connection takes what holds when it comes in and
//! keeps it until its end; the files are looked at every few seconds, and a pair that cannot be used changes nothing.

mod pair;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::config::TlsFiles;
use crate::observe::Metrics;
use crate::observe::metrics::TlsListener;

use pair::{Contents, Stamp};
pub use pair::{Pair, PairError};

/// How often the files are looked at. They are small, and what they hold is compared: a date says little where links are swapped.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Files that are just being replaced do not fit together for a moment: what is wrong is told if the next look finds the same.
const TOLD_AT: u32 = 2;
/// The only protocol that is spoken inside.
const HTTP_1_1: &[u8] = b"http/1.1";

/// What one listener proves itself with.
pub struct Identity {
    listener: TlsListener,
    files: TlsFiles,
    current: ArcSwap<Current>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

struct Current {
    config: Arc<ServerConfig>,
    stamp: Stamp,
}

impl Identity {
    /// Reads `files` for the first time.
    ///
    /// # Errors
    /// They cannot be used; the error names the setting and the file.
    pub fn open(
        listener: TlsListener,
        files: TlsFiles,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Identity>, PairError> {
        let pair = Pair::read(listener, &files)?;
        let expires_at = pair.expires_at;
        let current = ArcSwap::from_pointee(Current::of(pair));
        let identity = Identity { listener, files, current, clock, metrics };
        identity.tell_files_usable(true);
        identity.tell_expiry(expires_at);
        Ok(Arc::new(identity))
    }

    /// For a connection that comes in now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// A client did not get through its handshake.
    pub fn handshake_failed(&self, error: &std::io::Error) {
        self.metrics.tls_handshake_failed(self.listener);
        tracing::debug!(listener = self.listener.as_str(), %error, "a TLS handshake failed");
    }

    /// Looks at the files for ever, and takes what they hold when that has changed and can be used. Who connects from then on gets it; who
    /// is connected goes on as before.
    pub async fn keep_current(self: Arc<Self>) {
        let mut trouble = Trouble::default();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let looking = Arc::clone(&self);
            // Files may lie where reading them takes long.
            if let Ok(found) = tokio::task::spawn_blocking(move || looking.look()).await {
                self.judge(found, &mut trouble);
            }
        }
    }

    /// What the files hold, if that is not what is in use.
    fn look(&self) -> Result<Option<Pair>, PairError> {
        let contents = Contents::read(self.listener, &self.files)?;
        if contents.stamp() == self.current.load().stamp {
            return Ok(None);
        }
        contents.pair(self.listener, &self.files).map(Some)
    }

    fn judge(&self, found: Result<Option<Pair>, PairError>, trouble: &mut Trouble) {
        match found {
            Ok(None) => {}
            Ok(Some(pair)) => {
                let expires_at = pair.expires_at;
                self.current.store(Arc::new(Current::of(pair)));
                tracing::info!(listener = self.listener.as_str(), %expires_at, "a new certificate is in use");
                self.tell_expiry(expires_at);
            }
            Err(error) => {
                if trouble.again(error.to_string()) == TOLD_AT {
                    self.tell_files_usable(false);
                    tracing::error!(%error, "a new certificate cannot be used; the one before stays in use");
                }
                return;
            }
        }
        if trouble.is_over() {
            self.tell_files_usable(true);
        }
    }

    fn tell_files_usable(&self, usable: bool) {
        self.metrics.tls_files_are_usable(self.listener, usable);
    }

    fn tell_expiry(&self, expires_at: crate::model::Timestamp) {
        self.metrics.tls_certificate_expires(self.listener, expires_at.as_millis() as f64 / 1_000.0);
        if expires_at <= self.clock.now().wall {
            tracing::warn!(listener = self.listener.as_str(), %expires_at, "the certificate has expired: clients refuse it");
        }
    }
}

impl Current {
    fn of(pair: Pair) -> Current {
        let Pair { key, stamp, .. } = pair;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            // With the certificate goes what clients resume sessions by: a new one is shown to everybody.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Current { config: Arc::new(config), stamp }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What was wrong at the last look, and at how many looks in a row.
#[derive(Default)]
struct Trouble {
    what: String,
    looks: u32,
}

impl Trouble {
    /// At how many looks it was so by now.
    fn again(&mut self, what: String) -> u32 {
        self.looks = if self.what == what { self.looks.saturating_add(1) } else { 1 };
        self.what = what;
        self.looks
    }

    /// Whether there was any.
    fn is_over(&mut self) -> bool {
        std::mem::take(self).looks > 0
    }
}
