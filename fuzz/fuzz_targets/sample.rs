//! Samples of any bytes: the inferred schema fits the records of the sample.
#![no_main]

use forebay::batch::BodyKind;
use forebay::formats::json::records;
use forebay::columns::sample::{SampleLimits, Sample};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = SampleLimits { records: 1000, fields: 100 };
    for kind in [BodyKind::Lines, BodyKind::Document] {
        let Ok(sample) = Sample::read(data, kind, limits) else { continue };
        assert!(sample.records > 0 && sample.first.len() as u64 <= sample.records);
        let verdict = records::check(&[bytes::Bytes::copy_from_slice(data)], kind);
        let verdict = verdict.expect("what has records is a body");
        assert!(sample.records <= verdict.good, "{} of {}", sample.records, verdict.good);
    }
});
