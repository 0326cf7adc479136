//! Certificates that change while the gateway runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustls::pki_types::CertificateDer;

use super::{Secured, TlsClient};
use crate::support::wait::PATIENCE;
use crate::support::{Gateway, Request, Upstream, eventually};

const EXPIRY: &str = "keygate_tls_certificate_expiry_timestamp_seconds";
const USABLE: &str = "keygate_tls_files_usable";
/// The first days of 2080 and of 2070, in seconds since 1970.
const YEAR_2080: f64 = 3_471_292_800.0;
const YEAR_2070: f64 = 3_155_760_000.0;

/// Whether the traffic should end.
#[derive(Default)]
struct Over(AtomicBool);

/// Ends the traffic when it is dropped.
struct End<'a>(&'a Over);

impl Over {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn guard(&self) -> End<'_> {
        End(self)
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

fn told(gateway: &Gateway, metric: &str) -> f64 {
    gateway.metrics().sum(metric, &[r#"listener="gateway""#])
}

fn shown(gateway: &Gateway, client: &TlsClient) -> CertificateDer<'static> {
    client.connect(gateway.address()).certificate()
}

#[test]
fn a_new_certificate_is_shown_to_who_connects_and_no_request_is_lost() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).set("KEYGATE_WORKERS", "2").start();
    let key = gateway.live_key();
    let client = secured.client();
    let request = Request::get("/").key(&key);
    assert_eq!(told(&gateway, EXPIRY), YEAR_2080);
    let mut kept = client.connect(gateway.address());
    let old = kept.certificate();
    let over = Over::default();
    thread::scope(|scope| {
        // Also where something fails.
        let end = over.guard();
        let traffic = scope.spawn(|| {
            let mut asked = 0;
            while !over.is_set() {
                client.connect(gateway.address()).ask(&request).assert_forwarded();
                kept.ask(&request).assert_forwarded();
                asked += 1;
            }
            asked
        });
        for year in [2070, 2060, 2050] {
            let pair = secured.authority.server(year);
            secured.files.swap(&pair.certificate_pem, &pair.key_pem);
            // The same client resumes no session of the certificate before.
            eventually("the new one is shown", PATIENCE, || shown(&gateway, &client) == pair.certificate);
            if year == 2070 {
                assert_eq!(told(&gateway, EXPIRY), YEAR_2070);
            }
        }
        drop(end);
        assert!(traffic.join().unwrap() > 10);
    });
    assert_eq!(kept.certificate(), old);
    kept.ask(&request).assert_forwarded();
}

#[test]
fn a_broken_pair_leaves_the_one_before_in_use_and_is_told() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let gateway = secured.before(&upstream).start();
    let key = gateway.live_key();
    let client = secured.client();
    let old = shown(&gateway, &client);
    assert_eq!(told(&gateway, USABLE), 1.0);
    let (new, other) = (secured.authority.server(2070), secured.authority.server(2070));
    for (certificate, key_pem, said) in [
        (new.certificate_pem.as_str(), other.key_pem.as_str(), "is not the key of"),
        ("", new.key_pem.as_str(), "holds no certificate"),
    ] {
        secured.files.swap(certificate, key_pem);
        eventually("it is told", PATIENCE, || {
            let log = gateway.output();
            told(&gateway, USABLE) == 0.0 && String::from_utf8_lossy(&log).contains(said)
        });
        let mut connection = client.connect(gateway.address());
        assert_eq!(connection.certificate(), old);
        connection.ask(&Request::get("/").key(&key)).assert_forwarded();
        assert_eq!(told(&gateway, EXPIRY), YEAR_2080);
    }
    let log = String::from_utf8_lossy(&gateway.output()).into_owned();
    assert!(other.key_pem.lines().all(|line| line.len() < 30 || !log.contains(line)), "{log}");

    secured.files.swap(&new.certificate_pem, &new.key_pem);
    eventually("the good one is shown", PATIENCE, || shown(&gateway, &client) == new.certificate);
    assert_eq!((told(&gateway, USABLE), told(&gateway, EXPIRY)), (1.0, YEAR_2070));
}
