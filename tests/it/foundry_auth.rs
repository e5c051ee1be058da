//! Palantir Foundry's contract: permissions, OAuth tokens and their revocation, streams in the trash, the older routes,
//! and streams of other contracts.

use crate::foundry::{FOLDER, call, call_as, create, field, good, plain, publish_path, refused, schema};
use crate::identity::SMALL;
use crate::support::{Daemon, Response, Setup, fields, request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const TOKEN: &str = "/multipass/api/oauth2/token";
const REVOKE: &str = "/multipass/api/oauth2/revoke_token";

fn form(daemon: &Daemon, path: &str, headers: &[(&str, &str)], form: &str) -> Response {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    request(daemon.ingest, "POST", path, &[&[kind], headers].concat(), form.as_bytes())
}

/// Creates a client and returns its id and secret.
fn client(daemon: &Daemon, roles: &[&str]) -> (String, String) {
    let about = json!({"name": roles.join("-").replace([':', '*'], "_"), "roles": roles});
    let made = daemon.administer("POST", "/admin/v1/clients", &about);
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (text("client_id"), text("client_secret"))
}

fn token(daemon: &Daemon, (id, secret): &(String, String), scope: &str) -> String {
    let secret: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let body = format!("client_id={id}&client_secret={secret}&grant_type=client_credentials&scope={scope}");
    let answer = good(&form(daemon, TOKEN, &[], &body));
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("bearer"), &json!(300)));
    answer["access_token"].as_str().unwrap().to_owned()
}

fn record() -> Value {
    json!({"record": {"sensor_id": "a"}})
}

fn publish_as(daemon: &Daemon, token: Option<&str>, dataset: &str) -> Response {
    call_as(daemon, token, "POST", &publish_path(dataset, "master", "publishRecord"), &record())
}

#[test]
fn a_credential_is_required() {
    let daemon = Setup::with_config(SMALL).start();
    let rid = create(&daemon, "s", &schema());
    for (token, error) in [(None, "INVALID"), (Some("fbt_nobodys"), "INVALID")] {
        let parameters =
            refused(&publish_as(&daemon, token, &rid), 401, "UNAUTHORIZED", "Default:Unauthorized");
        assert_eq!(parameters, json!({"error": error}));
    }
    let token = daemon.token_with(&json!({"name": "t", "scopes": ["ingest:s"], "expires_in": 1}));
    let expired = crate::support::eventually("the expiry of the token", || {
        let response = publish_as(&daemon, Some(&token), &rid);
        (response.status == 401).then_some(response)
    });
    let parameters = refused(&expired, 401, "UNAUTHORIZED", "Default:Unauthorized");
    assert_eq!(parameters, json!({"error": "EXPIRED"}));
}

