//! OAuth clients with short-lived tokens and roles, and API keys: the credentials of Polaris' contract.

use crate::identity::SMALL;
use crate::support::{Daemon, Response, Setup, eventually, request};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

const EVENT: &[u8] = b"{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":1}\n";
const TOKEN_ROUTE: &str = "/auth/realms/org/protocol/openid-connect/token";

/// A daemon that requires credentials, with a table `t`.
fn daemon(auth: &str) -> Daemon {
    let daemon = Setup::with_config(&format!("[auth]\n{auth}\n{SMALL}")).start();
    assert_eq!(daemon.send_as(daemon.token.as_deref().unwrap(), "t").status, 202);
    daemon
}

/// Creates a client and returns its id and secret.
fn client(daemon: &Daemon, about: &Value) -> (String, String) {
    let made = daemon.administer("POST", "/admin/v1/clients", about);
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (text("client_id"), text("client_secret"))
}

fn ask(daemon: &Daemon, headers: &[(&str, &str)], form: &str) -> Response {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    request(daemon.ingest, "POST", TOKEN_ROUTE, &[&[kind], headers].concat(), form.as_bytes())
}

fn token(daemon: &Daemon, (id, secret): &(String, String)) -> String {
    let form = format!("client_id={id}&client_secret={secret}&grant_type=client_credentials");
    let answer = ask(daemon, &[], &form);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["token_type"], "Bearer");
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

fn push(daemon: &Daemon, path: &str, authorization: &str) -> Response {
    request(daemon.ingest, "POST", path, &[("authorization", authorization)], EVENT)
}

#[test]
fn a_client_gets_a_token_for_its_id_and_secret() {
    let daemon = daemon("");
    let client = client(&daemon, &json!({"name": "collector", "roles": ["ManageStreams"]}));
    let (id, secret) = &client;
    let token = token(&daemon, &client);
    assert_eq!(push(&daemon, "/v1/events/t", &format!("Bearer {token}")).status, 200);
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let answer = ask(&daemon, &[("authorization", &basic)], "grant_type=client_credentials");
    assert_eq!((answer.status, &answer.json()["expires_in"]), (200, &json!(300)));
    for (form, status, error) in [
        (
            format!("client_id={id}&client_secret=wrong&grant_type=client_credentials"),
            401,
            "unauthorized_client",
        ),
        (
            format!("client_id=x&client_secret={secret}&grant_type=client_credentials"),
            401,
            "unauthorized_client",
        ),
        (format!("client_id={id}&grant_type=client_credentials"), 401, "unauthorized_client"),
        (format!("client_id={id}&client_secret={secret}"), 400, "unsupported_grant_type"),
        (format!("client_id={id}&client_secret={secret}&grant_type=password"), 400, "unsupported_grant_type"),
        (String::new(), 400, "unsupported_grant_type"),
    ] {
        let refused = ask(&daemon, &[], &form);
        assert_eq!((refused.status, &refused.json()["error"]), (status, &json!(error)), "{form}");
    }
    // Neither the id nor the secret is a token, and a token cannot be used to get another one.
    for authorization in [format!("Bearer {secret}"), format!("Bearer {id}"), "Bearer None".to_owned()] {
        let refused = push(&daemon, "/v1/events/t", &authorization);
        assert_eq!(
            (refused.status, &refused.json()["message"]),
            (401, &json!("Unauthorized")),
            "{authorization}"
        );
    }
    let deleted = daemon.administer("DELETE", &format!("/admin/v1/clients/{id}"), &Value::Null);
    assert_eq!(deleted.status, 204);
    assert_eq!(
        push(&daemon, "/v1/events/t", &format!("Bearer {token}")).status,
        401,
        "the token must end with its client"
    );
}

#[test]
fn an_expired_token_is_401_and_a_new_one_works() {
    let daemon = daemon("client_token_lifetime = \"2s\"");
    let client = client(&daemon, &json!({"name": "collector", "roles": ["ManageConnections"]}));
    let first = format!("Bearer {}", token(&daemon, &client));
    assert_eq!(push(&daemon, "/v1/events/t", &first).status, 200);
    let refused = eventually("the expiry of the token", || {
        Some(push(&daemon, "/v1/events/t", &first)).filter(|answer| answer.status != 200)
    });
    assert_eq!(refused.status, 401);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("token expired"), "{message}");
    assert_eq!(push(&daemon, "/v1/events/t", &format!("Bearer {}", token(&daemon, &client))).status, 200);
}

#[test]
fn roles_and_projects_limit_a_client() {
    let daemon = daemon("");
    let made = |name: &str, role: &str, project: Option<&str>| {
        let about = json!({"name": name, "roles": [role], "project": project});
        format!("Bearer {}", token(&daemon, &client(&daemon, &about)))
    };
    for (name, role, status) in [
        ("streams", "ManageStreams", 200),
        ("connections", "ManageConnections", 200),
        ("tables", "ManageTables", 403),
        ("jobs", "ManageIngestionJobs", 403),
        ("metrics", "AccessMetrics", 403),
        ("one", "ingest:t", 200),
        ("other", "ingest:u", 403),
    ] {
        let answer = push(&daemon, "/v1/events/t", &made(name, role, None));
        assert_eq!(answer.status, status, "{role}: {}", answer.text());
    }
    let bound = made("bound", "ManageStreams", Some("p"));
    assert_eq!(push(&daemon, "/v1/projects/q/events/t", &bound).status, 403);
    let own = push(&daemon, "/v1/projects/p/events/t", &bound);
    assert!(matches!(own.status, 200 | 404), "{}", own.text());
    let metrics = made("scraper", "AccessMetrics", None);
    let scraped = request(daemon.admin, "GET", "/metrics", &[("authorization", &metrics)], b"");
    assert_eq!(scraped.status, 200);
}

#[test]
fn an_api_key_may_be_the_basic_user_or_the_whole_value() {
    let daemon = daemon("");
    let key = daemon.token_with(&json!({"name": "key", "kind": "api_key", "scopes": ["ingest:t"]}));
    assert!(key.starts_with("fbk_"), "{key}");
    let user = format!("{key}:");
    for good in [STANDARD.encode(&user), URL_SAFE.encode(&user), key.clone()] {
        assert_eq!(push(&daemon, "/v1/events/t", &format!("Basic {good}")).status, 200, "{good}");
        assert_eq!(push(&daemon, "/v1/events/u", &format!("basic {good}")).status, 403, "{good}");
    }
    for bad in
        [STANDARD.encode("wrong:"), STANDARD.encode(format!(":{key}")), "%".to_owned(), key[1..].to_owned()]
    {
        assert_eq!(push(&daemon, "/v1/events/t", &format!("Basic {bad}")).status, 401, "{bad}");
    }
    assert_eq!(daemon.administer("DELETE", "/admin/v1/tokens/key", &Value::Null).status, 204);
    assert_eq!(push(&daemon, "/v1/events/t", &format!("Basic {key}")).status, 401);
}
