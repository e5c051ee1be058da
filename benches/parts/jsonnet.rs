//! Rows of mappings: paths, templates in the interpreter itself on one core, and templates through a worker's pipe.

use criterion::{Criterion, Throughput};
use forebay::mapping::jsonnet::{Engine, natives};
use forebay::mapping::{Evaluator, EvaluatorSettings, Mapping, MappingRequest, headers};
use rsjsonnet_lang::arena::Arena;
use serde_json::json;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// A row of three columns, as in the contract's examples.
const TEMPLATES: [&str; 3] = [
    r#"Body("a.b")"#,
    r#"Body("col1") + ":" + Body("col2")"#,
    r#"{ ip: Ip(), day: Now("%Y-%m-%d"), agent: Header("User-Agent", "none"), all: Body("list", []) }"#,
];
const BODY: &str = r#"{"col1":"val1","col2":"val2","a":{"b":[1,2,{"c":"text of some length"}]},
    "list":[{"id":1,"name":"one"},{"id":2,"name":"two"}],"at":"2023-01-01T00:00:00.000Z","n":1234.5,"ok":true}"#;
/// The number of concurrent requests.
const TOGETHER: usize = 256;

fn templates() -> Arc<Mapping> {
    let columns = TEMPLATES.iter().enumerate().map(|(at, content)| {
        let template = json!({"language": "jsonnet", "content": content});
        json!({"type": "template", "name": format!("c{at}"), "template": template})
    });
    let columns: Vec<_> = columns.collect();
    Arc::new(serde_json::from_value(json!({ "columns": columns })).unwrap())
}

fn paths() -> Arc<Mapping> {
    let column = |path: &str| json!({"type": "path", "name": path, "path": path});
    let columns = ["a.b", "col1", "list"].map(column);
    Arc::new(serde_json::from_value(json!({ "columns": columns })).unwrap())
}

pub fn rows(criterion: &mut Criterion) {
    let all: [(&str, &[u8]); 3] =
        [("user-agent", b"bench/1"), ("accept", b"*/*"), ("content-type", b"application/json")];
    let headers = headers(all);
    let request = MappingRequest {
        body: BODY.as_bytes(),
        content_type: Some("application/json"),
        headers: &headers,
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: 1_672_531_200_000_000,
    };
    let mut group = criterion.benchmark_group("jsonnet");
    group.throughput(Throughput::Elements(1));

    group.bench_function("row of 3 templates, compiled once", |bencher| {
        let arena = Arena::new();
        let mut engine = Engine::new(&arena);
        let compiled = TEMPLATES.map(|template| engine.compile(template).unwrap());
        bencher.iter(|| {
            let mut natives = natives(&request);
            for template in &compiled {
                black_box(engine.evaluate(template, &mut natives, false).unwrap());
            }
        });
    });
    group.bench_function("row of 3 templates, compiled each time", |bencher| {
        let arena = Arena::new();
        let mut engine = Engine::new(&arena);
        bencher.iter(|| {
            let mut natives = natives(&request);
            for template in TEMPLATES {
                let template = engine.compile(template).unwrap();
                black_box(engine.evaluate(&template, &mut natives, false).unwrap());
            }
        });
    });
    group.bench_function("row of 3 templates, a new interpreter each time", |bencher| {
        bencher.iter(|| {
            let arena = Arena::new();
            let mut engine = Engine::new(&arena);
            let mut natives = natives(&request);
            for template in TEMPLATES {
                let template = engine.compile(template).unwrap();
                black_box(engine.evaluate(&template, &mut natives, false).unwrap());
            }
        });
    });

    let evaluator = Evaluator::new(EvaluatorSettings {
        program: env!("CARGO_BIN_EXE_forebay").into(),
        workers: 1,
        memory_max: 128 << 20,
        deadline: Duration::from_secs(10),
    });
    let (templates, paths) = ([templates()], [paths()]);
    group.bench_function("row of 3 templates, one at a time through a worker", |bencher| {
        bencher.iter(|| black_box(evaluator.evaluate_blocking(&templates, &[request])[0][0].is_ok()));
    });
    group.bench_function("row of 3 paths", |bencher| {
        bencher.iter(|| black_box(evaluator.evaluate_blocking(&paths, &[request])[0][0].is_ok()));
    });
    group.throughput(Throughput::Elements(TOGETHER as u64));
    group.bench_function("row of 3 templates, 256 together through a worker", |bencher| {
        let requests = vec![request; TOGETHER];
        bencher.iter(|| black_box(evaluator.evaluate_blocking(&templates, &requests)[0].len()));
    });
    group.finish();
}
