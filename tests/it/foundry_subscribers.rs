//! Palantir Foundry's contract: subscribers and their positions, which survive restarts.

use crate::foundry::{call, call_as, create, good, publish_path, refused};
use crate::foundry_read::{PATIENT, create_with, publish, schema};
use crate::support::{Daemon, Response, Setup, request};
use serde_json::{Value, json};

fn subscribers(dataset: &str, branch: &str) -> String {
    format!("/api/v2/streams/datasets/{dataset}/streams/{branch}/subscribers")
}

fn register(daemon: &Daemon, dataset: &str, body: &Value) -> Response {
    call(daemon, "POST", &format!("{}?preview=true", subscribers(dataset, "master")), body)
}

fn of(dataset: &str, id: &str, what: &str) -> String {
    publish_path(dataset, "master", &format!("subscribers/{id}/{what}"))
}

fn post(daemon: &Daemon, dataset: &str, what: &str, body: &Value) -> Response {
    call(daemon, "POST", &of(dataset, "sub-1", what), body)
}

fn position(daemon: &Daemon, dataset: &str) -> Value {
    good(&call(daemon, "GET", &of(dataset, "sub-1", "getReadPosition"), &Value::Null))
}

fn numbers(records: &Value) -> Vec<i64> {
    let records = records.as_array().map(Vec::as_slice).unwrap_or_default();
    records.iter().map(|record| record["value"]["n"].as_i64().unwrap()).collect()
}

fn records(from: i64, to: i64) -> Value {
    json!((from..to).map(|n| json!({"id": "a", "n": n})).collect::<Vec<_>>())
}

#[test]
fn a_subscriber_reads_commits_and_continues() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::with_config(PATIENT).start_at(dir.path());
    let token = daemon.token.clone();
    let dataset = create(&daemon, "s", &schema());
    publish(&daemon, &dataset, &records(0, 10));
    let made = good(&register(&daemon, &dataset, &json!({"subscriberId": "sub-1"})));
    assert_eq!(
        (
            &made["subscriberId"],
            &made["datasetRid"],
            &made["branchName"],
            &made["startOffsets"],
            &made["readPosition"]
        ),
        (&json!("sub-1"), &json!(dataset), &json!("master"), &json!({"0": 0}), &json!({"type": "earliest"}))
    );
    let created = made["createdTime"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");
    // Registering again returns the same subscriber.
    let again = json!({"subscriberId": "sub-1", "readPosition": {"type": "latest"}});
    assert_eq!(good(&register(&daemon, &dataset, &again)), made);
    let read = |daemon: &Daemon, body: &Value| {
        numbers(&good(&post(daemon, &dataset, "readRecords", body))["recordsByPartition"]["0"])
    };
    // Records that were not committed are returned again.
    for _ in 0..2 {
        assert_eq!(read(&daemon, &json!({"limit": 4})), [0, 1, 2, 3]);
    }
    assert_eq!(
        good(&post(&daemon, &dataset, "commitOffsets", &json!({"offsets": {"0": 3}}))),
        json!({"0": 4})
    );
    assert_eq!(position(&daemon, &dataset), json!({"0": 4}));
    assert_eq!(read(&daemon, &json!({"limit": 3, "autoCommit": true})), [4, 5, 6]);
    daemon.kill();
    let mut daemon = Setup::with_config(PATIENT).start_at(dir.path());
    daemon.token = token;
    assert_eq!(position(&daemon, &dataset), json!({"0": 7}));
    assert_eq!(read(&daemon, &json!({"autoCommit": true})), [7, 8, 9]);
    assert_eq!(good(&post(&daemon, &dataset, "readRecords", &json!({}))), json!({"recordsByPartition": {}}));
    for (to, expected) in [
        (json!({"type": "earliest"}), 0),
        (json!({"type": "latest"}), 10),
        (json!({"type": "specific", "offsets": {"0": 6}}), 6),
    ] {
        let reset = good(&post(&daemon, &dataset, "resetOffsets", &json!({"position": to})));
        assert_eq!(reset, json!({"0": expected}));
        assert_eq!(position(&daemon, &dataset), reset);
    }
    let path = format!("{}/sub-1", subscribers(&dataset, "master"));
    assert_eq!(call(&daemon, "DELETE", &path, &Value::Null).status, 204);
    let gone = call(&daemon, "DELETE", &path, &Value::Null);
    assert_eq!(refused(&gone, 404, "NOT_FOUND", "SubscriberNotFound"), json!({"subscriberId": "sub-1"}));
}

