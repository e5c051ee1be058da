//! TLS: the certificate that is served, and its reload when the files change. A certificate that cannot be loaded never
//! replaces one that works.

use super::certificate::{Certificate, CertificateError, CertificateFiles};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::fmt;
use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// Offered by ALPN, in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The TLS state that all TLS listeners share.
pub struct Tls {
    acceptor: TlsAcceptor,
    served: Arc<ServedCertificate>,
    files: Mutex<Watched>,
    /// The files on disk cannot be loaded.
    stale: AtomicBool,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
}

/// The certificate now in use.
struct ServedCertificate {
    key: ArcSwap<CertifiedKey>,
    not_after: AtomicI64,
}

/// The files, and their metadata when they were last read.
struct Watched {
    files: CertificateFiles,
    seen: [Option<FileStamp>; 2],
}

/// The metadata that shows whether a file was written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
    file: (u64, u64),
}

impl Tls {
    pub fn load(files: CertificateFiles, handshake_timeout: Duration) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = seen(&files);
        let Certificate { key, not_after } = files.load(&provider)?;
        let served = Arc::new(ServedCertificate {
            key: ArcSwap::new(key),
            not_after: AtomicI64::new(not_after.unwrap_or(i64::MAX)),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Session tickets save returning clients a round trip, without a session table here.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            served,
            files: Mutex::new(Watched { files, seen }),
            stale: AtomicBool::new(false),
            handshake_timeout,
        })
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// The expiry time of the certificate, in seconds since 1970; `i64::MAX` if it is unknown.
    pub fn not_after(&self) -> i64 {
        self.served.not_after.load(Ordering::Relaxed)
    }

    /// Returns whether the files cannot be loaded, so that the previous certificate is still served.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Loads the certificate from these files for new connections. Open connections keep the one they have.
    pub fn reload(&self, files: CertificateFiles) {
        let mut watched = self.files.lock();
        // Before reading, so that a write during the read triggers another reload.
        watched.seen = seen(&files);
        watched.files = files;
        let loaded = watched.files.load(&aws_lc_rs::default_provider());
        self.stale.store(loaded.is_err(), Ordering::Relaxed);
        match loaded {
            Ok(certificate) => {
                tracing::info!(certificate = %watched.files.cert.display(), "certificate reloaded");
                self.served.take(certificate);
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::error!(error, "cannot load the new certificate; still serving the previous one");
            }
        }
    }

    /// Reloads the files whenever they change. Certificate and key are two files, so after the first one changes they
    /// may not match; the change of the second fixes that.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let tls = Arc::clone(&self);
            // A panic in the reload must not end the watch.
            drop(tokio::task::spawn_blocking(move || tls.reload_if_changed()).await);
        }
    }

    fn reload_if_changed(&self) {
        let files = {
            let watched = self.files.lock();
            if seen(&watched.files) == watched.seen {
                return;
            }
            watched.files.clone()
        };
        self.reload(files);
    }
}

impl ServedCertificate {
    fn take(&self, Certificate { key, not_after }: Certificate) {
        self.key.store(key);
        self.not_after.store(not_after.unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

fn seen(files: &CertificateFiles) -> [Option<FileStamp>; 2] {
    [&files.cert, &files.key].map(|path| look(path))
}

fn look(path: &Path) -> Option<FileStamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata: Metadata = std::fs::metadata(path).ok()?;
    Some(FileStamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
        file: (metadata.dev(), metadata.ino()),
    })
}

/// Why TLS setup failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("TLS setup failed")]
    Provider(#[from] rustls::Error),
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

impl fmt::Debug for ServedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedCertificate")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