#[test]
fn every_call_names_the_missing_right() {
    let daemon = Setup::with_config(SMALL).start();
    let rid = create(&daemon, "s", &schema());
    let nothing = daemon.token_with(&json!({"name": "n", "scopes": ["ingest:other"]}));
    let streams = format!("/api/v2/streams/datasets/{rid}/streams");
    let stream = json!({"datasetRid": rid, "streamBranchName": "master"});
    let new = json!({"name": "t", "parentFolderRid": FOLDER, "schema": schema()});
    let values = json!([{"value": {"sensor_id": "a"}}]);
    let high = |what: &str| publish_path(&rid, "master", what);
    for (path, body, name, parameters) in [
        (
            "/api/v2/streams/datasets/create".to_owned(),
            new.clone(),
            "CreateStreamingDatasetPermissionDenied",
            json!({}),
        ),
        (
            streams.clone(),
            json!({"branchName": "b", "schema": schema()}),
            "CreateStreamPermissionDenied",
            json!({"datasetRid": rid}),
        ),
        (format!("{streams}/master/reset"), json!({}), "ResetStreamPermissionDenied", stream.clone()),
        (high("publishRecord"), record(), "PublishRecordToStreamPermissionDenied", stream.clone()),
        (
            high("publishRecords"),
            json!({"records": []}),
            "PublishRecordsToStreamPermissionDenied",
            stream.clone(),
        ),
        (
            high("publishBinaryRecord"),
            json!({}),
            "PublishBinaryRecordToStreamPermissionDenied",
            stream.clone(),
        ),
        (
            format!("/stream-proxy/api/streams/{rid}/branches/master/jsonRecords"),
            values,
            "PublishRecordsToStreamPermissionDenied",
            stream.clone(),
        ),
    ] {
        let response = call_as(&daemon, Some(&nothing), "POST", &path, &body);
        assert_eq!(refused(&response, 403, "PERMISSION_DENIED", name), parameters, "{path}");
    }
    let look = call_as(&daemon, Some(&nothing), "GET", &format!("{streams}/master"), &Value::Null);
    refused(&look, 403, "PERMISSION_DENIED", "Default:PermissionDenied");
    let path = format!("/stream-catalog/api/catalog/streams/{rid}");
    refused(
        &call_as(&daemon, Some(&nothing), "DELETE", &path, &Value::Null),
        403,
        "PERMISSION_DENIED",
        "Default:PermissionDenied",
    );
    // A permission applies to the branch, also after a reset.
    let own = daemon.token_with(&json!({"name": "own", "scopes": ["ingest:s"]}));
    assert_eq!(publish_as(&daemon, Some(&own), &rid).status, 204);
    good(&call(&daemon, "POST", &format!("{streams}/master/reset"), &json!({})));
    assert_eq!(publish_as(&daemon, Some(&own), &rid).status, 204);
    good(&call_as(&daemon, Some(&own), "GET", &format!("{streams}/master"), &Value::Null));
    // A token for another folder.
    let bound =
        json!({"name": "bound", "scopes": ["create", "ingest:*"], "project": "ri.compass.main.folder.other"});
    let bound = daemon.token_with(&bound);
    let response = call_as(&daemon, Some(&bound), "POST", "/api/v2/streams/datasets/create", &new);
    refused(&response, 403, "PERMISSION_DENIED", "CreateStreamingDatasetPermissionDenied");
    refused(
        &publish_as(&daemon, Some(&bound), &rid),
        403,
        "PERMISSION_DENIED",
        "PublishRecordToStreamPermissionDenied",
    );
}

#[test]
fn an_application_gets_and_revokes_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Setup::with_config(SMALL).start_at(dir.path());
    let daemon = start();
    let rid = create(&daemon, "s", &schema());
    let app = client(&daemon, &["ingest:s", "read:s"]);
    let first = token(&daemon, &app, "");
    assert_eq!(publish_as(&daemon, Some(&first), &rid).status, 204);
    // In basic authentication, both parts form-encoded.
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(&app.0), encoded(&app.1))));
    let basic = [("authorization", basic.as_str())];
    let answer = good(&form(
        &daemon,
        TOKEN,
        &basic,
        "scope=offline_access+api%3Astreams-write&grant_type=client_credentials",
    ));
    let second = answer["access_token"].as_str().unwrap().to_owned();
    assert_eq!(publish_as(&daemon, Some(&second), &rid).status, 204);
    for (body, status, error) in [
        (
            format!("client_id={}&client_secret=wrong&grant_type=client_credentials", app.0),
            401,
            "invalid_client",
        ),
        ("grant_type=client_credentials".to_owned(), 401, "invalid_client"),
        (format!("client_id={}&client_secret={}", app.0, app.1), 400, "unsupported_grant_type"),
        ("grant_type=password".to_owned(), 400, "unsupported_grant_type"),
        ("grant_type=client_credentials&grant_type=x".to_owned(), 400, "invalid_request"),
    ] {
        let response = form(&daemon, TOKEN, &[], &body);
        assert_eq!((response.status, response.json()["error"].as_str()), (status, Some(error)), "{body}");
    }
    // A token has no more rights than requested, and no more than the client.
    let read = token(&daemon, &app, "api:streams-read");
    refused(
        &publish_as(&daemon, Some(&read), &rid),
        403,
        "PERMISSION_DENIED",
        "PublishRecordToStreamPermissionDenied",
    );
    let path = format!("/api/v2/streams/datasets/{rid}/streams/master");
    good(&call_as(&daemon, Some(&read), "GET", &path, &Value::Null));
    let write = token(&daemon, &app, "api:streams-write");
    let reset = call_as(&daemon, Some(&write), "POST", &format!("{path}/reset"), &json!({}));
    refused(&reset, 403, "PERMISSION_DENIED", "ResetStreamPermissionDenied");
    let words = client(&daemon, &["api:streams-write"]);
    let made = token(&daemon, &words, "api:streams-write");
    good(&call_as(&daemon, Some(&made), "POST", &format!("{path}/reset"), &json!({})));
    // Its owner revokes a token at once and permanently; tokens of other clients stay valid.
    let revoke =
        |token: &str, headers: &[(&str, &str)]| form(&daemon, REVOKE, headers, &format!("token={token}"));
    good(&revoke(&first, &basic));
    refused(&publish_as(&daemon, Some(&first), &rid), 401, "UNAUTHORIZED", "Default:Unauthorized");
    assert_eq!(publish_as(&daemon, Some(&second), &rid).status, 204);
    good(&revoke(&made, &basic));
    good(&revoke("nonsense", &basic));
    assert_eq!(
        publish_as(&daemon, Some(&made), &rid).status,
        204,
        "the token of another client must stay valid"
    );
    assert_eq!(revoke(&second, &[]).status, 401);
    let in_form = format!("token={second}&client_id={}&client_secret={}", app.0, encoded(&app.1));
    good(&form(&daemon, REVOKE, &[], &in_form));
    refused(&publish_as(&daemon, Some(&second), &rid), 401, "UNAUTHORIZED", "Default:Unauthorized");
    assert!(daemon.stop().status.success());
    let daemon = start();
    refused(&publish_as(&daemon, Some(&first), &rid), 401, "UNAUTHORIZED", "Default:Unauthorized");
    assert_eq!(publish_as(&daemon, Some(&write), &rid).status, 204);
}

