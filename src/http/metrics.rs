//! The metrics of the ingest listener. Their names begin with `http_`.

use super::transport::Tls;
use crate::contracts::reject::{REFUSALS, RejectKind};
use crate::metrics::{Gauges, Reading, SharedLatency, Spread};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Statuses that are counted separately; all others count as 0.
const STATUSES: [u16; 20] =
    [0, 200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 431, 500, 503, 507];

/// The counters of the ingest listener.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    answers: [Spread; STATUSES.len()],
    refusals: [Spread; REFUSALS.len()],
    accepted_rows: Spread,
    quarantined_rows: Spread,
    accepted_bytes: Spread,
    handshake_errors: Spread,
    connections: AtomicUsize,
    replayed_requests: Spread,
    dropped_requests: Spread,
    request_seconds: SharedLatency,
}

impl HttpMetrics {
    pub fn answered(&self, status: u16, took: Duration) {
        self.count_answer(status);
        self.request_seconds.observe(took);
    }

    pub fn refused(&self, kind: RejectKind) {
        self.refusals[kind.index()].inc_by(1);
    }

    /// Counts a response to a connection that never sent a valid request.
    pub fn turned_away(&self, status: u16, kind: RejectKind) {
        self.count_answer(status);
        self.refused(kind);
    }

    /// Counts a TLS handshake that failed or timed out.
    pub fn handshake_failed(&self) {
        self.handshake_errors.inc_by(1);
    }

    /// Sets the number of open connections.
    pub fn connections(&self, open: usize) {
        self.connections.store(open, Ordering::Relaxed);
    }

    fn count_answer(&self, status: u16) {
        let at = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        self.answers[at].inc_by(1);
    }

    /// Counts the records of a request that were appended to the log.
    pub fn appended(&self, good: u64, bad: u64, bytes: u64) {
        self.accepted_rows.inc_by(good);
        self.quarantined_rows.inc_by(bad);
        self.accepted_bytes.inc_by(bytes);
    }

    /// Counts a request that was answered from an earlier one with the same idempotency key.
    pub fn replayed(&self) {
        self.replayed_requests.inc_by(1);
    }

    /// Counts a request to a stream in drop mode.
    pub fn dropped(&self) {
        self.dropped_requests.inc_by(1);
    }

    pub fn accepted_rows(&self) -> u64 {
        self.accepted_rows.get()
    }

    pub fn accepted_bytes(&self) -> u64 {
        self.accepted_bytes.get()
    }

    /// Registers the counters, and gauges that read the certificate at each scrape.
    pub fn register(self: &Arc<Self>, registry: &mut Registry, tls: Option<Arc<Tls>>) {
        let help = "Time from the request head to the response";
        registry.register_with_unit("http_request", help, Unit::Seconds, self.request_seconds.clone());
        registry.register_collector(Box::new(HttpCollector(Arc::clone(self))));
        if let Some(tls) = tls {
            registry.register_collector(Box::new(Gauges(move || certificate_gauges(&tls))));
        }
    }
}

/// Encodes [`HttpMetrics`], which does not use the registry's own types.
#[derive(Debug)]
struct HttpCollector(Arc<HttpMetrics>);

impl Collector for HttpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Responses of the ingest listener by status";
        let mut family = encoder.encode_descriptor("http_responses", help, None, MetricType::Counter)?;
        for (status, count) in STATUSES.iter().zip(&self.0.answers).filter(|(_, count)| count.get() > 0) {
            ConstCounter::new(count.get())
                .encode(family.encode_family(&[("status", status.to_string())])?)?;
        }
        let help = "Refused requests by reason";
        let mut family = encoder.encode_descriptor("http_refusals", help, None, MetricType::Counter)?;
        for (reason, count) in REFUSALS.iter().zip(&self.0.refusals) {
            ConstCounter::new(count.get()).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        for (name, help, count) in [
            ("http_accepted_rows", "Valid records accepted", &self.0.accepted_rows),
            ("http_quarantined_rows", "Records accepted into quarantine", &self.0.quarantined_rows),
            ("http_accepted_bytes", "Bytes of accepted bodies, decompressed", &self.0.accepted_bytes),
            ("http_handshake_errors", "Failed TLS handshakes", &self.0.handshake_errors),
            (
                "http_replayed_requests",
                "Requests that repeated an earlier idempotency key",
                &self.0.replayed_requests,
            ),
            ("http_dropped_requests", "Requests to streams in drop mode", &self.0.dropped_requests),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.get()).encode(metric)?;
        }
        let help = "Open connections of the ingest listener";
        let metric = encoder.encode_descriptor("http_connections", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.0.connections.load(Ordering::Relaxed) as f64).encode(metric)?;
        Ok(())
    }
}

fn certificate_gauges(tls: &Tls) -> Vec<Reading> {
    let reading = |name, help, value| Reading { name, help, value };
    vec![
        reading(
            "http_certificate_not_after_seconds",
            "Expiry time of the certificate, in seconds since 1970",
            tls.not_after() as f64,
        ),
        reading(
            "http_certificate_stale",
            "1 while the certificate files cannot be loaded and the previous certificate is served",
            f64::from(u8::from(tls.is_stale())),
        ),
    ]
}
