//! Parsing times: our own parser, and a calendar library. Many columns of events are times, in few formats.

use criterion::{Criterion, Throughput};
use forebay::columns::time;
use std::hint::black_box;

/// Various days and hours, so that branch predictors cannot memorize them.
fn texts(form: &str) -> Vec<String> {
    let day = |n: i64| {
        jiff::Timestamp::from_second(1_577_836_800 + n * 86_399 * 7).map(|at| at.strftime(form).to_string())
    };
    (0..1000).map(|n| day(n).unwrap()).collect()
}

pub fn timestamp(c: &mut Criterion) {
    for (name, form) in [
        ("space", "%Y-%m-%d %H:%M:%S"),
        ("zulu", "%Y-%m-%dT%H:%M:%S.123Z"),
        ("offset", "%Y-%m-%dT%H:%M:%S.123456+02:00"),
    ] {
        let texts = texts(form);
        let mut group = c.benchmark_group(format!("timestamp/{name}"));
        group.throughput(Throughput::Elements(texts.len() as u64));
        group.bench_function("forebay", |b| {
            b.iter(|| {
                texts.iter().filter_map(|text| time::timestamp(black_box(text.as_bytes()))).sum::<i64>()
            });
        });
        group.bench_function("forebay declared", |b| {
            b.iter(|| {
                let texts = texts.iter();
                texts.filter_map(|text| time::declared_timestamp(black_box(text.as_bytes()))).sum::<i64>()
            });
        });
        group.bench_function("jiff", |b| {
            b.iter(|| texts.iter().filter_map(|text| with_jiff(black_box(text))).sum::<i64>());
        });
    }
}

/// A time with its zone, or in UTC without one.
fn with_jiff(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_microsecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(jiff::tz::Offset::UTC.to_timestamp(civil).ok()?.as_microsecond())
}
