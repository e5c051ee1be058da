//! The first steps with Forebay, as in the README.

use crate::support::{Daemon, fields};
use serde_json::json;

#[test]
fn an_event_is_accepted_synced_and_published() {
    let daemon = Daemon::dev();
    let event = r#"{"date":"2020-04-05 00:05:38","city":"Chicago"}"#;
    let accepted = daemon.post("name=visits", event);
    assert_eq!((accepted.status, accepted.counts()), (202, (1, 0)));
    assert_eq!(accepted.body, br#"{"successful_rows":1,"quarantined_rows":0}"#);
    let synced = daemon.post("name=visits&wait=true", event);
    assert_eq!((synced.status, synced.counts()), (200, (1, 0)));
    let published = daemon.post("name=visits&wait=table", event);
    assert_eq!((published.status, published.counts()), (200, (1, 0)));
    let object = published.json()["files"][0].as_str().unwrap().to_owned();
    assert!(daemon.data_dir().join("tables").join(object).is_file());
    let rows = daemon.rows("visits");
    assert_eq!(rows.len(), 3);
    for (row, response) in rows.iter().zip([&accepted, &synced, &published]) {
        assert_eq!(fields(row), json!({"date": "2020-04-05T00:05:38Z", "city": "Chicago"}));
        assert_eq!(row["_lsn"], json!(response.receipt()));
    }
}

#[test]
fn the_default_data_directory_is_relative_and_works() {
    let daemon = Daemon::bare(&["--dev"]);
    let published = daemon.post("name=visits&wait=table", r#"{"city":"Chicago"}"#);
    assert_eq!(published.status, 200, "{}", published.text());
    let object = published.json()["files"][0].as_str().unwrap().to_owned();
    assert!(daemon.dir().join("forebay-data/tables").join(object).is_file());
}