#[test]
fn invalid_subscriber_calls_are_refused() {
    let daemon = Setup::with_config(PATIENT).start();
    let (dataset, other) = (create(&daemon, "s", &schema()), create(&daemon, "t", &schema()));
    publish(&daemon, &dataset, &records(0, 5));
    good(&register(&daemon, &dataset, &json!({"subscriberId": "sub-1"})));
    let taken = register(&daemon, &other, &json!({"subscriberId": "sub-1"}));
    let expected =
        json!({"subscriberId": "sub-1", "existingDatasetRid": dataset, "existingBranchName": "master"});
    assert_eq!(refused(&taken, 409, "CONFLICT", "SubscriberAlreadyExists"), expected);
    // It is not a subscriber of the other stream.
    refused(&post(&daemon, &other, "readRecords", &json!({})), 404, "NOT_FOUND", "SubscriberNotFound");
    let invalid = |answer: Response, says: &str| {
        let description = answer.json()["errorDescription"].as_str().unwrap().to_owned();
        refused(&answer, 400, "INVALID_ARGUMENT", "Default:InvalidArgument");
        assert!(description.contains(says), "{description}");
    };
    let commit = |offsets: Value| post(&daemon, &dataset, "commitOffsets", &json!({"offsets": offsets}));
    invalid(commit(json!({"0": 5})), "offset 5 is beyond the end of partition 0, whose next offset is 5");
    invalid(commit(json!({"1": 0})), "partition 1 does not exist");
    invalid(commit(json!({"0": -1})), "offsets");
    invalid(commit(json!({"0": u64::MAX})), "offsets");
    invalid(commit(json!([1])), "offsets");
    assert_eq!(position(&daemon, &dataset), json!({"0": 0}), "nothing has changed");
    good(&commit(json!({"0": "4"})));
    let reset = |position: Value| post(&daemon, &dataset, "resetOffsets", &json!({"position": position}));
    invalid(reset(json!({"type": "specific", "offsets": {"0": 6}})), "beyond the end");
    invalid(reset(json!({"type": "specific"})), "offsets");
    invalid(reset(json!({"type": "tomorrow"})), "earliest");
    let read = |body: Value| post(&daemon, &dataset, "readRecords", &body);
    for body in [
        json!({"limit": 0}),
        json!({"limit": "x"}),
        json!({"partitionIds": ["7"]}),
        json!({"partitionIds": "0"}),
        json!({"autoCommit": "yes"}),
    ] {
        invalid(read(body), "");
    }
    for body in [json!({}), json!({"subscriberId": ""}), json!({"subscriberId": "x".repeat(300)})] {
        invalid(register(&daemon, &dataset, &body), "subscriberId");
    }
    let beyond = json!({"subscriberId": "n", "readPosition": {"type": "specific", "offsets": {"0": 9}}});
    invalid(register(&daemon, &dataset, &beyond), "beyond the end");
    // Of two concurrent calls, one creates the subscriber, and both return it.
    let (ingest, token) = (daemon.ingest, format!("Bearer {}", daemon.token.as_ref().unwrap()));
    let path = subscribers(&dataset, "master");
    let both: Vec<_> = (0..2)
        .map(|_| {
            let (path, token) = (path.clone(), token.clone());
            std::thread::spawn(move || {
                let body = b"{\"subscriberId\":\"twice\"}";
                good(&request(ingest, "POST", &path, &[("authorization", &token)], body))
            })
        })
        .collect();
    let both: Vec<Value> = both.into_iter().map(|one| one.join().unwrap()).collect();
    assert_eq!(both[0], both[1]);
}

