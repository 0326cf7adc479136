//! Certificates, and the files that they lie in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

/// Somebody who vouches for servers.
pub struct Authority {
    pub certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate with its key.
pub struct Pair {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no name is no wrong name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("it can be signed");
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Authority { certificate: der, pem, issuer: Issuer::new(params, key) }
    }

    /// For a server on 127.0.0.1, until the first day of a year.
    pub fn server(&self, until_year: i32) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address is a name");
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        Pair {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Its own certificate as a file.
    pub fn write(&self, folder: &Path) -> String {
        let path = folder.join("root.pem");
        fs::write(&path, &self.pem).expect("the folder is ours");
        path.display().to_string()
    }
}

/// A pair as Kubernetes lays it down: links to a folder that is swapped as a whole.
pub struct Files {
    folder: TempDir,
}

impl Files {
    pub fn holding(pair: &Pair) -> Files {
        let files = Files { folder: tempfile::tempdir().expect("a folder can be made") };
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), files.path(name)).expect("the folder is ours");
        }
        files.swap(&pair.certificate_pem, &pair.key_pem);
        files
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The paths of certificate and key.
    pub fn settings(&self) -> (String, String) {
        (self.path("tls.crt").display().to_string(), self.path("tls.key").display().to_string())
    }

    /// Both at once, in one step.
    pub fn swap(&self, certificate_pem: &str, key_pem: &str) {
        let version = tempfile::tempdir_in(self.folder.path()).expect("the folder is ours").keep();
        fs::write(version.join("tls.crt"), certificate_pem).expect("the folder is ours");
        fs::write(version.join("tls.key"), key_pem).expect("the folder is ours");
        symlink(&version, self.path("..tmp")).expect("the folder is ours");
        fs::rename(self.path("..tmp"), self.path("..data")).expect("the folder is ours");
    }
}
