//! The transport: listeners and their connections, from accept to drain. It knows HTTP/1.1 from HTTP/2 and bounds
//! connections in number and time; what a request asks for is the [`Handler`]'s business.
//!
//! Timers cost more than a small request does, so a request arms none: each connection notes what it is doing
//! ([`signal`]), and one task looks at all of them a few times a second ([`connections`]).

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

use crate::contracts::reject::Kind;
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

    /// Told of what was refused before there was a request: a connection too many, a head that was late or is none.
    fn turned_away(&self, _kind: Kind, _status: u16) {}

    /// Told of a TLS handshake that failed or took too long.
    fn handshake_failed(&self) {}

    /// Told how many connections are open, when it changes.
    fn connections(&self, _open: usize) {}
}

/// What the connections of a listener are held to.
#[derive(Debug, Clone)]
pub struct Options {
    pub connections_max: usize,
    /// Requests of one HTTP/2 connection at a time.
    pub streams_max: u32,
    /// Bytes of a request's head.
    pub head_max: usize,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// A connection without a request is closed after this long.
    pub idle_timeout: Duration,
    /// With it, nothing but TLS is spoken.
    pub tls: Option<Arc<Tls>>,
    pub proxies: Proxies,
}
