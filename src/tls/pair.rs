//! A certificate and its key, from their files.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{self, Decode};
use zeroize::Zeroizing;

use crate::config::TlsFiles;
use crate::model::Timestamp;
use crate::observe::metrics::TlsListener;

use super::provider;

/// What two files held, told apart from anything else.
pub(super) type Stamp = [u8; 32];

/// A certificate with its chain, and the key that belongs to it.
#[derive(Debug)]
pub struct Pair {
    pub(super) key: CertifiedKey,
    pub(super) stamp: Stamp,
    /// The earliest end of all certificates in the file.
    pub expires_at: Timestamp,
}

/// Why two files cannot be used. Each names the setting and the file; none shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("{setting}: {}: cannot be read: {source}", .path.display())]
    Unreadable {
        /// As `tls.key`.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate in it.
    #[error("{setting}: {}: holds no certificate; expected PEM, the server's certificate first and then its chain", .path.display())]
    NoCertificate {
        /// As `tls.certificate`.
        setting: String,
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in it.
    #[error("{setting}: {}: holds no private key; expected PEM, not encrypted, as PKCS #8, SEC1 or PKCS #1", .path.display())]
    NoKey {
        /// As `tls.key`.
        setting: String,
        /// The file.
        path: PathBuf,
    },
    /// It is broken off, or is no PEM.
    #[error("{setting}: {}: is not whole PEM", .path.display())]
    NotPem {
        /// As `tls.key`.
        setting: String,
        /// The file.
        path: PathBuf,
    },
    /// What stands there as a certificate cannot be read as one.
    #[error("{setting}: {}: what stands there is no X.509 certificate: {source}", .path.display())]
    BadCertificate {
        /// As `tls.certificate`.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: der::Error,
    },
    /// TLS can do nothing with it.
    #[error("{setting}: {}: cannot be used for TLS: {source}", .path.display())]
    Unusable {
        /// As `tls.key`.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Error,
    },
    /// They do not belong together.
    #[error("{setting}: {}: is not the key of the certificate in {}", .path.display(), .certificate.display())]
    Mismatch {
        /// As `tls.key`.
        setting: String,
        /// The key's file.
        path: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

impl Pair {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// They are not there, or do not hold a certificate and its key.
    pub fn read(listener: TlsListener, files: &TlsFiles) -> Result<Pair, PairError> {
        Contents::read(listener, files)?.pair(listener, files)
    }
}

/// What stands in the two files.
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(listener: TlsListener, files: &TlsFiles) -> Result<Contents, PairError> {
        let certificate = read_file(certificate_setting(listener), &files.certificate)?;
        let key = Zeroizing::new(read_file(key_setting(listener), &files.key)?);
        Ok(Contents { certificate, key })
    }

    pub(super) fn stamp(&self) -> Stamp {
        let mut hash = Sha256::new();
        hash.update(self.certificate.len().to_le_bytes());
        hash.update(&self.certificate);
        hash.update(self.key.as_slice());
        hash.finalize().into()
    }

    pub(super) fn pair(&self, listener: TlsListener, files: &TlsFiles) -> Result<Pair, PairError> {
        let TlsFiles { certificate: certificate_path, key: key_path } = files;
        let chain = self.chain(listener, certificate_path)?;
        let expires_at = chain.iter().map(expiry).collect::<Result<Vec<_>, _>>();
        let expires_at = expires_at.map_err(|source| PairError::BadCertificate {
            setting: certificate_setting(listener),
            path: certificate_path.clone(),
            source,
        })?;
        let unusable =
            |setting, path: &Path, source| PairError::Unusable { setting, path: path.to_owned(), source };
        let key = provider()
            .key_provider
            .load_private_key(self.private_key(listener, key_path)?)
            .map_err(|source| unusable(key_setting(listener), key_path, source))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(PairError::Mismatch {
                    setting: key_setting(listener),
                    path: key_path.clone(),
                    certificate: certificate_path.clone(),
                });
            }
            Err(source) => return Err(unusable(certificate_setting(listener), certificate_path, source)),
        }
        let expires_at = expires_at.into_iter().min().expect("the chain is not empty");
        Ok(Pair { key, stamp: self.stamp(), expires_at })
    }

    /// Never empty.
    fn chain(&self, listener: TlsListener, path: &Path) -> Result<Vec<CertificateDer<'static>>, PairError> {
        let (setting, path) = (certificate_setting(listener), path.to_owned());
        let found = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        match found {
            Ok(chain) if chain.is_empty() => Err(PairError::NoCertificate { setting, path }),
            Ok(chain) => Ok(chain),
            Err(_) => Err(PairError::NotPem { setting, path }),
        }
    }

    fn private_key(&self, listener: TlsListener, path: &Path) -> Result<PrivateKeyDer<'static>, PairError> {
        let (setting, path) = (key_setting(listener), path.to_owned());
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => PairError::NoKey { setting, path },
            // Its words may quote a line of the file.
            _ => PairError::NotPem { setting, path },
        })
    }
}

fn read_file(setting: String, path: &Path) -> Result<Vec<u8>, PairError> {
    std::fs::read(path).map_err(|source| PairError::Unreadable { setting, path: path.to_owned(), source })
}

fn expiry(certificate: &CertificateDer<'static>) -> Result<Timestamp, der::Error> {
    let certificate = CertificateInner::<Raw>::from_der(certificate)?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Ok(Timestamp::from_millis(i64::try_from(end.as_millis()).unwrap_or(i64::MAX)))
}

fn certificate_setting(listener: TlsListener) -> String {
    format!("{}.certificate", section(listener))
}

fn key_setting(listener: TlsListener) -> String {
    format!("{}.key", section(listener))
}

fn section(listener: TlsListener) -> &'static str {
    match listener {
        TlsListener::Gateway => "tls",
        TlsListener::Admin => "admin_tls",
    }
}
