//! Real events: every value is found again, in its column or in `_rescued`.

use crate::support::{Daemon, Setup};
use flate2::read::GzDecoder;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

const EVENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/github-webhooks.ndjson.gz");

fn events() -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(File::open(EVENTS).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Parses a point in time, in UTC if it has no offset.
fn instant(text: &str) -> Option<jiff::Timestamp> {
    let civil = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    text.parse().ok().or_else(|| Some(civil()?.timestamp()))
}

/// Whether the column's value `stored` and the value `rescued` together equal `sent`.
fn is_kept(sent: &Value, stored: Option<&Value>, rescued: Option<&Value>) -> Result<(), String> {
    if sent.is_null() || rescued == Some(sent) || stored == Some(sent) {
        return Ok(());
    }
    match (sent, stored) {
        // A JSON column holds text.
        (_, Some(Value::String(text)))
            if serde_json::from_str::<Value>(text).is_ok_and(|json| json == *sent) =>
        {
            Ok(())
        }
        (Value::String(text), Some(Value::String(stored))) => {
            let same = instant(text).is_some() && instant(text) == instant(stored);
            if same { Ok(()) } else { Err(format!("{sent} became {stored}")) }
        }
        (Value::Number(sent), Some(Value::Number(stored))) if sent.as_f64() == stored.as_f64() => Ok(()),
        (Value::Object(sent), _) => {
            let none = Map::new();
            let stored = stored.and_then(Value::as_object).unwrap_or(&none);
            let rescued = rescued.and_then(Value::as_object).unwrap_or(&none);
            sent.iter().try_for_each(|(key, value)| {
                is_kept(value, stored.get(key), rescued.get(key)).map_err(|lost| format!("{key}.{lost}"))
            })
        }
        (Value::Array(sent), Some(Value::Array(stored))) if sent.len() == stored.len() => {
            let items = sent.iter().zip(stored).enumerate();
            items.into_iter().try_for_each(|(index, (sent, stored))| {
                is_kept(sent, Some(stored), None).map_err(|lost| format!("{index}.{lost}"))
            })
        }
        (sent, stored) => Err(format!("{sent} became {stored:?}, rescued {rescued:?}")),
    }
}

fn load(daemon: &Daemon, rows: &str) {
    let url = format!("http://{}", daemon.ingest);
    let mut load = Command::new(env!("CARGO_BIN_EXE_forebay"));
    load.args([
        "load",
        EVENTS,
        "--stream",
        "github",
        "--connections",
        "1",
        "--url",
        &url,
        "--batch-rows",
        rows,
    ]);
    assert!(load.stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn every_value_of_real_events_is_kept() {
    let events = events();
    // Once all in one file, and once with ten rows per file, where types are determined early and more is rescued.
    for (rows, config) in [("500", ""), ("10", "[compactor]\nmax_rows = 10\n[limits]\ncolumns_max = 200")] {
        let daemon = Setup::dev(config).start();
        load(&daemon, rows);
        let stored = daemon.rows("github");
        assert_eq!(stored.len(), events.len());
        for (sent, stored) in events.iter().zip(&stored) {
            let kept = is_kept(sent, Some(stored), stored.get("_rescued"));
            assert_eq!(kept, Ok(()), "{} {}", sent["event"], stored["_lsn"]);
        }
        let shown = daemon.get("/admin/v1/streams/github").json();
        assert_eq!(shown["rows"]["quarantined"], 0);
        assert!(shown["schema"]["columns"].as_array().unwrap().len() > 10);
    }
}
