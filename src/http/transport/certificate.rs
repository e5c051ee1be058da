//! Reads the certificate chain and its private key from PEM files and checks that they match.

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as RustlsError, InconsistentKeys};

/// A certificate file is a few KiB. The limit keeps a wrong path from being read into memory whole.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The paths of the certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain in PEM, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key in PEM, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: {reason}", .path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("{} is not the key of the certificate in {}", .0.key.display(), .0.cert.display())]
    Mismatch(CertificateFiles),
}

/// A certificate that can be served, and its expiry time.
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// Seconds since 1970. `None` if the expiry time in the certificate cannot be parsed.
    pub not_after: Option<i64>,
}

impl CertificateFiles {
    /// Reads both files and checks that they belong together.
    pub fn load(&self, provider: &CryptoProvider) -> Result<Certificate, CertificateError> {
        let unusable = |path: &Path, reason: String| CertificateError::Unusable { path: path.into(), reason };
        let text = read(&self.cert)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|error| unusable(&self.cert, in_words(&error)))?;
        let Some(leaf) = chain.first() else {
            return Err(unusable(&self.cert, "it has no certificate in PEM format".to_owned()));
        };
        let not_after = not_after(leaf);
        let text = read(&self.key)?;
        let key = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => {
                let encrypted = memchr::memmem::find(&text, b"ENCRYPTED PRIVATE KEY").is_some();
                let reason = if encrypted {
                    "the private key is encrypted; store it without a passphrase"
                } else {
                    "it has no private key in PEM format"
                };
                return Err(unusable(&self.key, reason.to_owned()));
            }
            Err(error) => return Err(unusable(&self.key, in_words(&error))),
        };
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(key) => Ok(Certificate { key: Arc::new(key), not_after }),
            Err(RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(CertificateError::Mismatch(self.clone()))
            }
            Err(RustlsError::InvalidCertificate(_)) => {
                Err(unusable(&self.cert, "the certificate is malformed".to_owned()))
            }
            Err(error) => Err(unusable(&self.key, error.to_string())),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.into(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let reason = "the file is too large to be a certificate or a key".to_owned();
        return Err(CertificateError::Unusable { path: path.into(), reason });
    }
    Ok(text)
}

fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a PEM section has an invalid first line".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM section is not base64".to_owned(),
        error => error.to_string(),
    }
}

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The expiry time of a certificate (RFC 5280, 4.1): the second time in the fifth field of its first part.
fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der, SEQUENCE)?;
    let (_, signed, _) = element(certificate, SEQUENCE)?;
    let rest = element(signed, EXPLICIT_VERSION).map_or(signed, |(.., rest)| rest);
    let (.., rest) = element(rest, INTEGER)?;
    let (.., rest) = element(rest, SEQUENCE)?;
    let (.., rest) = element(rest, SEQUENCE)?;
    let (_, validity, _) = element(rest, SEQUENCE)?;
    let (.., rest) = any_element(validity)?;
    let (tag, time, _) = any_element(rest)?;
    let text = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // The year has two digits: 1950 to 2049.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Splits off the first DER element, if it has this tag: tag, content, and the rest.
fn element(der: &[u8], expected: u8) -> Option<(u8, &[u8], &[u8])> {
    any_element(der).filter(|(tag, ..)| *tag == expected)
}

fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match usize::from(*first) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (digits, rest) = rest.split_at_checked(long & 0x7f)?;
            let add = |len: usize, digit: &u8| len.checked_mul(256)?.checked_add(usize::from(*digit));
            (digits.iter().try_fold(0, add)?, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(year, 2, 3);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn the_end_of_validity_is_read() {
        // The year has two digits until 2049, and four from then on.
        for (year, seconds) in [(2026, 1_770_076_800), (2049, 2_495_923_200), (2051, 2_558_995_200)] {
            assert_eq!(not_after(certificate(year).der()), Some(seconds), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let certificate = certificate(2030);
        let der = certificate.der();
        for len in 0..der.len() {
            assert_eq!(not_after(&der[..len]), None, "{len}");
        }
        for bytes in [&b"\x30\x84\xff\xff\xff\xff"[..], b"\x30\x80\x00\x00", b"\x30\xff", b"rubbish"] {
            assert_eq!(not_after(bytes), None);
        }
    }
}
