//! Decodes an export in JSON, by OpenTelemetry's variant of the protobuf mapping: ids as hexadecimal digits,
//! enumerations as numbers, keys in `lowerCamelCase`, unknown keys ignored, null for absent values.

use super::metrics::{Metric, MetricKind, Point};
use super::{Context, DecodeError, OtlpSignal, Out, logs, metrics, traces, write};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A list that may be null.
type List<T> = Option<Vec<T>>;

#[derive(Deserialize)]
struct OtlpExport<'a> {
    #[serde(borrow, rename = "resourceLogs")]
    logs: List<Group<'a>>,
    #[serde(rename = "resourceMetrics")]
    metrics: List<Group<'a>>,
    #[serde(rename = "resourceSpans")]
    spans: List<Group<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    resource: Option<Resource>,
    #[serde(borrow)]
    scope_logs: List<Scoped<'a>>,
    scope_metrics: List<Scoped<'a>>,
    scope_spans: List<Scoped<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scoped<'a> {
    scope: Option<InstrumentationScope>,
    #[serde(borrow)]
    log_records: List<&'a RawValue>,
    metrics: List<&'a RawValue>,
    spans: List<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetric<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    description: Option<Cow<'a, str>>,
    #[serde(default)]
    unit: Option<Cow<'a, str>>,
    gauge: Option<MetricData<'a>>,
    sum: Option<MetricData<'a>>,
    histogram: Option<MetricData<'a>>,
    exponential_histogram: Option<MetricData<'a>>,
    summary: Option<MetricData<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricData<'a> {
    #[serde(borrow, rename = "dataPoints")]
    points: List<&'a RawValue>,
    #[serde(default)]
    aggregation_temporality: i32,
    #[serde(default)]
    is_monotonic: bool,
}

pub(super) fn walk(signal: OtlpSignal, body: &[u8], out: &mut Out) -> Result<(), DecodeError> {
    let export: OtlpExport<'_> = serde_json::from_slice(body)?;
    // Protobuf has no absent messages and texts: what JSON leaves out is empty.
    for group in groups(signal, export)? {
        let resource = write::resource(&group.resource.unwrap_or_default());
        let scopes = match signal {
            OtlpSignal::Logs => group.scope_logs,
            OtlpSignal::Metrics => group.scope_metrics,
            OtlpSignal::Traces => group.scope_spans,
        };
        for scoped in scopes.into_iter().flatten() {
            let scope = write::scope(&scoped.scope.unwrap_or_default());
            let context = Context { resource: &resource, scope: &scope };
            let records = match signal {
                OtlpSignal::Logs => scoped.log_records,
                OtlpSignal::Metrics => scoped.metrics,
                OtlpSignal::Traces => scoped.spans,
            };
            for record in records.into_iter().flatten() {
                match signal {
                    OtlpSignal::Logs => logs::write(out, context, &serde_json::from_str(record.get())?)?,
                    OtlpSignal::Traces => traces::write(out, context, &serde_json::from_str(record.get())?)?,
                    OtlpSignal::Metrics => metric(out, context, &serde_json::from_str(record.get())?)?,
                }
            }
        }
    }
    Ok(())
}

/// The groups of the requested signal. An export of another signal is an error, not an empty export.
fn groups(signal: OtlpSignal, export: OtlpExport<'_>) -> Result<Vec<Group<'_>>, DecodeError> {
    let OtlpExport { logs, metrics, spans } = export;
    let found = [(OtlpSignal::Logs, logs), (OtlpSignal::Metrics, metrics), (OtlpSignal::Traces, spans)];
    let mut other = None;
    for (is, groups) in found {
        match groups {
            Some(groups) if is == signal => return Ok(groups),
            Some(groups) if !groups.is_empty() => other = Some(is),
            _ => {}
        }
    }
    match other {
        Some(found) => Err(DecodeError::OtherSignal { found: found.name(), expected: signal.name() }),
        None => Ok(Vec::new()),
    }
}

fn metric(out: &mut Out, context: Context<'_>, raw: &RawMetric<'_>) -> Result<(), DecodeError> {
    let kinds = [
        (MetricKind::Gauge, &raw.gauge),
        (MetricKind::Sum, &raw.sum),
        (MetricKind::Histogram, &raw.histogram),
        (MetricKind::ExponentialHistogram, &raw.exponential_histogram),
        (MetricKind::Summary, &raw.summary),
    ];
    for (kind, data) in kinds {
        let Some(data) = data else { continue };
        let metric = Metric {
            name: raw.name.as_deref().unwrap_or(""),
            description: raw.description.as_deref().unwrap_or(""),
            unit: raw.unit.as_deref().unwrap_or(""),
            kind,
            temporality: data.aggregation_temporality,
            is_monotonic: data.is_monotonic,
        };
        for point in data.points.iter().flatten() {
            metrics::write(out, context, &metric, &Point::of_json(kind, point.get())?)?;
        }
    }
    Ok(())
}
