//! API keys of Amperity's contract: long-lived tokens, secrets, and permissions to send.

use crate::amperity::{STREAM, TENANT};
use crate::identity::{SMALL, forge};
use crate::support::{Daemon, Response, Setup, eventually, request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

struct World {
    daemon: Daemon,
}

impl World {
    fn new() -> Self {
        Self { daemon: Setup::with_config(SMALL).start() }
    }

    /// Creates an API key of the tenant. Returns its id and secret.
    fn key(&self, name: &str, role: &str, tenant: &str) -> (String, String) {
        let body = json!({"name": name, "roles": [role], "project": tenant});
        let made = self.daemon.administer("POST", "/admin/v1/clients", &body);
        assert_eq!(made.status, 201, "{}", made.text());
        let text = |field: &str| made.json()[field].as_str().unwrap().to_owned();
        (text("client_id"), text("client_secret"))
    }

    fn token(&self, key: &str, days: u32) -> String {
        let made = self.daemon.administer(
            "POST",
            &format!("/admin/v1/clients/{key}/tokens"),
            &json!({"days": days}),
        );
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["token"].as_str().unwrap().to_owned()
    }

    fn send(&self, token: &str) -> Response {
        self.send_as(token, TENANT.1)
    }

    fn send_as(&self, token: &str, tenant: &str) -> Response {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("x-amperity-tenant", tenant),
            ("content-type", "application/json"),
            ("authorization", &authorization),
        ];
        request(self.daemon.ingest, "POST", &format!("/stream/v0/data/{STREAM}"), &headers, b"{\"n\":1}")
    }

    fn status(&self, token: &str) -> u16 {
        self.send(token).status
    }

    fn api(&self, token: &str, path: &str, kind: &str, body: &str) -> Response {
        let authorization = format!("Bearer {token}");
        let headers = [TENANT, ("content-type", kind), ("authorization", &*authorization)];
        request(self.daemon.ingest, "POST", path, &headers, body.as_bytes())
    }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn tokens_can_send_only_where_they_may() {
    let world = World::new();
    let (key, _) = world.key("writer", "streaming-ingest-api:write", "acme");
    let token = world.token(&key, 30);
    assert_eq!(world.status(&token), 202, "{}", world.send(&token).text());
    let found = claims(&token);
    let now = jiff::Timestamp::now().as_second();
    assert_eq!((&found["tenant"], &found["sub"]), (&json!("acme"), &json!(key)));
    assert_eq!((&found["scope"], &found["iss"]), (&json!("streaming-ingest-api:write"), &json!("forebay")));
    let days = (found["exp"].as_i64().unwrap() - now) as f64 / 86_400.0;
    assert!((29.9..=30.0).contains(&days), "{days}");
    // 401: no token, an unknown token, or one with a wrong signature.
    let headers = [TENANT, ("content-type", "application/json")];
    let missing = request(world.daemon.ingest, "POST", &format!("/stream/v0/data/{STREAM}"), &headers, b"{}");
    assert_eq!((missing.status, &missing.json()["status"]), (401, &json!(401)));
    let header = json!({"alg": "HS256", "kid": serde_json::Value::Null});
    let none = |claims: &Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(claims))
    };
    let own: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let longer = {
        let mut claims = found.clone();
        claims["exp"] = json!(now + 999_999_999);
        claims
    };
    for bad in [
        "x".to_owned(),
        none(&found),
        forge(&header, &found, "another key"),
        forge(&own, &found, "another key"),
        forge(&own, &longer, ""),
        token[..token.len() - 2].to_owned(),
    ] {
        assert_eq!(world.status(&bad), 401, "{bad}");
    }
    // 403: another tenant, or no write permission.
    let other = world.send_as(&token, "other");
    assert_eq!((other.status, &other.json()["status"]), (403, &json!(403)));
    let (reader, _) = world.key("reader", "read:*", "acme");
    assert_eq!(world.status(&world.token(&reader, 1)), 403);
    // No list contains the values that are shown once.
    let listed = world.daemon.administer("GET", &format!("/admin/v1/clients/{key}/tokens"), &json!({}));
    assert_eq!(listed.json()["tokens"].as_array().unwrap().len(), 1);
    assert!(!listed.text().contains(&token));
    let catalog = std::fs::read(world.daemon.data_dir().join("catalog.db")).unwrap();
    let signature = token.rsplit('.').next().unwrap().as_bytes();
    assert!(!catalog.windows(signature.len()).any(|window| window == signature));
}