#[test]
fn a_stream_in_the_trash_accepts_nothing() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "s", &schema());
    assert_eq!(publish_as(&daemon, None, &rid).status, 204);
    let path = format!("/stream-catalog/api/catalog/streams/{rid}");
    let latest = format!("{path}/branches/master/views/latest");
    let view = good(&call(&daemon, "GET", &latest, &Value::Null));
    let deleted = good(&call(&daemon, "DELETE", &path, &Value::Null));
    assert_eq!(
        deleted,
        json!({"deletedViews": [{
            "viewRid": view["view"]["viewRid"], "topicRid": view["view"]["topicRid"], "branch": "master",
        }]})
    );
    let parameters =
        refused(&publish_as(&daemon, None, &rid), 400, "INVALID_ARGUMENT", "CannotWriteToTrashedStream");
    assert_eq!(parameters, json!({"datasetRid": rid}));
    assert_eq!(good(&call(&daemon, "GET", &latest, &Value::Null)), Value::Null);
    refused(&call(&daemon, "DELETE", &path, &Value::Null), 404, "NOT_FOUND", "DatasetNotFound");
    let stream = format!("/api/v2/streams/datasets/{rid}/streams");
    refused(
        &call(&daemon, "GET", &format!("{stream}/master"), &Value::Null),
        404,
        "NOT_FOUND",
        "StreamNotFound",
    );
    let body = json!({"branchName": "b", "schema": schema()});
    refused(&call(&daemon, "POST", &stream, &body), 404, "NOT_FOUND", "DatasetNotFound");
    assert_eq!(daemon.rows("s").len(), 1, "stored records must stay");
    // The name is free again. A stream deleted by an admin counts as trash, too, until its branch is created again.
    let again = create(&daemon, "s", &schema());
    assert_eq!(publish_as(&daemon, None, &again).status, 204);
    assert_eq!(daemon.administer("DELETE", "/admin/v1/streams/s", &Value::Null).status, 204);
    refused(&publish_as(&daemon, None, &again), 400, "INVALID_ARGUMENT", "CannotWriteToTrashedStream");
    let body = json!({"branchName": "master", "schema": schema()});
    good(&call(&daemon, "POST", &format!("/api/v2/streams/datasets/{again}/streams"), &body));
    assert_eq!(publish_as(&daemon, None, &again).status, 204);
}

