//! `/metrics`: its format, and that events are counted.

use crate::support::{Daemon, eventually};
use crate::wire::{count, post_chunked, refusals};
use std::collections::HashMap;

/// The reasons for refusals.
const REASONS: [&str; 20] = [
    "malformed",
    "unauthenticated",
    "token_expired",
    "forbidden",
    "no_such_stream",
    "not_found",
    "no_such_route",
    "method_not_allowed",
    "conflict",
    "unprocessable",
    "too_many_requests",
    "length_required",
    "too_large",
    "unsupported_encoding",
    "unsupported_type",
    "too_slow",
    "full",
    "unavailable",
    "unknown_outcome",
    "internal",
];

/// A family of metrics.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    /// Suffix of the name, labels and value.
    samples: Vec<(String, Labels, f64)>,
}

type Labels = Vec<(String, String)>;

/// Parses the text format of `OpenMetrics`, strictly but not completely.
fn parse(text: &str) -> HashMap<String, Family> {
    let mut families: HashMap<String, Family> = HashMap::new();
    let mut current = String::new();
    let lines = text.strip_suffix("# EOF\n").expect("# EOF must be at the end");
    assert!(lines.ends_with('\n') && !lines.contains("\n\n"), "lines must not be empty");
    for line in lines.lines() {
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if what == "HELP" {
                assert!(families.insert(name.to_owned(), Family::default()).is_none(), "{name} occurs twice");
                name.clone_into(&mut current);
            }
            assert_eq!(name, current, "{line}");
            let family = families.get_mut(name).unwrap();
            match what {
                "HELP" => rest.clone_into(&mut family.help),
                "TYPE" => rest.clone_into(&mut family.kind),
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("unknown line {line:?}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (key, value) = label.split_once('=').unwrap();
            (key.to_owned(), value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap().to_owned())
        });
        let labels = labels.collect();
        let suffix =
            name.strip_prefix(&current).unwrap_or_else(|| panic!("{name} does not belong to {current}"));
        families.get_mut(&current).unwrap().samples.push((suffix.to_owned(), labels, value));
    }
    families
}

fn check_histogram(name: &str, family: &Family) {
    let buckets: Vec<(f64, f64)> = family
        .samples
        .iter()
        .filter(|(suffix, ..)| suffix == "_bucket")
        .map(|(_, labels, value)| (labels[0].1.parse().unwrap(), *value))
        .collect();
    assert!(buckets.is_sorted(), "{name}: {buckets:?}");
    let (last, all) = *buckets.last().unwrap();
    let one = |wanted: &str| family.samples.iter().find(|(suffix, ..)| suffix == wanted).unwrap().2;
    assert!(last.is_infinite() && last > 0.0, "{name}: {buckets:?}");
    assert!((all - one("_count")).abs() < 0.5, "{name}: the last bucket must equal the count");
    assert!(one("_sum") >= 0.0, "{name}");
}

#[test]
fn the_metrics_are_open_metrics() {
    let daemon = Daemon::dev();
    daemon.post("name=e&wait=table", "{\"n\":1}\nbad\n");
    daemon.post("name=..", "{}");
    let response = daemon.get("/metrics");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((response.status, response.header("content-type")), (200, Some(kind)));
    let families = parse(&response.text());
    for (name, family) in &families {
        assert!(name.starts_with("forebay_") && !family.help.is_empty(), "{name}: {family:?}");
        assert!(!family.samples.is_empty(), "{name} has no value");
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            kind => panic!("{name} is a {kind:?}"),
        };
        for (suffix, labels, value) in &family.samples {
            assert!(suffixes.contains(&suffix.as_str()), "{name}{suffix}");
            assert!(*value >= 0.0 && labels.len() <= 1, "{name}{suffix} {labels:?} {value}");
        }
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    for name in ["http_request_seconds", "wal_sync_seconds", "compactor_publish_seconds"] {
        assert_eq!(families[&format!("forebay_{name}")].kind, "histogram", "{name}");
    }
    let refusals = &families["forebay_http_refusals"].samples;
    let reasons: Vec<&str> = refusals.iter().map(|(_, labels, _)| labels[0].1.as_str()).collect();
    assert_eq!(reasons, REASONS);
    assert!(refusals.iter().all(|(_, labels, _)| labels[0].0 == "reason"));
}

#[test]
fn the_watermarks_and_their_lags_are_gauges() {
    let daemon = Daemon::dev();
    let value = |name: &str| {
        let families = parse(&daemon.get("/metrics").text());
        let family = &families[&format!("forebay_{name}")];
        assert_eq!(family.kind, "gauge", "{name}");
        family.samples[0].2
    };
    let watermarks =
        ["wal_appended_lsn", "wal_durable_lsn", "compactor_checkpoint_lsn", "compactor_published_lsn"];
    let before: Vec<f64> = watermarks.iter().map(|name| value(name)).collect();
    let receipt = daemon.post("name=e&wait=table", "{\"n\":1}").receipt();
    for (name, before) in watermarks.iter().zip(before) {
        let reached = || (value(name) >= receipt as f64).then_some(());
        eventually(&format!("{name} at {receipt}"), reached);
        assert!(before < receipt as f64, "{name}");
    }
    eventually("a lag of 0, without a backlog", || (value("compactor_lag_seconds") < 1e-9).then_some(()));
    for name in ["compactor_staged_files", "wal_unsynced_bytes", "wal_refusing", "wal_poisoned"] {
        assert!(value(name) < 0.5, "{name}");
    }
    for name in ["wal_bytes", "wal_segments", "wal_prepared_segments"] {
        assert!(value(name) >= 1.0, "{name}");
    }
}

#[test]
fn what_happens_is_counted() {
    let daemon = Daemon::dev();
    let good = "{\"n\":1}\n{\"n\":2,\"n\":3}\nbad\n";
    assert_eq!(daemon.post("name=e&wait=table", good).status, 200);
    assert_eq!(daemon.post("name=e&wait=table", "{\"n\":\"x\"}").status, 200);
    let large = vec![b' '; (10 << 20) + 1];
    assert_eq!(post_chunked(&daemon, "name=e", "", &[&large]).status, 413);
    assert_eq!(daemon.post("name=-", "{}").status, 400);
    for (name, expected) in [
        ("http_accepted_rows", 3),
        ("http_quarantined_rows", 1),
        ("http_accepted_bytes", good.len() as u64 + 9),
        ("compactor_stored_rows", 3),
        ("compactor_quarantined_rows", 1),
        ("compactor_rescued_rows", 1),
        ("compactor_duplicate_keys", 1),
        ("compactor_published_rows", 4),
        ("compactor_published_files", 3),
        ("compactor_publish_errors", 0),
        ("compactor_verdict_mismatches", 0),
        ("compactor_restarts", 0),
        ("wal_sync_errors", 0),
    ] {
        assert_eq!(count(&daemon, &format!("forebay_{name}_total")), expected, "{name}");
    }
    assert_eq!((refusals(&daemon, "too_large"), refusals(&daemon, "malformed")), (1, 1));
    let metrics = daemon.get("/metrics").text();
    for (status, expected) in [(200, 2), (400, 1), (413, 1)] {
        let line = format!("forebay_http_responses_total{{status=\"{status}\"}} {expected}\n");
        assert!(metrics.contains(&line), "{line} is missing in:\n{metrics}");
    }
    assert!(count(&daemon, "forebay_compactor_published_bytes_total") > 0);
}