#[test]
fn secrets_are_rotated_and_revoked() {
    let world = World::new();
    let (key, first_secret) = world.key("writer", "streaming-ingest-api:write", "acme");
    let path = format!("/admin/v1/clients/{key}/secrets");
    let rotate = |body: Value| {
        let made = world.daemon.administer("POST", &path, &body);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    };
    let oauth = |secret: &str| {
        let form = format!("grant_type=client_credentials&client_id={key}&client_secret={secret}");
        world.api("", "/api/v0/oauth2/token", "application/x-www-form-urlencoded", &form)
    };
    let first = world.token(&key, 30);
    let rotated = rotate(json!({}));
    // The old one stays valid for 30 days.
    let retires_at: jiff::Timestamp = rotated["secrets"][1]["retires_at"].as_str().unwrap().parse().unwrap();
    let days = (retires_at.as_second() - jiff::Timestamp::now().as_second()) as f64 / 86_400.0;
    assert!((29.9..=30.0).contains(&days), "{days}");
    let second = world.token(&key, 30);
    assert_eq!((world.status(&first), world.status(&second)), (202, 202));
    assert_eq!(
        (oauth(&first_secret).status, oauth(rotated["client_secret"].as_str().unwrap()).status),
        (200, 200)
    );
    // Another rotation drops the previously retired secret.
    rotate(json!({}));
    let third = world.token(&key, 30);
    assert_eq!((world.status(&first), world.status(&second), world.status(&third)), (401, 202, 202));
    assert_eq!(oauth(&first_secret).status, 401);
    assert_eq!(world.daemon.administer("DELETE", &path, &json!({})).status, 200);
    assert_eq!((world.status(&second), world.status(&third)), (401, 202));
    rotate(json!({"grace": 0}));
    assert_eq!(world.status(&third), 401);
    let fourth = world.token(&key, 30);
    assert_eq!(world.status(&fourth), 202);
    assert_eq!(world.daemon.administer("DELETE", &format!("{path}?all=true"), &json!({})).status, 200);
    assert_eq!(world.status(&fourth), 401);
    let refused =
        world.daemon.administer("POST", &format!("/admin/v1/clients/{key}/tokens"), &json!({"days": 1}));
    assert_eq!(refused.status, 400, "{}", refused.text());
    // Deleting the key ends all of them.
    rotate(json!({}));
    let last = world.token(&key, 1);
    assert_eq!(world.status(&last), 202);
    assert_eq!(
        world.daemon.administer("DELETE", &format!("/admin/v1/clients/{key}"), &json!({})).status,
        204
    );
    assert_eq!(world.status(&last), 401);
}

#[test]
fn an_issuer_creates_tokens_for_keys_of_its_tenant() {
    let world = World::new();
    let (writer, _) = world.key("writer", "streaming-ingest-api:write", "acme");
    let (issuer, _) = world.key("issuer", "api-token-issuer", "acme");
    let (foreign, _) = world.key("foreign", "streaming-ingest-api:write", "other");
    let issuer = world.token(&issuer, 1);
    let path = |key: &str| format!("/api/v0/admin/api-keys/{key}/tokens");
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let body = json!({"expires-at": format!("{at:.3}")}).to_string();
    let made = world.api(&issuer, &path(&writer), "application/json", &body);
    assert_eq!(made.status, 200, "{}", made.text());
    let expected = jiff::Timestamp::from_second(at.as_second()).unwrap().to_string();
    assert_eq!(made.json()["expires-at"], expected.as_str());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(world.status(&token), 202);
    let refuse = |token: &str, key: &str, body: &str| {
        let answer = world.api(token, &path(key), "application/json", body);
        assert!(answer.json()["message"].is_string());
        answer.status
    };
    assert_eq!(refuse(&issuer, &foreign, &body), 404);
    assert_eq!(refuse(&issuer, "none", &body), 404);
    assert_eq!(refuse(&token, &writer, &body), 403);
    assert_eq!(refuse("x", &writer, &body), 401);
    for bad in ["{}", "x", "{\"expires-at\":\"soon\"}", "{\"expires-at\":\"2020-01-01T00:00:00Z\"}"] {
        assert_eq!(refuse(&issuer, &writer, bad), 400, "{bad}");
    }
}