#[test]
fn the_limit_covers_all_partitions() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset =
        create_with(&daemon, "s", &json!({"fields": [crate::foundry::field("n", "long", true)]}), 3);
    let all: Vec<Value> = (0..3000).map(|n| json!({"n": n})).collect();
    publish(&daemon, &dataset, &json!(all));
    good(&register(&daemon, &dataset, &json!({"subscriberId": "sub-1"})));
    let read = |body: Value| -> Vec<(String, usize)> {
        let answer = good(&post(&daemon, &dataset, "readRecords", &body));
        let partitions = answer["recordsByPartition"].as_object().unwrap().clone();
        partitions.into_iter().map(|(name, records)| (name, records.as_array().unwrap().len())).collect()
    };
    let counts =
        |expected: [(&str, usize); 3]| expected.map(|(name, count)| (name.to_owned(), count)).to_vec();
    assert_eq!(read(json!({})), counts([("0", 34), ("1", 34), ("2", 32)]));
    assert_eq!(
        read(json!({"limit": 5000})),
        counts([("0", 334), ("1", 334), ("2", 332)]),
        "the limit is 1000"
    );
    assert_eq!(read(json!({"partitionIds": ["1"], "limit": 700})), [("1".to_owned(), 700)]);
    // If other partitions have too few records, one may fill their share.
    let to = json!({"position": {"type": "specific", "offsets": {"0": 1000, "1": 990}}});
    good(&post(&daemon, &dataset, "resetOffsets", &to));
    let read = read(json!({"limit": 90, "autoCommit": true}));
    assert_eq!(read, [("1".to_owned(), 10), ("2".to_owned(), 80)]);
    assert_eq!(position(&daemon, &dataset), json!({"0": 1000, "1": 1000, "2": 80}));
}

#[test]
fn positions_are_kept_per_view() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create(&daemon, "s", &schema());
    publish(&daemon, &dataset, &records(0, 3));
    let latest = json!({"subscriberId": "sub-1", "readPosition": {"type": "latest"}});
    let made = good(&register(&daemon, &dataset, &latest));
    assert_eq!(made["startOffsets"], json!({"0": 3}));
    let view = made["viewRid"].as_str().unwrap();
    good(&call(
        &daemon,
        "POST",
        &format!("/api/v2/streams/datasets/{dataset}/streams/master/reset"),
        &json!({}),
    ));
    publish(&daemon, &dataset, &records(7, 9));
    let read = good(&post(&daemon, &dataset, "readRecords", &json!({"autoCommit": true})));
    assert_eq!(numbers(&read["recordsByPartition"]["0"]), [7, 8], "a new view must be read from its start");
    assert_eq!(position(&daemon, &dataset), json!({"0": 2}));
    let path = of(&dataset, "sub-1", &format!("getReadPosition?viewRid={view}"));
    assert_eq!(good(&call(&daemon, "GET", &path, &Value::Null)), json!({"0": 3}));
}

#[test]
fn rights_follow_the_contract() {
    let daemon = Setup::with_config(PATIENT).start();
    let dataset = create(&daemon, "s", &schema());
    good(&register(&daemon, &dataset, &json!({"subscriberId": "sub-1"})));
    let body = json!({"name": "r", "scopes": ["read:s"]}).to_string();
    let authorization = format!("Bearer {}", daemon.token.as_ref().unwrap());
    let made = request(
        daemon.admin,
        "POST",
        "/admin/v1/tokens",
        &[("authorization", authorization.as_str())],
        body.as_bytes(),
    );
    let reader = made.json()["token"].as_str().unwrap().to_owned();
    let as_reader =
        |method: &str, path: &str, body: Value| call_as(&daemon, Some(&reader), method, path, &body);
    good(&as_reader("POST", &of(&dataset, "sub-1", "readRecords"), json!({})));
    good(&as_reader("GET", &of(&dataset, "sub-1", "getReadPosition"), Value::Null));
    let parameters =
        json!({"datasetRid": dataset, "streamBranchName": "master", "subscriberSubscriberId": "sub-1"});
    for (method, path, body, name) in [
        (
            "POST",
            of(&dataset, "sub-1", "commitOffsets"),
            json!({"offsets": {}}),
            "CommitSubscriberOffsetsPermissionDenied",
        ),
        (
            "POST",
            of(&dataset, "sub-1", "resetOffsets"),
            json!({"position": {"type": "earliest"}}),
            "ResetSubscriberOffsetsPermissionDenied",
        ),
        (
            "DELETE",
            format!("{}/sub-1", subscribers(&dataset, "master")),
            Value::Null,
            "DeleteSubscriberPermissionDenied",
        ),
    ] {
        assert_eq!(refused(&as_reader(method, &path, body), 403, "PERMISSION_DENIED", name), parameters);
    }
    let create = as_reader("POST", &subscribers(&dataset, "master"), json!({"subscriberId": "x"}));
    refused(&create, 403, "PERMISSION_DENIED", "CreateSubscriberPermissionDenied");
}