#[test]
fn the_older_routes_store_records() {
    let daemon = Daemon::dev();
    let rid = create(&daemon, "s", &schema());
    let path = format!("/api/v2/streams/datasets/{rid}/streams/master");
    let view = good(&call(&daemon, "GET", &path, &Value::Null))["viewRid"].as_str().unwrap().to_owned();
    for (n, base) in ["/stream-proxy/api/streams", "/stream/api/streams"].into_iter().enumerate() {
        for (m, of) in ["branches/master".to_owned(), format!("views/{view}")].into_iter().enumerate() {
            let number = n * 2 + m;
            let one = json!({"sensor_id": "one", "temperature": number});
            let many =
                json!([{"value": {"sensor_id": "x", "temperature": number}}, {"value": {"sensor_id": "y"}}]);
            for (what, body) in
                [("jsonRecord", &one), ("jsonRecords?partitionId=0", &many), ("records", &many)]
            {
                let answer = good(&call(&daemon, "POST", &format!("{base}/{rid}/{of}/{what}"), body));
                assert!(
                    answer["topic"].is_string() && answer["offsetAndPartitionIds"].is_array(),
                    "{answer}"
                );
            }
        }
    }
    assert_eq!(daemon.rows("s").len(), 4 * 5);
    let proxy = |of: &str| format!("/stream-proxy/api/streams/{of}/jsonRecords");
    let values = json!([{"value": {"sensor_id": 1}}]);
    let refusal = call(&daemon, "POST", &proxy(&format!("{rid}/branches/master")), &values);
    refused(&refusal, 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema");
    let refusal = call(&daemon, "POST", &proxy(&format!("{rid}/branches/none")), &values);
    assert_eq!(
        refused(&refusal, 404, "NOT_FOUND", "BranchNotFound"),
        json!({"datasetRid": rid, "branchName": "none"})
    );
    refused(
        &call(&daemon, "POST", &proxy("none/branches/master"), &values),
        404,
        "NOT_FOUND",
        "DatasetNotFound",
    );
    refused(
        &call(&daemon, "POST", &proxy(&format!("{rid}/views/none")), &values),
        404,
        "NOT_FOUND",
        "ViewNotFound",
    );
    good(&call(&daemon, "POST", &format!("{path}/reset"), &json!({})));
    let old = call(&daemon, "POST", &proxy(&format!("{rid}/views/{view}")), &values);
    assert_eq!(refused(&old, 404, "NOT_FOUND", "ViewNotFound"), json!({"viewRid": view}));
}

#[test]
fn the_older_catalog_creates_streams_without_a_schema() {
    let daemon = Daemon::dev();
    let body = json!({
        "parentRid": FOLDER, "name": "old", "branch": "master", "settings": {"streamTypes": ["HIGH_THROUGHPUT"]},
        "isRaw": false, "markings": [],
    });
    let made = good(&call(&daemon, "POST", "/stream-catalog/api/catalog/streams2", &body));
    let view = &made["view"];
    let rid = view["datasetRid"].as_str().unwrap();
    assert_eq!((&view["branch"], &view["isRaw"]), (&json!("master"), &json!(false)));
    let latest = format!("/stream-catalog/api/catalog/streams/{rid}/branches/master/views/latest");
    let latest = good(&call(&daemon, "GET", &latest, &Value::Null));
    assert_eq!(&latest["view"], view);
    assert_eq!(latest["streamSettings"], json!({"partitions": 1, "streamTypes": ["HIGH_THROUGHPUT"]}));
    let path = format!("/api/v2/streams/datasets/{rid}/streams/master");
    for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/reset"))] {
        let parameters = refused(
            &call(&daemon, method, &path, &Value::Null),
            400,
            "INVALID_ARGUMENT",
            "InvalidStreamNoSchema",
        );
        assert_eq!(parameters, json!({"datasetRid": rid, "branchName": "master"}));
    }
    let binary = publish_path(rid, "master", "publishBinaryRecord");
    refused(
        &request(daemon.ingest, "POST", &binary, &[], b"x"),
        500,
        "INTERNAL",
        "FailedToProcessBinaryRecord",
    );
    let record = json!({"record": {"n": 1, "s": "x"}});
    assert_eq!(call(&daemon, "POST", &publish_path(rid, "master", "publishRecord"), &record).status, 204);
    assert_eq!(plain(fields(&daemon.rows("old")[0])), json!({"n": 1, "s": "x"}));
    let shown = good(&call(&daemon, "GET", &path, &Value::Null));
    assert_eq!(shown["schema"], json!({"fields": [field("n", "long", true), field("s", "string", true)]}));
    let again = call(&daemon, "POST", "/stream-catalog/api/catalog/streams2", &body);
    refused(&again, 409, "CONFLICT", "ResourceNameAlreadyExists");
}

