//! TLS: which certificate is served, and reading it again when it changes. A certificate that cannot be used never
//! replaces one that can.

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

/// Offered by ALPN, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the TLS listeners share.
pub struct Tls {
    acceptor: TlsAcceptor,
    served: Arc<Served>,
    files: Mutex<Watched>,
    /// The files hold what cannot be served.
    stale: AtomicBool,
    /// From a connection's first moment to the end of its handshake.
    pub handshake_timeout: Duration,
}

/// The certificate of the day.
struct Served {
    key: ArcSwap<CertifiedKey>,
    not_after: AtomicI64,
}

/// The files, and how they were when they were last read.
struct Watched {
    files: CertificateFiles,
    seen: [Option<Seen>; 2],
}

/// What tells that a file was written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    bytes: u64,
    file: (u64, u64),
}

impl Tls {
    pub fn load(files: CertificateFiles, handshake_timeout: Duration) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = seen(&files);
        let Certificate { key, not_after } = files.load(&provider)?;
        let served = Arc::new(Served {
            key: ArcSwap::new(key),
            not_after: AtomicI64::new(not_after.unwrap_or(i64::MAX)),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Clients that come back save a round of the handshake, without a table of sessions here.
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

    /// Until when the certificate is valid, in seconds since 1970; `i64::MAX` if it does not say.
    pub fn not_after(&self) -> i64 {
        self.served.not_after.load(Ordering::Relaxed)
    }

    /// Whether the files hold a certificate that cannot be used, so that the one from before is served.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Takes a certificate from these files from now on. Connections that are open keep the one they have.
    pub fn reload(&self, files: CertificateFiles) {
        let mut watched = self.files.lock();
        // Before the reading: what is written meanwhile is read again.
        watched.seen = seen(&files);
        watched.files = files;
        let loaded = watched.files.load(&aws_lc_rs::default_provider());
        self.stale.store(loaded.is_err(), Ordering::Relaxed);
        match loaded {
            Ok(certificate) => {
                tracing::info!(certificate = %watched.files.cert.display(), "the certificate was read again");
                self.served.take(certificate);
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::error!(error, "the certificate cannot be used; the one from before is served");
            }
        }
    }

    /// Reads the files again whenever they change. Certificate and key are two files, so after the first of two
    /// changes they may not fit each other; the second mends it.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let tls = Arc::clone(&self);
            // A panic in there is no reason to stop looking.
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

impl Served {
    fn take(&self, Certificate { key, not_after }: Certificate) {
        self.key.store(key);
        self.not_after.store(not_after.unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

fn seen(files: &CertificateFiles) -> [Option<Seen>; 2] {
    [&files.cert, &files.key].map(|path| look(path))
}

fn look(path: &Path) -> Option<Seen> {
    use std::os::unix::fs::MetadataExt;
    let metadata: Metadata = std::fs::metadata(path).ok()?;
    Some(Seen {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
        file: (metadata.dev(), metadata.ino()),
    })
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("TLS cannot be set up")]
    Provider(#[from] rustls::Error),
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Served")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
