//! Bodies of any bytes: the check before the answer agrees with `serde_json`, however the body is split on the wire,
//! and the compactor stores and quarantines exactly as the check predicted.
#![no_main]

use bytes::Bytes;
use forebay::batch::BodyKind;
use forebay::columns::{RowLimits, BodyOrigin, Rows};
use forebay::formats::json::records;
use forebay::schema::Rules;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const LIMITS: RowLimits = RowLimits { columns_max: 50, received_at_column: true, lsn_column: true, record_column: true };

fuzz_target!(|data: &[u8]| {
    let Some((cut, body)) = data.split_first() else { return };
    let cut = usize::from(*cut).min(body.len());
    let pieces = [Bytes::copy_from_slice(&body[..cut]), Bytes::copy_from_slice(&body[cut..])];
    for kind in [BodyKind::Lines, BodyKind::Document] {
        let whole = records::check(&[Bytes::copy_from_slice(body)], kind);
        assert_eq!(whole, records::check(&pieces, kind), "cut at {cut}");
        let Ok(verdict) = whole else { continue };
        let mut rows = Rows::new(&Rules::default(), LIMITS);
        // Twice: the second time with the state that the first has left.
        for lsn in 1..=2 {
            let counts = rows.append(body, kind, BodyOrigin { lsn, received_at: 0 });
            assert_eq!((counts.stored, counts.quarantined.total()), (verdict.good, verdict.bad));
        }
        let batch = rows.finish(1);
        assert_eq!(batch.map_or(0, |batch| batch.batch.num_rows() as u64), 2 * verdict.good);
        if kind == BodyKind::Lines {
            assert_eq!(verdict.good, good_lines(body), "{:?}", String::from_utf8_lossy(body));
        }
    }
});

/// The number of lines that `serde_json` parses as objects.
fn good_lines(body: &[u8]) -> u64 {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let lines = body.split(|byte| *byte == b'\n');
    lines.filter(|line| is_object(line)).count() as u64
}

fn is_object(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    // Strings are decoded, so that escapes are checked. Numbers are not, so that none is out of range.
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return false };
    fields.values().all(|value| decodes(value.get()))
}

fn decodes(value: &str) -> bool {
    match value.trim_start().as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(value).is_ok(),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(value)
            .is_ok_and(|items| items.iter().all(|item| decodes(item.get()))),
        Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(value)
            .is_ok_and(|fields| fields.values().all(|value| decodes(value.get()))),
        _ => true,
    }
}
