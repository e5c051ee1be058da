//! The metric of the idempotency keys.

use super::KeyIndex;
use crate::metrics::{Gauges, Reading};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// Registers the gauge that is read from the index at each scrape.
pub fn register(registry: &mut Registry, keys: Arc<KeyIndex>) {
    let name = "http_idempotency_keys";
    let help = "Idempotency keys in memory";
    let read = move || vec![Reading { name, help, value: keys.count() as f64 }];
    registry.register_collector(Box::new(Gauges(read)));
}
