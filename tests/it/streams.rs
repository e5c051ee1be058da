//! Streams: their names, and many of them.

use crate::bucket::{Bucket, Fault};
use crate::support::{Daemon, Setup, eventually, fields, parquet_files, read_table, request};
use crate::wire::{count, streams};
use serde_json::json;

const EVENT: &str = r#"{"city":"Chicago"}"#;

#[test]
fn invalid_names_are_refused_and_leave_nothing() {
    let daemon = Daemon::dev();
    let too_long = "a".repeat(129);
    let far_too_long = "a".repeat(300);
    let names = [
        "",
        "/",
        "a/b",
        "a%2Fb",
        "/etc/passwd",
        "..",
        ".",
        "../x",
        "..%2F..%2Fx",
        "%2e%2e",
        ".hidden",
        "a%00",
        "%00",
        "a%00b",
        "a%0Ab",
        "a%20b",
        "a+b",
        "%FF%FE",
        "1st",
        "9",
        "-a",
        "a:b",
        "a*b",
        "a%3Fb",
        "a%22b",
        "a,b",
        "a=b",
        "%C3%BCber",
        "b%C3%BCro",
        "%E6%97%A5%E6%9C%AC",
        "%F0%9F%A6%80",
        "caf%C3%A9",
        &too_long,
        &far_too_long,
        "visits_quarantine",
        "_quarantine",
    ];
    for name in names {
        let refused = daemon.post(&format!("name={name}"), EVENT);
        assert_eq!(refused.status, 400, "{name:?}: {}", refused.text());
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        let parts = ["stream's name starts with", "belong to quarantine tables", "is required"];
        assert!(parts.iter().any(|part| error.contains(part)), "{name:?}: {error}");
    }
    assert_eq!(streams(&daemon), Vec::<String>::new());
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    let tables = daemon.data_dir().join("tables");
    assert!(tables.read_dir().map_or(true, |mut dir| dir.next().is_none()), "{tables:?} is not empty");
}

#[test]
fn valid_names_become_tables() {
    let daemon = Daemon::dev();
    let longest = "x".repeat(128);
    let names = [
        "a",
        "A",
        "_",
        "__",
        "a.b",
        "a-b",
        "a_1",
        "Z9",
        "a..b",
        "a.",
        "a-",
        "quarantine",
        "a_quarantine_",
        "a_QUARANTINE",
        "CON",
        "visits.parquet",
        &longest,
    ];
    for (n, name) in names.iter().enumerate() {
        let body = format!("{{\"n\":{n}}}\nbad\n");
        assert_eq!(daemon.post(&format!("name={name}"), body).counts(), (1, 1), "{name}");
    }
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    let tables = daemon.data_dir().join("tables");
    for (n, name) in names.iter().enumerate() {
        let rows = read_table(&tables.join(name));
        assert_eq!(rows.iter().map(fields).collect::<Vec<_>>(), [json!({ "n": n })], "{name}");
        assert_eq!(read_table(&tables.join(format!("{name}_quarantine"))).len(), 1, "{name}");
    }
    assert_eq!(tables.read_dir().unwrap().count(), 2 * names.len());
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(streams(&daemon), sorted);
}

#[test]
fn a_stream_is_also_found_by_its_id() {
    let daemon = Daemon::dev();
    daemon.post("name=visits", EVENT);
    let id = daemon.get("/admin/v1/streams/visits").json()["id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.post(&format!("name={id}"), EVENT).status, 202);
    assert_eq!(daemon.rows("visits").len(), 2);
    assert_eq!(daemon.get(&format!("/admin/v1/streams/{id}")).json()["name"], "visits");
    assert_eq!(streams(&daemon), ["visits"]);
}

#[test]
fn many_streams_share_little_memory() {
    let daemon = Setup::dev("[compactor]\nmemory_max = \"16MiB\"\nmax_idle = \"off\"").start();
    let text = "x".repeat(2_000);
    let rounds = 2;
    for round in 0..rounds {
        for n in 0..300 {
            let response =
                daemon.post(&format!("name=s{n}"), json!({"n": n, "round": round, "text": text}).to_string());
            assert_eq!((response.status, response.counts()), (202, (1, 0)));
        }
        // A large stream among the small ones.
        let large = format!("{}\n", json!({"text": "y".repeat(5_000)})).repeat(800);
        assert_eq!(daemon.post("name=large", large).counts(), (800, 0));
    }
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
    let tables = daemon.data_dir().join("tables");
    for n in 0..300 {
        let rows = read_table(&tables.join(format!("s{n}")));
        let expected: Vec<_> =
            (0..rounds).map(|round| json!({"n": n, "round": round, "text": text})).collect();
        assert_eq!(rows.iter().map(fields).collect::<Vec<_>>(), expected, "s{n}");
    }
    assert_eq!(read_table(&tables.join("large")).len(), 800 * rounds);
    assert_eq!(
        count(&daemon, "forebay_compactor_stored_rows_total"),
        300 * rounds as u64 + 800 * rounds as u64
    );
    assert_eq!(count(&daemon, "forebay_compactor_restarts_total"), 0);
    assert_eq!(streams(&daemon).len(), 301);
}

#[test]
fn a_dropped_table_leaves_no_file_behind() {
    let (bucket, dir) = (Bucket::start(), tempfile::tempdir().unwrap());
    // --dev, so that no token is needed after the restart.
    let start = || Setup::dev(&bucket.config("t")).start_at(dir.path());
    let daemon = start();
    for stream in ["v", "stays"] {
        assert_eq!(daemon.post(&format!("name={stream}"), "{\"n\":1}\nbad\n").counts(), (1, 1));
    }
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    let files = |table: &str| parquet_files(&bucket.dir("t").join(table)).len();
    assert_eq!(["v", "v_quarantine", "stays", "stays_quarantine"].map(files), [1; 4]);
    bucket.set(Fault::Down);
    assert_eq!(daemon.post("name=v", "{\"n\":2}").counts(), (1, 0));
    let drop = |path: &str| request(daemon.admin, "DELETE", path, &[], b"").status;
    assert_eq!(drop("/admin/v1/streams/v?drop=maybe"), 400);
    assert_eq!(drop("/admin/v1/streams/v?drop=true"), 204);
    assert_eq!(drop("/admin/v1/streams/v?drop=true"), 404);
    // Rows that were not in a file yet are never published, and no request waits for them.
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    assert_eq!(daemon.get("/admin/v1/staged").json()["staged"], json!([]));
    assert_eq!(files("v"), 1, "the bucket is down");
    daemon.kill();
    bucket.set(Fault::None);
    let daemon = start();
    eventually("the removal of its files", || (files("v") + files("v_quarantine") == 0).then_some(()));
    assert_eq!(daemon.post("name=v", "{\"n\":3}").counts(), (1, 0));
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    let rows = read_table(&bucket.dir("t").join("v"));
    assert_eq!(rows.iter().map(fields).collect::<Vec<_>>(), [json!({"n": 3})]);
    assert_eq!(["stays", "stays_quarantine"].map(files), [1; 2]);
}