#[test]
fn the_token_route_takes_client_credentials() {
    let world = World::new();
    let (key, secret) = world.key("writer", "streaming-ingest-api:write", "acme");
    let ask = |form: &str| world.api("", "/api/v0/oauth2/token", "application/x-www-form-urlencoded", form);
    let good = ask(&format!("grant_type=client_credentials&client_id={key}&client_secret={secret}"));
    assert_eq!((good.status, good.header("cache-control")), (200, Some("no-store")), "{}", good.text());
    assert_eq!(good.json()["token_type"], "Bearer");
    assert_eq!(world.status(good.json()["access_token"].as_str().unwrap()), 202);
    for (form, status, error) in [
        (format!("grant_type=client_credentials&client_id={key}&client_secret=x"), 401, "invalid_client"),
        (
            format!("grant_type=password&client_id={key}&client_secret={secret}"),
            400,
            "unsupported_grant_type",
        ),
        (format!("client_id={key}&client_secret={secret}"), 400, "invalid_request"),
        ("grant_type=client_credentials".to_owned(), 401, "invalid_client"),
    ] {
        let answer = ask(&form);
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(error)), "{form}");
    }
}

#[test]
fn keys_on_the_command_line() {
    let world = World::new();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["client"]).args(arguments);
        command.args(["--admin-url", &format!("http://{}", world.daemon.admin)]);
        command.env("FOREBAY_TOKEN", world.daemon.token.as_deref().unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let made = {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["stream", "create", "Web orders", "--dialect", "amperity", "--project", "acme"]);
        command.args([
            "--description",
            "from the shop",
            "--admin-url",
            &format!("http://{}", world.daemon.admin),
        ]);
        command.env("FOREBAY_TOKEN", world.daemon.token.as_deref().unwrap());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let id = made.split_whitespace().next().unwrap();
    assert!(id.starts_with("is-") && id.len() == 12, "{made}");
    let stream = world.daemon.administer("GET", &format!("/admin/v1/streams/{id}"), &json!({})).json();
    let settings = &stream["settings"];
    assert_eq!((&settings["vendor"]["name"], &settings["project"]), (&json!("Web orders"), &json!("acme")));
    assert_eq!(settings["description"], "from the shop");
    run(&["create", "writer", "--role", "streaming-ingest-api:write", "--project", "acme"]);
    let first = run(&["issue", "writer", "--days", "7"]);
    assert_eq!(world.status(&first), 202);
    assert!(run(&["tokens", "writer"]).contains("admin"));
    run(&["rotate", "writer"]);
    let second = run(&["issue", "writer", "--days", "7"]);
    assert_eq!((world.status(&first), world.status(&second)), (202, 202));
    run(&["revoke", "writer"]);
    assert_eq!((world.status(&first), world.status(&second)), (401, 202));
    run(&["revoke", "writer", "--all"]);
    assert_eq!(world.status(&second), 401);
}

#[test]
fn each_tenant_has_its_own_rate_limit() {
    let config = format!("[limits.amperity]\nrequests_per_second = 2\n{SMALL}");
    let world = World { daemon: Setup::with_config(&config).start() };
    let [acme, other] = ["acme", "other"].map(|tenant| {
        let (key, _) = world.key(tenant, "streaming-ingest-api:write", tenant);
        world.token(&key, 1)
    });
    eventually("a refusal over the limit", || (world.status(&acme) == 429).then_some(()));
    let authorization = format!("Bearer {other}");
    let headers = [
        ("x-amperity-tenant", "other"),
        ("content-type", "application/json"),
        ("authorization", &*authorization),
    ];
    let sent = request(world.daemon.ingest, "POST", "/stream/v0/data/is-OtherOne", &headers, b"{}");
    assert_eq!(sent.status, 202, "{}", sent.text());
}
