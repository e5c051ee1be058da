//! What is shown of the keys at each scrape.

use super::Index;
use crate::metrics::{Gauges, Reading};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// Registers what the keys of the window are asked for.
pub fn register(registry: &mut Registry, keys: Arc<Index>) {
    let name = "http_idempotency_keys";
    let help = "Idempotency keys that are remembered";
    let read = move || vec![Reading { name, help, value: keys.count() as f64 }];
    registry.register_collector(Box::new(Gauges(read)));
}
