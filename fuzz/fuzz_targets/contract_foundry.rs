//! Bodies of Foundry's contract: envelopes, schemas, records. A record that matches a schema fits its columns.
#![no_main]

use forebay::batch::{BodyKind, StreamId};
use forebay::columns;
use forebay::contracts::foundry::model::StreamSchema;
use forebay::contracts::foundry::envelope::{EnvelopeForm, open};
use forebay::schema::{Policy, Rules, Schema};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

const SCHEMA: &str = r#"{"fields":[
    {"name":"a","schema":{"nullable":true,"dataType":{"type":"string"}}},
    {"name":"b","schema":{"nullable":true,"dataType":{"type":"timestamp"}}},
    {"name":"c","schema":{"nullable":true,"dataType":{"type":"decimal","precision":38,"scale":10}}},
    {"name":"d","schema":{"nullable":true,"dataType":{"type":"float"}}},
    {"name":"e","schema":{"nullable":true,"dataType":{"type":"binary"}}},
    {"name":"f","schema":{"nullable":true,"dataType":{"type":"array","itemsSchema":
        {"nullable":true,"dataType":{"type":"struct","subFields":[
            {"name":"a","schema":{"nullable":true,"dataType":{"type":"date"}}},
            {"name":"b","schema":{"nullable":true,"dataType":{"type":"double"}}}]}}}}},
    {"name":"g","schema":{"nullable":true,"dataType":{"type":"map",
        "keySchema":{"nullable":false,"dataType":{"type":"string"}},
        "valueSchema":{"nullable":true,"dataType":{"type":"byte"}}}}}]}"#;

fn check(schema: &StreamSchema, record: &[u8]) {
    if schema.check(record).is_err() {
        return;
    }
    let schema = Schema { version: 1, columns: schema.columns() };
    let rules = Rules { policy: Policy::Strict, schema: Arc::new(schema), ..Rules::default() };
    if rules.check(1000).is_err() {
        return;
    }
    // Each record gets its own stream, since state between records is not tested here.
    let judged = columns::judge(StreamId(0), &rules, record, BodyKind::Document, 0).expect("it was checked");
    assert_eq!(judged.quarantined.total(), 0, "{}", String::from_utf8_lossy(record));
}

fuzz_target!(|input: (u8, &[u8])| {
    let (form, body) = input;
    let form = [EnvelopeForm::Record, EnvelopeForm::Records, EnvelopeForm::Bare, EnvelopeForm::Values][usize::from(form % 4)];
    let schema = StreamSchema::parse(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    if let Ok(envelope) = open(form, body) {
        for record in &envelope.records {
            check(&schema, record);
        }
    }
    if let Ok(value) = serde_json::from_slice(body)
        && let Ok(parsed) = StreamSchema::parse(&value)
    {
        assert_eq!(StreamSchema::parse(&parsed.to_json()).as_ref(), Ok(&parsed));
    }
});
