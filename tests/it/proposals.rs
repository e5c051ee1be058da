//! New fields in a stream with policy `propose`: kept, proposed, accepted, filled.

use crate::schema_api::{admin, columns, put};
use crate::support::{Daemon, Setup, fields};
use crate::wire::count;
use serde_json::{Value, json};

fn proposals(daemon: &Daemon) -> Value {
    daemon.get("/admin/v1/streams/e/schema/proposals").json()["proposals"].clone()
}

#[test]
fn new_fields_are_proposed_with_type_count_times_and_examples() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    put(&daemon, "e", &json!({"policy": "propose", "columns": columns("a int8; o struct<x: int8>")}));
    let first = r#"{"a":1,"n":1,"o":{"x":1,"y":"z"}}
{"a":2,"n":2,"t":"2020-04-05 00:05:38"}
{"a":"bad","n":3}"#;
    assert_eq!(daemon.post("name=e&wait=table", first).counts(), (2, 1));
    let before = proposals(&daemon);
    // Another cut, after a restart.
    drop(daemon.kill());
    let daemon = Setup::dev("").start_at(dir.path());
    assert_eq!(proposals(&daemon), before);
    let second: Vec<String> = (0..10).map(|n| format!("{{\"n\":{n}.5,\"l\":[{n}]}}")).collect();
    assert_eq!(daemon.post("name=e&wait=table", second.join("\n")).counts(), (10, 0));
    let found = proposals(&daemon);
    let shown: Vec<Value> =
        found.as_array().unwrap().iter().map(|p| json!([p["path"], p["type"], p["count"]])).collect();
    assert_eq!(
        shown,
        [
            json!([["n"], "float64", 12]),
            json!([["l"], "list<int64>", 10]),
            json!([["o", "y"], "string", 1]),
            json!([["t"], "timestamp", 1]),
        ]
    );
    let n = &found[0];
    assert_eq!(n["examples"], json!(["1", "2", "0.5", "1.5", "2.5"]));
    assert!(n["first_at"].as_str() < n["last_at"].as_str(), "{n}");
    assert_eq!(n["first_at"], before[0]["first_at"]);
    // Until then, the values are in the rows' `_rescued`.
    let rows: Vec<Value> = daemon.rows("e").iter().map(fields).collect();
    assert_eq!(rows[0], json!({"a": 1, "o": {"x": 1}, "_rescued": {"n": 1, "o": {"y": "z"}}}));
    assert_eq!(daemon.get("/admin/v1/streams/e").json()["proposals"], 4);
}

#[test]
fn accepted_fields_are_filled_from_acceptance_on() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "propose", "columns": columns("a int8")}));
    let record = r#"{"a":1,"n":7,"s":"x","t":1586045138,"o":{"k":true}}"#;
    daemon.post("name=e&wait=table", record);
    let accept = |body: &Value| admin(&daemon, "POST", "e/schema/proposals", body);
    let adjusted = json!([{"path": ["n"], "type": "decimal(10, 2)", "name": "amount"},
        {"path": ["t"], "type": "timestamp", "epoch_digits": 0, "declared": "DateTime"}]);
    let accepted = accept(&json!({"version": 1, "accept": adjusted}));
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    let expected = json!([{"name": "a", "type": "int8"}, {"name": "amount", "type": "decimal(10, 2)", "path": ["n"]},
        {"name": "t", "type": "timestamp", "declared": "DateTime", "epoch_digits": 0}]);
    assert_eq!((&accepted.json()["version"], &accepted.json()["columns"]), (&json!(2), &expected));
    assert_eq!(daemon.post("name=e&wait=table", record).counts(), (1, 0));
    assert_eq!(proposals(&daemon).as_array().unwrap().len(), 2, "the remaining proposals");
    assert_eq!(accept(&json!({"accept": "all"})).json()["version"], 3);
    assert_eq!(proposals(&daemon), json!([]));
    assert_eq!(daemon.post("name=e", record).counts(), (1, 0));
    let rows: Vec<Value> = daemon.rows("e").iter().map(fields).collect();
    let rescued = json!({"s": "x", "o": {"k": true}});
    assert_eq!(
        rows[0],
        json!({"a": 1, "_rescued": {"n": 7, "s": "x", "t": 1_586_045_138, "o": {"k": true}}})
    );
    let t = "2020-04-05T00:05:38Z";
    assert_eq!(rows[1], json!({"a": 1, "amount": 7.0, "t": t, "_rescued": rescued}));
    assert_eq!(rows[2], json!({"a": 1, "amount": 7.0, "t": t, "s": "x", "o": {"k": true}}));
    assert_eq!(count(&daemon, "forebay_compactor_verdict_mismatches_total"), 0);
}

