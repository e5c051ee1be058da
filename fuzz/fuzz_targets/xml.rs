//! XML of any bytes: records are JSON, one object per line; nothing panics or grows without bound.
#![no_main]

use forebay::batch::BodyKind;
use forebay::formats::json::records;
use forebay::formats::xml::{XmlOptions, Known, transcribe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for row_tag in [None, Some("a")] {
        let about = XmlOptions { content_type: None, row_tag };
        let Ok(lines) = transcribe(data, about, &Known::default()) else { continue };
        let verdict = records::check(&[bytes::Bytes::from(lines)], BodyKind::Lines);
        let verdict = verdict.expect("lines are never refused as a whole");
        assert!(verdict.good > 0 && verdict.bad == 0, "{verdict:?}");
    }
});
