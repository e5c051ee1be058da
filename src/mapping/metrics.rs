//! The metrics of mappings: every metric whose name begins with `mapping_`.

use crate::metrics::SharedLatency;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

/// The counters of the evaluator.
#[derive(Debug, Default)]
pub struct MappingMetrics {
    pub evaluations: Counter,
    failures: Family<[(&'static str, &'static str); 1], Counter>,
    pub seconds: SharedLatency,
    pub worker_starts: Counter,
    worker_ends: Family<[(&'static str, &'static str); 1], Counter>,
}

impl MappingMetrics {
    pub fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&[("reason", reason)]).inc();
    }

    pub fn register(&self, registry: &mut Registry) {
        let help = "Evaluations of path and template columns, one per request and mapping";
        registry.register("mapping_evaluations", help, self.evaluations.clone());
        let help = "Evaluations that failed and produced no row, by reason";
        registry.register("mapping_failures", help, self.failures.clone());
        let help = "Time from submitting requests for evaluation until their values are available";
        registry.register_with_unit("mapping_evaluation", help, Unit::Seconds, self.seconds.clone());
        let help = "Worker processes started to evaluate templates";
        registry.register("mapping_worker_starts", help, self.worker_starts.clone());
        let help = "Worker processes ended by a template, by reason";
        registry.register("mapping_worker_ends", help, self.worker_ends.clone());
    }

    pub fn worker_ended(&self, reason: &'static str) {
        self.worker_ends.get_or_create(&[("reason", reason)]).inc();
    }
}
