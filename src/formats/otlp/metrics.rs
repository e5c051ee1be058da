//! Data points of metrics. Every record has every field, null where the kind of metric does not have it, so that a
//! mapping may refer to any of them.

use super::write::{ObjectWriter, attributes, double, list};
use super::{Context, DecodeError, Out};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint,
    SummaryDataPoint, exemplar, number_data_point,
};
use prost::Message;
use serde::de::DeserializeOwned;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

impl MetricKind {
    /// Selects the kind by the number of the metric's field that holds its data.
    pub(super) fn of_field(number: u32) -> Option<Self> {
        match number {
            5 => Some(Self::Gauge),
            7 => Some(Self::Sum),
            9 => Some(Self::Histogram),
            10 => Some(Self::ExponentialHistogram),
            11 => Some(Self::Summary),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::ExponentialHistogram => "exponential_histogram",
            Self::Summary => "summary",
        }
    }
}

/// The properties that the points of a metric share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) unit: &'a str,
    pub(super) kind: MetricKind,
    pub(super) temporality: i32,
    pub(super) is_monotonic: bool,
}

pub(super) enum Point {
    Number(NumberDataPoint),
    Histogram(HistogramDataPoint),
    Exponential(ExponentialHistogramDataPoint),
    Summary(SummaryDataPoint),
}

impl Point {
    pub(super) fn of_protobuf(kind: MetricKind, bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        struct Protobuf<'a>(&'a [u8]);
        impl Decode for Protobuf<'_> {
            type Error = prost::DecodeError;
            fn decode<T: Message + Default + DeserializeOwned>(&self) -> Result<T, prost::DecodeError> {
                T::decode(self.0)
            }
        }
        Self::decode(kind, &Protobuf(bytes))
    }

    pub(super) fn of_json(kind: MetricKind, text: &str) -> Result<Self, serde_json::Error> {
        struct Json<'a>(&'a str);
        impl Decode for Json<'_> {
            type Error = serde_json::Error;
            fn decode<T: Message + Default + DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
                serde_json::from_str(self.0)
            }
        }
        Self::decode(kind, &Json(text))
    }

    fn decode<D: Decode>(kind: MetricKind, from: &D) -> Result<Self, D::Error> {
        Ok(match kind {
            MetricKind::Gauge | MetricKind::Sum => Self::Number(from.decode()?),
            MetricKind::Histogram => Self::Histogram(from.decode()?),
            MetricKind::ExponentialHistogram => Self::Exponential(from.decode()?),
            MetricKind::Summary => Self::Summary(from.decode()?),
        })
    }

    fn common(&self) -> PointFields<'_> {
        macro_rules! common {
            ($point:expr, $exemplars:expr) => {
                PointFields {
                    start: $point.start_time_unix_nano,
                    at: $point.time_unix_nano,
                    flags: $point.flags,
                    attributes: &$point.attributes,
                    exemplars: $exemplars,
                }
            };
        }
        match self {
            Self::Number(point) => common!(point, &point.exemplars),
            Self::Histogram(point) => common!(point, &point.exemplars),
            Self::Exponential(point) => common!(point, &point.exemplars),
            Self::Summary(point) => common!(point, &[]),
        }
    }

    /// The count, sum, minimum and maximum of a point that aggregates values.
    fn summary(&self) -> (Option<u64>, [Option<f64>; 3]) {
        match self {
            Self::Number(_) => (None, [None; 3]),
            Self::Histogram(point) => (Some(point.count), [point.sum, point.min, point.max]),
            Self::Exponential(point) => (Some(point.count), [point.sum, point.min, point.max]),
            Self::Summary(point) => (Some(point.count), [Some(point.sum), None, None]),
        }
    }
}

/// Either form.
trait Decode {
    type Error;
    fn decode<T: Message + Default + DeserializeOwned>(&self) -> Result<T, Self::Error>;
}

struct PointFields<'a> {
    start: u64,
    at: u64,
    flags: u32,
    attributes: &'a [KeyValue],
    exemplars: &'a [Exemplar],
}

