//! OpenTelemetry exports from any bytes: the result is records that are JSON objects, or an error.
#![no_main]

use forebay::formats::otlp::{OtlpEncoding, OtlpSignal, records};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1 << 20;

fuzz_target!(|body: &[u8]| {
    for signal in OtlpSignal::ALL {
        for form in [OtlpEncoding::Protobuf, OtlpEncoding::Json] {
            let Ok(found) = records(signal, form, body, BYTES_MAX) else { continue };
            for record in found.iter() {
                let value: serde_json::Value = serde_json::from_slice(record).expect("a record is JSON");
                assert!(value.is_object());
            }
        }
    }
});
