//! Settings of the transport: limits of connections, TLS, CORS and trusted proxies.

use super::{Config, ConfigError, invalid};
use crate::http::cors::Cors;
use crate::http::transport::proxies::Proxies;
use crate::http::{CertificateFiles, ConnectionOptions, Tls};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The head of any sensible request fits in this size.
const HEAD_MAX_LEAST: u64 = 4 << 10;

impl Config {
    pub(super) fn check_transport(&self) -> Result<(), ConfigError> {
        let (server, tls) = (&self.server, &self.tls);
        if server.streams_max == 0 {
            return Err(invalid("server.streams_max must be at least 1".to_owned()));
        }
        if self.limits.head_max.0 < HEAD_MAX_LEAST {
            return Err(invalid(format!(
                "limits.head_max must be at least {}",
                super::ByteSize(HEAD_MAX_LEAST)
            )));
        }
        if tls.cert.as_os_str().is_empty() != tls.key.as_os_str().is_empty() {
            return Err(invalid(
                "tls.cert and tls.key must be set together: one of them is empty".to_owned(),
            ));
        }
        if tls.handshake_timeout.0.is_zero() {
            return Err(invalid("tls.handshake_timeout must be greater than zero".to_owned()));
        }
        if tls.admin && tls.cert.as_os_str().is_empty() {
            return Err(invalid("tls.admin requires tls.cert and tls.key".to_owned()));
        }
        let loopback = |address: SocketAddr| address.ip().is_loopback();
        if self.dev && !(loopback(self.server.listen) && loopback(self.server.admin_listen)) {
            return Err(invalid(
                "--dev disables credentials and therefore listens on loopback addresses only".to_owned(),
            ));
        }
        self.cors()?;
        let proxies = self.proxies()?;
        if proxies.protocol && proxies.trusted.is_empty() {
            return Err(invalid("server.proxy_protocol requires server.trusted_proxies".to_owned()));
        }
        Ok(())
    }

    /// The origins whose pages may call.
    pub fn cors(&self) -> Result<Cors, ConfigError> {
        let cors = Cors::new(&self.server.allowed_origins);
        cors.map_err(|error| {
            invalid(format!("server.allowed_origins: {error}; or use \"*\" alone for every origin"))
        })
    }

    /// The files of the certificate, if TLS is configured.
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let super::TlsSection { cert, key, .. } = &self.tls;
        (!cert.as_os_str().is_empty()).then(|| CertificateFiles { cert: cert.clone(), key: key.clone() })
    }

    fn proxies(&self) -> Result<Proxies, ConfigError> {
        let network = |text: &String| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
                let what = "is neither an address nor a network such as 10.0.0.0/8";
                invalid(format!("server.trusted_proxies: {text:?} {what}"))
            })
        };
        let trusted = self.server.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?;
        Ok(Proxies { trusted, protocol: self.server.proxy_protocol })
    }

    /// Transport options of the ingest listener.
    pub fn ingest_transport(&self, tls: Option<Arc<Tls>>) -> Result<ConnectionOptions, ConfigError> {
        Ok(ConnectionOptions { proxies: self.proxies()?, ..self.transport(tls) })
    }

    /// Transport options of the admin listener, which has no proxy in front of it.
    pub fn admin_transport(&self, tls: Option<Arc<Tls>>) -> ConnectionOptions {
        self.transport(tls.filter(|_| self.tls.admin))
    }

    fn transport(&self, tls: Option<Arc<Tls>>) -> ConnectionOptions {
        ConnectionOptions {
            connections_max: self.server.connections_max,
            streams_max: self.server.streams_max,
            head_max: usize::try_from(self.limits.head_max.0).unwrap_or(usize::MAX),
            header_timeout: self.server.header_timeout.0,
            idle_timeout: self.server.idle_timeout.0,
            tls,
            proxies: Proxies::default(),
        }
    }
}
