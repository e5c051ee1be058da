//! Spans.

use super::write::{ObjectWriter, list};
use super::{Context, DecodeError, Out};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

pub(super) fn write(out: &mut Out, context: Context<'_>, span: &Span) -> Result<(), DecodeError> {
    out.push(|out| {
        let mut record = ObjectWriter::begin(out);
        record.id("trace_id", &span.trace_id);
        record.id("span_id", &span.span_id);
        record.id("parent_span_id", &span.parent_span_id);
        record.text("trace_state", &span.trace_state);
        record.number("flags", span.flags);
        record.text("name", &span.name);
        record.text("kind", kind(span.kind));
        record.time("start_timestamp", span.start_time_unix_nano);
        record.time("end_timestamp", span.end_time_unix_nano);
        record.number("duration_ns", span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
        let status = span.status.as_ref();
        record.text("status_code", status_code(status));
        record.text("status_message", status.map_or("", |status| &status.message));
        record.put("events", |out| list(out, &span.events, event));
        record.put("links", |out| list(out, &span.links, link));
        record.attributes("attributes", &span.attributes);
        record.raw("resource", context.resource);
        record.raw("scope", context.scope);
        record.end();
    })
}

fn kind(kind: i32) -> &'static str {
    match SpanKind::try_from(kind) {
        Ok(SpanKind::Internal) => "internal",
        Ok(SpanKind::Server) => "server",
        Ok(SpanKind::Client) => "client",
        Ok(SpanKind::Producer) => "producer",
        Ok(SpanKind::Consumer) => "consumer",
        Ok(SpanKind::Unspecified) | Err(_) => "unspecified",
    }
}

fn status_code(status: Option<&Status>) -> &'static str {
    match status.map(|status| StatusCode::try_from(status.code)) {
        Some(Ok(StatusCode::Ok)) => "ok",
        Some(Ok(StatusCode::Error)) => "error",
        None | Some(Ok(StatusCode::Unset) | Err(_)) => "unset",
    }
}

fn event(out: &mut Vec<u8>, event: &Event) {
    let mut object = ObjectWriter::begin(out);
    object.time("timestamp", event.time_unix_nano);
    object.text("name", &event.name);
    object.attributes("attributes", &event.attributes);
    object.end();
}

fn link(out: &mut Vec<u8>, link: &Link) {
    let mut object = ObjectWriter::begin(out);
    object.id("trace_id", &link.trace_id);
    object.id("span_id", &link.span_id);
    object.text("trace_state", &link.trace_state);
    object.attributes("attributes", &link.attributes);
    object.end();
}
