//! Receivers: one request into the tables of several exports, files that are held back, events given afterwards.

use crate::support::Daemon;
use serde_json::json;

#[test]
fn nothing_is_held_back_where_nothing_is_wrong() {
    let daemon = Daemon::dev();
    daemon.post("name=visits&wait=table", "{\"a\":1}");
    let recovered = daemon.admin_post("/admin/v1/staged/recover");
    assert_eq!(
        (recovered.status, recovered.json()),
        (200, json!({"published": [], "replays": [], "held": []}))
    );
    assert_eq!(daemon.admin_post("/admin/v1/staged/recover?stream=none").status, 404);
    // A mapped stream has a mapping, and takes nothing but through its receiver.
    let put = |body: &str| {
        let body = body.as_bytes();
        crate::support::request(daemon.admin, "PUT", "/admin/v1/streams/m", &[], body)
    };
    let refused = put(r#"{"policy":"mapped"}"#);
    assert_eq!(refused.status, 400, "{}", refused.text());
    let column = r#"{"type":"body","name":"event"}"#;
    let made = put(&format!(r#"{{"policy":"mapped","settings":{{"mapping":{{"columns":[{column}]}}}}}}"#));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["schema"]["columns"][0]["name"], "event");
    let refused = daemon.post("name=m", "{\"a\":1}");
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("through its receiver"), "{}", refused.text());
    // So does what would land nowhere.
    let body = br#"{"settings":{"landing":{"table":false}}}"#;
    let made = crate::support::request(daemon.admin, "PUT", "/admin/v1/streams/nowhere", &[], body);
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(daemon.post("name=nowhere", "{\"a\":1}").status, 422);
}

#[test]
fn a_directory_is_that_of_one_stream() {
    let daemon = Daemon::dev();
    let put = |name: &str, directory: &str| {
        let body = json!({"settings": {"directory": directory}}).to_string();
        let path = format!("/admin/v1/streams/{name}");
        crate::support::request(daemon.admin, "PUT", &path, &[], body.as_bytes())
    };
    assert_eq!(put("a", "in.c-b.table/export=r.e").status, 201);
    let taken = put("b", "in.c-b.table/export=r.e");
    assert!(taken.status == 400 && taken.text().contains("another stream"), "{}", taken.text());
    for bad in ["", "..", "a/../b", "/a", "a/", "a b", "a\\b", &"x".repeat(600)] {
        let refused = put("b", bad);
        assert!(refused.status == 400 && refused.text().contains("no directory"), "{}", refused.text());
    }
    daemon.post("name=a&wait=table", "{\"n\":1}");
    assert_eq!(daemon.rows("in.c-b.table/export=r.e").len(), 1);
    // Its records that are none stand beside it.
    daemon.post("name=a&wait=table", "{\"n\":2}\nnone\n");
    assert_eq!(daemon.rows("in.c-b.table/export=r.e_quarantine").len(), 1);
}

#[test]
fn a_streams_own_conditions_decide_when_its_file_is_written() {
    let config = "[compactor]\nmax_idle = \"1h\"\nmax_rows = 2\n";
    let daemon = crate::support::Setup::dev(config).start();
    for (name, conditions) in [
        ("count", json!({"count": 3})),
        ("bytes", json!({"bytes": 1000})),
        ("age", json!({"age_seconds": 1})),
        ("none", json!({"count": 100})),
    ] {
        let body = json!({"settings": {"conditions": conditions}}).to_string();
        let path = format!("/admin/v1/streams/{name}");
        let made = crate::support::request(daemon.admin, "PUT", &path, &[], body.as_bytes());
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let files = |name: &str| {
        let shown = daemon.get(&format!("/admin/v1/streams/{name}/files")).json();
        shown["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["rows"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let written = |name: &str, rows: u64| {
        crate::support::eventually("the file", || (files(name).iter().sum::<u64>() == rows).then_some(()));
    };
    for n in 0..3 {
        daemon.post("name=none", format!("{{\"n\":{n}}}"));
        daemon.post("name=count", format!("{{\"n\":{n}}}"));
    }
    written("count", 3);
    daemon.post("name=bytes", format!("{{\"n\":\"{}\"}}", "x".repeat(600)));
    daemon.post("name=bytes", format!("{{\"n\":\"{}\"}}", "x".repeat(600)));
    written("bytes", 2);
    daemon.post("name=age", "{\"n\":1}");
    written("age", 1);
    assert!(files("none").is_empty(), "its own condition holds, not that of the configuration");
}
