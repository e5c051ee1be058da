//! Decodes an export in protobuf. The three signals have the same layers: resources (field 1), each with its
//! resource (1) and scopes (2), each scope with its scope (1) and records (2).

use super::metrics::{Metric, MetricKind, Point};
use super::wire::{WireFields, WireValue};
use super::{Context, DecodeError, OtlpSignal, Out, logs, metrics, traces, write};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

pub(super) fn walk(signal: OtlpSignal, body: &[u8], out: &mut Out) -> Result<(), DecodeError> {
    for group in WireFields(body).all(1) {
        let group = WireFields(group?);
        let resource = write::resource(&merged::<Resource>(group.clone())?);
        for scoped in group.all(2) {
            let scoped = WireFields(scoped?);
            let scope = write::scope(&merged::<InstrumentationScope>(scoped.clone())?);
            let context = Context { resource: &resource, scope: &scope };
            for record in scoped.all(2) {
                let record = record?;
                match signal {
                    OtlpSignal::Logs => logs::write(out, context, &LogRecord::decode(record)?)?,
                    OtlpSignal::Traces => traces::write(out, context, &Span::decode(record)?)?,
                    OtlpSignal::Metrics => metric(out, context, &WireFields(record))?,
                }
            }
        }
    }
    Ok(())
}

/// The message in field 1, which protobuf allows to be split into parts.
fn merged<T: Message + Default>(fields: WireFields<'_>) -> Result<T, DecodeError> {
    let mut message = T::default();
    for part in fields.all(1) {
        message.merge(part?)?;
    }
    Ok(message)
}

fn metric(out: &mut Out, context: Context<'_>, fields: &WireFields<'_>) -> Result<(), DecodeError> {
    let [mut name, mut description, mut unit] = [""; 3];
    for field in fields.clone() {
        match field? {
            (1, WireValue::Bytes(bytes)) => name = utf8(bytes)?,
            (2, WireValue::Bytes(bytes)) => description = utf8(bytes)?,
            (3, WireValue::Bytes(bytes)) => unit = utf8(bytes)?,
            _ => {}
        }
    }
    for field in fields.clone() {
        let (number, WireValue::Bytes(data)) = field? else { continue };
        let Some(kind) = MetricKind::of_field(number) else { continue };
        let (mut temporality, mut is_monotonic) = (0, false);
        for field in WireFields(data) {
            match field? {
                (2, WireValue::Varint(value)) => temporality = i32::try_from(value).unwrap_or(0),
                (3, WireValue::Varint(value)) => is_monotonic = value != 0,
                _ => {}
            }
        }
        let metric = Metric { name, description, unit, kind, temporality, is_monotonic };
        for point in WireFields(data).all(1) {
            metrics::write(out, context, &metric, &Point::of_protobuf(kind, point?)?)?;
        }
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Text)
}
