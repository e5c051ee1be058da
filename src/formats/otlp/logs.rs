//! Log records.

use super::write::{ObjectWriter, any};
use super::{Context, DecodeError, Out};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

pub(super) fn write(out: &mut Out, context: Context<'_>, log: &LogRecord) -> Result<(), DecodeError> {
    out.push(|out| {
        let mut record = ObjectWriter::begin(out);
        record.time("timestamp", log.time_unix_nano);
        record.time("observed_timestamp", log.observed_time_unix_nano);
        record.number("severity_number", log.severity_number);
        record.text("severity_text", &log.severity_text);
        record.put("body", |out| any(out, log.body.as_ref()));
        record.number("flags", log.flags);
        record.id("trace_id", &log.trace_id);
        record.id("span_id", &log.span_id);
        record.text("event_name", &log.event_name);
        record.attributes("attributes", &log.attributes);
        record.raw("resource", context.resource);
        record.raw("scope", context.scope);
        record.end();
    })
}