#[test]
fn streams_of_other_contracts_are_datasets() {
    let daemon = Daemon::dev();
    let about = json!({"policy": "strict", "columns": [{"name": "n", "type": "int64", "nullable": false}]});
    let made = daemon.administer("PUT", "/admin/v1/streams/other", &about);
    assert!(made.status < 300, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let rid = format!("ri.foundry.main.dataset.{id}");
    let stream =
        good(&call(&daemon, "GET", &format!("/api/v2/streams/datasets/{rid}/streams/master"), &Value::Null));
    assert_eq!(stream["schema"], json!({"fields": [field("n", "long", false)]}));
    let publish = |body: &Value| call(&daemon, "POST", &publish_path(&rid, "master", "publishRecords"), body);
    assert_eq!(publish(&json!({"records": [{"n": 1}], "viewRid": stream["viewRid"]})).status, 204);
    let bad = publish(&json!({"records": [{"n": 2}, {"n": "x"}]}));
    let parameters = refused(&bad, 400, "INVALID_ARGUMENT", "RecordDoesNotMatchStreamSchema");
    assert_eq!(parameters, json!({"datasetRid": rid, "branchName": "master"}));
    assert_eq!(daemon.rows("other").len(), 1);
    // Under --dev the first record creates a stream, if the dataset's name is a RID.
    let record = json!([{"value": {"sensor_id": "sensor4", "temperature": 4.132}}]);
    let path = "/stream-proxy/api/streams/ri.foundry.main.dataset.abc/branches/master/jsonRecords";
    good(&call(&daemon, "POST", path, &record));
    assert_eq!(daemon.rows("dataset-abc").len(), 1);
    good(&call(&daemon, "POST", path, &record));
    let strict = Setup::with_config(SMALL).start();
    refused(&call(&strict, "POST", path, &record), 404, "NOT_FOUND", "DatasetNotFound");
}

#[test]
fn samples_yield_schemas_and_streams_yield_snippets() {
    let daemon = Daemon::dev();
    let sample =
        "{\"id\":\"a\",\"n\":1,\"at\":\"2026-01-31T12:00:00Z\",\"in\":{\"x\":1.5},\"tags\":[\"t\"]}\n";
    let dry = request(daemon.admin, "POST", "/admin/v1/streams?name=s&dry=true", &[], sample.as_bytes());
    let schema = dry.json()["foundry_schema"].clone();
    let names: Vec<&str> = schema["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["schema"]["dataType"]["type"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["string", "long", "timestamp", "struct", "array"]);
    let rid = create(&daemon, "s", &schema);
    let body = format!("{{\"record\":{}}}", sample.trim());
    let sent =
        request(daemon.ingest, "POST", &publish_path(&rid, "master", "publishRecord"), &[], body.as_bytes());
    assert_eq!(sent.status, 204, "{}", sent.text());
    // The snippets run unchanged.
    let code = daemon.get("/admin/v1/streams/s/snippets").json();
    assert_eq!((&code["dataset_rid"], &code["branch"]), (&json!(rid), &json!("master")));
    let script = code["curl"].as_str().unwrap().replace("curl ", "curl -sS -w '%{http_code}' ");
    let run = std::process::Command::new("sh").args(["-c", &script]).env("TOKEN", "t").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&run.stdout),
        "204",
        "{script}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    for (language, expected) in [
        ("python", "publish_record("),
        ("javascript", "await fetch("),
        ("java", "HttpRequest.newBuilder("),
        ("curl", "curl -X POST"),
    ] {
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args([
                "stream",
                "snippet",
                "s",
                "--language",
                language,
                "--admin-url",
                &format!("http://{}", daemon.admin),
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&command.stdout);
        assert!(text.contains(expected) && text.contains(&rid), "{language}: {text}");
    }
    assert_eq!(daemon.rows("s").len(), 2);
}
