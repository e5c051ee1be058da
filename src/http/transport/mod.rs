//! The transport: listeners and their connections, from accept to drain. It serves HTTP/1.1 and HTTP/2 and limits the
//! number of connections and the time of each phase. Requests are left to the [`Handler`].
//!
//! A timer costs more than a small request, so requests use none: each connection records what it is doing
//! ([`signal`]), and one task checks all of them a few times a second ([`connections`]).

mod certificate;
mod connection;
mod connections;
mod http1;
mod http2;
mod listener;
pub mod proxies;
mod refuse;
mod signal;
mod socket;
mod tls;

pub use certificate::CertificateFiles;
pub use listener::Listener;
use proxies::Proxies;
pub use tls::{Tls, TlsError};

use crate::contracts::reject::RejectKind;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;

    /// Called for each refusal without a request: too many connections, or a request head that is late or invalid.
    fn turned_away(&self, _kind: RejectKind, _status: u16) {}

    /// Called when a TLS handshake fails or times out.
    fn handshake_failed(&self) {}

    /// Called with the number of open connections whenever it changes.
    fn connections(&self, _open: usize) {}
}

/// The limits and settings of a listener's connections.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    pub connections_max: usize,
    /// Concurrent requests per HTTP/2 connection.
    pub streams_max: u32,
    /// The largest request head, in bytes.
    pub head_max: usize,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// A connection without a request is closed after this long.
    pub idle_timeout: Duration,
    /// If set, the listener accepts TLS only.
    pub tls: Option<Arc<Tls>>,
    pub proxies: Proxies,
}