#[test]
fn dismissed_fields_are_not_proposed_but_can_be_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    put(&daemon, "e", &json!({"policy": "propose", "columns": columns("a int8; o struct<x: int8>")}));
    let record = r#"{"a":1,"n":7,"s":"x","t":5,"o":{"y/z":true}}"#;
    daemon.post("name=e&wait=table", record);
    let names = |daemon: &Daemon| {
        let all = proposals(daemon);
        let mut names: Vec<String> =
            all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&daemon), ["n", "o_y/z", "s", "t"]);
    let dismiss = |daemon: &Daemon, rest: &str| {
        let response = admin(daemon, "DELETE", &format!("e/schema/proposals{rest}"), &Value::Null);
        (response.status, response.text())
    };
    assert_eq!(dismiss(&daemon, "/o.y%2Fz").0, 204);
    assert_eq!(names(&daemon), ["n", "s", "t"]);
    let (status, text) = dismiss(&daemon, "/o.y%2Fz");
    assert!(status == 404 && text.contains("no field is proposed"), "{text}");
    assert_eq!(dismiss(&daemon, "/m").0, 404);
    // Neither further values nor a restart propose it again.
    drop(daemon.kill());
    let daemon = Setup::dev("").start_at(dir.path());
    daemon.post("name=e&wait=table", record);
    assert_eq!(names(&daemon), ["n", "s", "t"]);
    assert_eq!(daemon.get("/admin/v1/streams/e").json()["proposals"], 3);
    assert_eq!(dismiss(&daemon, "").0, 204);
    assert_eq!(proposals(&daemon), json!([]));
    assert_eq!(dismiss(&daemon, "").0, 204, "no proposal is left to dismiss");
    // Values are kept as before, other new fields are proposed, and a dismissed field can still become a column.
    daemon.post("name=e&wait=table", r#"{"n":8,"u":1}"#);
    assert_eq!(names(&daemon), ["u"]);
    let rows: Vec<Value> = daemon.rows("e").iter().map(fields).collect();
    assert_eq!(rows[2], json!({"_rescued": {"n": 8, "u": 1}}));
    let accepted = admin(&daemon, "POST", "e/schema/proposals", &json!({"accept": [{"path": ["n"]}]}));
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    daemon.post("name=e&wait=table", r#"{"n":9}"#);
    assert_eq!(fields(&daemon.rows("e")[3]), json!({"n": 9}));
}

#[test]
fn invalid_acceptances_are_refused() {
    let daemon = Daemon::dev();
    put(&daemon, "e", &json!({"policy": "propose", "columns": columns("a int8; b_c int8")}));
    daemon.post("name=e&wait=table", r#"{"n":1,"b":{"c":1},"_lsn":5}"#);
    assert_eq!(
        proposals(&daemon).as_array().unwrap().len(),
        2,
        "the name of a system column must not be proposed"
    );
    let check = |body: &Value, status: u16, detail: &str| {
        let response = admin(&daemon, "POST", "e/schema/proposals", body);
        assert_eq!(response.status, status, "{}", response.text());
        assert!(response.text().contains(detail), "{}", response.text());
    };
    check(&json!({"accept": [{"path": ["m"]}]}), 404, "no field is proposed");
    check(&json!({"accept": [{"path": ["n"], "type": "int99"}]}), 400, "not a valid column type");
    check(&json!({"accept": [{"path": ["n"], "name": "a"}]}), 400, "duplicate column name 'a'");
    check(&json!({"accept": [{"path": ["n"]}, {"path": ["n"]}]}), 400, "duplicate column name 'n'");
    check(&json!({"accept": [{"path": ["n"], "default": "x"}]}), 400, "its default");
    check(&json!({"accept": "some"}), 400, "'accept' must be");
    check(&json!({"version": 7, "accept": "all"}), 409, "version 1, not 7");
    assert_eq!(daemon.get("/admin/v1/streams/e/schema").json()["version"], 1);
    check(&json!({"accept": []}), 200, "\"version\": 1");
}
