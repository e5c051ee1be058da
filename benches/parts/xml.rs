//! Converting XML documents to NDJSON, in MB/s of the document.

use criterion::{Criterion, Throughput};
use forebay::formats::xml::{Known, XmlOptions, transcribe};
use std::fmt::Write;

/// A document of orders, with attributes, nested and repeated elements.
fn document(records: usize) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<records>\n");
    for n in 0..records {
        write!(
            text,
            "  <record id=\"{n}\">\n    <order_id>o-{n}</order_id>\n    <email>user{n}@example.com</email>\n    \
             <address country=\"NO\"><city>Oslo</city><street>Karl Johans gate {}</street></address>\n    \
             <item sku=\"a{}\">1</item>\n    <item sku=\"b\">2</item>\n    <note>Ring &amp; wait</note>\n  </record>\n",
            n % 97,
            n % 13
        )
        .unwrap();
    }
    text.push_str("</records>\n");
    text
}

pub fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xml");
    for records in [1, 1000] {
        let document = document(records);
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(format!("{records} records"), |bencher| {
            bencher
                .iter(|| transcribe(document.as_bytes(), XmlOptions::default(), &Known::default()).unwrap());
        });
    }
    group.finish();
}