pub(super) fn write(
    out: &mut Out,
    context: Context<'_>,
    metric: &Metric<'_>,
    point: &Point,
) -> Result<(), DecodeError> {
    out.push(|out| {
        let common = point.common();
        let mut record = ObjectWriter::begin(out);
        record.text("name", metric.name);
        record.text("description", metric.description);
        record.text("unit", metric.unit);
        record.text("type", metric.kind.name());
        aggregation(&mut record, metric);
        record.time("start_timestamp", common.start);
        record.time("timestamp", common.at);
        value(&mut record, point);
        let (count, [sum, min, max]) = point.summary();
        match count {
            Some(count) => record.number("count", count),
            None => record.null("count"),
        }
        optional(&mut record, "sum", sum);
        optional(&mut record, "min", min);
        optional(&mut record, "max", max);
        buckets(&mut record, point);
        record.number("flags", common.flags);
        record.put("exemplars", |out| list(out, common.exemplars, exemplar));
        record.attributes("attributes", common.attributes);
        record.raw("resource", context.resource);
        record.raw("scope", context.scope);
        record.end();
    })
}

fn aggregation(record: &mut ObjectWriter<'_>, metric: &Metric<'_>) {
    match (metric.kind, AggregationTemporality::try_from(metric.temporality)) {
        (MetricKind::Gauge | MetricKind::Summary, _) => record.null("aggregation_temporality"),
        (_, Ok(AggregationTemporality::Delta)) => record.text("aggregation_temporality", "delta"),
        (_, Ok(AggregationTemporality::Cumulative)) => record.text("aggregation_temporality", "cumulative"),
        (_, Ok(AggregationTemporality::Unspecified) | Err(_)) => {
            record.text("aggregation_temporality", "unspecified");
        }
    }
    match metric.kind {
        MetricKind::Sum => record.raw("is_monotonic", if metric.is_monotonic { b"true" } else { b"false" }),
        _ => record.null("is_monotonic"),
    }
}

fn value(record: &mut ObjectWriter<'_>, point: &Point) {
    let value = match point {
        Point::Number(point) => point.value,
        _ => None,
    };
    match value {
        Some(number_data_point::Value::AsInt(value)) => record.number("value", value),
        Some(number_data_point::Value::AsDouble(value)) => record.double("value", value),
        None => record.null("value"),
    }
}

fn optional(record: &mut ObjectWriter<'_>, key: &str, value: Option<f64>) {
    match value {
        Some(value) => record.double(key, value),
        None => record.null(key),
    }
}

fn buckets(record: &mut ObjectWriter<'_>, point: &Point) {
    let nothing = |record: &mut ObjectWriter<'_>, keys: &[&str]| {
        for key in keys {
            record.null(key);
        }
    };
    if let Point::Histogram(point) = point {
        record.put("bucket_counts", |out| counts(out, &point.bucket_counts));
        record.put("explicit_bounds", |out| {
            list(out, &point.explicit_bounds, |out, bound| double(out, *bound));
        });
    } else {
        nothing(record, &["bucket_counts", "explicit_bounds"]);
    }
    if let Point::Exponential(point) = point {
        record.number("scale", point.scale);
        record.number("zero_count", point.zero_count);
        record.double("zero_threshold", point.zero_threshold);
        record.put("positive", |out| exponential(out, point.positive.as_ref()));
        record.put("negative", |out| exponential(out, point.negative.as_ref()));
    } else {
        nothing(record, &["scale", "zero_count", "zero_threshold", "positive", "negative"]);
    }
    if let Point::Summary(point) = point {
        record.put("quantile_values", |out| list(out, &point.quantile_values, quantile));
    } else {
        nothing(record, &["quantile_values"]);
    }
}

fn counts(out: &mut Vec<u8>, counts: &[u64]) {
    list(out, counts, |out, count| out.extend_from_slice(count.to_string().as_bytes()));
}

fn exponential(out: &mut Vec<u8>, buckets: Option<&Buckets>) {
    let Some(buckets) = buckets else { return out.extend_from_slice(b"null") };
    let mut object = ObjectWriter::begin(out);
    object.number("offset", buckets.offset);
    object.put("bucket_counts", |out| counts(out, &buckets.bucket_counts));
    object.end();
}

fn quantile(out: &mut Vec<u8>, quantile: &ValueAtQuantile) {
    let mut object = ObjectWriter::begin(out);
    object.double("quantile", quantile.quantile);
    object.double("value", quantile.value);
    object.end();
}

fn exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    let mut object = ObjectWriter::begin(out);
    object.time("timestamp", exemplar.time_unix_nano);
    match exemplar.value {
        Some(exemplar::Value::AsInt(value)) => object.number("value", value),
        Some(exemplar::Value::AsDouble(value)) => object.double("value", value),
        None => object.null("value"),
    }
    object.id("trace_id", &exemplar.trace_id);
    object.id("span_id", &exemplar.span_id);
    object.put("attributes", |out| attributes(out, &exemplar.filtered_attributes));
    object.end();
}
