use std::fs;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::model::Timestamp;

/// Two files, and what is written into them.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.path("tls.pem"), key: self.path("tls.key") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, certificate: &str, key: &str) -> &Folder {
        fs::write(self.path("tls.pem"), certificate).unwrap();
        fs::write(self.path("tls.key"), key).unwrap();
        self
    }

    fn problem(&self) -> String {
        Pair::read(TlsListener::Admin, &self.files()).expect_err("it cannot be used").to_string()
    }

    fn open(&self, metrics: &Arc<Metrics>) -> Arc<Identity> {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
        Identity::open(TlsListener::Gateway, self.files(), clock, Arc::clone(metrics)).unwrap()
    }
}

/// A certificate and its key, as PEM.
fn made(until_year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_is_wrong_with_the_files_is_named_with_setting_and_file() {
    let (certificate, key) = made(2090);
    let (_, other_key) = made(2090);
    let folder = Folder::new();
    assert!(
        folder.problem().starts_with("admin_tls.certificate: ")
            && folder.problem().contains("cannot be read")
    );
    let broken_off = &certificate[..certificate.len() / 2];
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (certificate, key, words) in [
        ("", key.as_str(), ["admin_tls.certificate: ", "tls.pem", "holds no certificate"]),
        (&key, &key, ["admin_tls.certificate: ", "tls.pem", "holds no certificate"]),
        (broken_off, &key, ["admin_tls.certificate: ", "tls.pem", "not whole PEM"]),
        (no_certificate, &key, ["admin_tls.certificate: ", "tls.pem", "no X.509 certificate"]),
        (&certificate, "", ["admin_tls.key: ", "tls.key", "holds no private key"]),
        (&certificate, &certificate, ["admin_tls.key: ", "tls.key", "holds no private key"]),
        (&certificate, &other_key, ["admin_tls.key: ", "tls.key", "is not the key of the certificate in"]),
    ] {
        let problem = folder.write(certificate, key).problem();
        assert!(words.iter().all(|word| problem.contains(word)), "{words:?}: {problem}");
        assert!(!problem.contains(key.lines().nth(1).unwrap_or("-")), "{problem}");
    }
}

#[test]
fn the_first_end_of_the_chain_counts() {
    let folder = Folder::new();
    let ((certificate, key), (parent, _)) = (made(2090), made(2040));
    folder.write(&format!("{certificate}{parent}"), &key);
    let pair = Pair::read(TlsListener::Gateway, &folder.files()).unwrap();
    assert_eq!(pair.expires_at, "2040-01-01T00:00:00Z".parse().unwrap());
}

#[test]
fn a_new_pair_is_taken_and_a_broken_one_changes_nothing_and_is_told() {
    let (folder, metrics) = (Folder::new(), Arc::new(Metrics::new()));
    let (first, second) = (made(2040), made(2050));
    folder.write(&first.0, &first.1);
    let identity = folder.open(&metrics);
    let mut trouble = Trouble::default();
    let mut look = || identity.judge(identity.look(), &mut trouble);
    let in_use = || Arc::as_ptr(&identity.current.load().config);
    let usable = |told: u8| {
        metrics.render().contains(&format!("keygate_tls_files_usable{{listener=\"gateway\"}} {told}"))
    };

    let old = in_use();
    look();
    assert_eq!(in_use(), old, "nothing changed");

    // The certificate is there already, its key not yet.
    folder.write(&second.0, &first.1);
    look();
    assert!(in_use() == old && usable(1), "that may be over in a moment");
    look();
    assert!(in_use() == old && usable(0), "it was not");

    folder.write(&second.0, &second.1);
    look();
    assert!(in_use() != old && usable(1));
    let told = "keygate_tls_certificate_expiry_timestamp_seconds{listener=\"gateway\"} 2524608000";
    assert!(metrics.render().contains(told), "{}", metrics.render());
}

#[test]
fn trouble_that_ends_where_it_began_is_over() {
    let (folder, metrics) = (Folder::new(), Arc::new(Metrics::new()));
    let (certificate, key) = made(2040);
    let identity = folder.write(&certificate, &key).open(&metrics);
    let mut trouble = Trouble::default();
    fs::remove_file(folder.path("tls.key")).unwrap();
    for _ in 0..3 {
        identity.judge(identity.look(), &mut trouble);
    }
    assert!(metrics.render().contains("keygate_tls_files_usable{listener=\"gateway\"} 0"));
    folder.write(&certificate, &key);
    identity.judge(identity.look(), &mut trouble);
    assert!(metrics.render().contains("keygate_tls_files_usable{listener=\"gateway\"} 1"));
}

#[test]
fn a_gateway_without_tls_says_nothing_of_it() {
    assert!(!Metrics::new().render().contains("keygate_tls"));
}
