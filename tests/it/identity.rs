//! Permissions over HTTP: tokens with scopes, origins and expiry, signed tokens, clients and keys.

use crate::faults::Faults;
use crate::support::{Daemon, Response, Setup, connect, read_response, request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// Settings that are small enough for a test without `--dev`.
pub const SMALL: &str = "[limits]\nbody_max = \"1MiB\"\ndecoded_max = \"1MiB\"\n[wal]\nsegment_bytes = \"2MiB\"\nmax_bytes = \"64MiB\"\ndisk_reserve = \"1MiB\"\nprepared_segments = 1\n";
const EVENT: &str = r#"{"city":"Chicago"}"#;

impl Daemon {
    /// A JSON request to the admin listener with the admin token.
    pub fn administer(&self, method: &str, path: &str, body: &Value) -> Response {
        self.administer_as(self.token.as_deref().unwrap_or(""), method, path, body)
    }

    pub fn administer_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(self.admin, method, path, &headers, body.as_bytes())
    }

    /// Creates a token and returns its value.
    pub fn token_with(&self, about: &Value) -> String {
        let made = self.administer("POST", "/admin/v1/tokens", about);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["token"].as_str().unwrap().to_owned()
    }

    /// Sends an event with a token.
    pub fn send_as(&self, token: &str, stream: &str) -> Response {
        let authorization = format!("Bearer {token}");
        self.post_with(&format!("name={stream}"), &[("authorization", &authorization)], EVENT)
    }
}

fn daemon() -> Daemon {
    Setup::with_config(SMALL).start()
}

fn now() -> u64 {
    jiff::Timestamp::now().as_second().try_into().unwrap()
}

/// A token with any header and claims, signed with HS256 regardless of the header.
pub fn forge(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

fn workspace(daemon: &Daemon) -> String {
    let token = daemon.token.clone().unwrap();
    let found = request(daemon.ingest, "GET", &format!("/v0/workspace?token={token}"), &[], b"");
    found.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_may_do_only_what_its_scopes_allow() {
    let daemon = daemon();
    let token = |name: &str, scopes: &[&str]| daemon.token_with(&json!({"name": name, "scopes": scopes}));
    let all = token("all", &["ingest:*", "create"]);
    assert_eq!(daemon.send_as(&all, "visits").status, 202);
    assert_eq!(daemon.send_as(&all, "orders").status, 202);
    let visits = token("visits", &["ingest:visits"]);
    assert_eq!(daemon.send_as(&visits, "visits").status, 202);
    let refused = daemon.send_as(&visits, "orders");
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (403, &json!("token lacks DATASOURCES:APPEND:orders"))
    );
    // A stream's id works like its name, and does not bypass scopes for the name.
    let streams = daemon.administer("GET", "/admin/v1/streams", &Value::Null).json();
    let id = |name: &str| {
        let found = streams["streams"].as_array().unwrap().iter().find(|stream| stream["name"] == name);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(daemon.send_as(&visits, &id("visits")).status, 202);
    assert_eq!(daemon.send_as(&visits, &id("orders")).status, 403);
    // Creating a stream by sending events requires the right to create and the right to send to that name.
    assert_eq!(daemon.send_as(&token("maker", &["create"]), "new").status, 403);
    assert_eq!(daemon.send_as(&token("future", &["ingest:new"]), "new").status, 404);
    assert_eq!(daemon.send_as(&token("both", &["ingest:new", "create"]), "new").status, 202);
    // The admin listener requires an admin token, except for routes with their own scope.
    let metrics = token("prometheus", &["metrics"]);
    for (token, path, status) in [
        (&all, "/admin/v1/status", 403),
        (&all, "/metrics", 403),
        (&metrics, "/metrics", 200),
        (&metrics, "/admin/v1/status", 403),
        (&token("broker", &["tokens"]), "/admin/v1/tokens", 200),
        (&metrics, "/admin/v1/tokens", 403),
        (&token("deputy", &["admin"]), "/admin/v1/status", 200),
    ] {
        let answer = daemon.administer_as(token, "GET", path, &Value::Null);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(status != 403 || answer.text().contains("the token lacks the scope"), "{}", answer.text());
    }
}

#[test]
fn a_token_is_shown_once_and_stored_as_a_hash_in_a_private_file() {
    let daemon = daemon();
    let about = json!({"name": "page", "scopes": ["ingest:visits"], "rps": 5, "project": "p",
                       "description": "our page", "origins": ["https://WWW.example.com:443/"]});
    let made = daemon.administer("POST", "/admin/v1/tokens", &about).json();
    let value = made["token"].as_str().unwrap();
    assert!(value.starts_with("fb_") && value.len() > 40, "{made}");
    let id = made["id"].as_str().unwrap();
    for path in
        ["/admin/v1/tokens".to_owned(), format!("/admin/v1/tokens/{id}"), "/admin/v1/tokens/page".to_owned()]
    {
        let shown = daemon.administer("GET", &path, &Value::Null);
        assert_eq!(shown.status, 200);
        assert!(shown.text().contains("our page") && !shown.text().contains(value), "{}", shown.text());
    }
    let shown = daemon.administer("GET", "/admin/v1/tokens/page", &Value::Null).json();
    assert_eq!(shown["origins"], json!(["https://www.example.com"]));
    assert_eq!(shown["hint"], format!("fb_…{}", &value[value.len() - 4..]));
    assert_eq!((&shown["expires_at"], &shown["expired"]), (&Value::Null, &json!(false)));
    for name in ["catalog.db", "catalog.db-wal"] {
        let path = daemon.data_dir().join(name);
        let stored = std::fs::read(&path).unwrap();
        for value in [value, daemon.token.as_deref().unwrap()] {
            assert!(
                !stored.windows(value.len()).any(|part| part == value.as_bytes()),
                "a token is in {name}"
            );
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(!daemon.log().contains(value));
}

#[test]
fn a_revoked_token_is_refused_at_once_and_for_good() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Setup::with_config(SMALL).start_at(home.path());
    let scopes = json!(["ingest:*", "create"]);
    let revoked = daemon.token_with(&json!({"name": "revoked", "scopes": scopes}));
    let refreshed = daemon.token_with(&json!({"name": "refreshed", "scopes": scopes}));
    let kept = daemon.token_with(&json!({"name": "kept", "scopes": scopes}));
    for token in [&revoked, &refreshed, &kept] {
        assert_eq!(daemon.send_as(token, "e").status, 202);
    }
    let gone = daemon.administer("DELETE", "/admin/v1/tokens/revoked", &Value::Null);
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(daemon.send_as(&revoked, "e").status, 403);
    let new = daemon.administer("POST", "/admin/v1/tokens/refreshed/refresh", &Value::Null).json();
    let new = new["token"].as_str().unwrap();
    assert_eq!((daemon.send_as(&refreshed, "e").status, daemon.send_as(new, "e").status), (403, 202));
    let admin = daemon.token.clone();
    daemon.kill();
    let mut daemon = Setup::with_config(SMALL).start_at(home.path());
    assert_eq!(daemon.token, None, "no token must be created if valid ones exist");
    daemon.token = admin;
    for (token, status) in [(&*revoked, 403), (&refreshed, 403), (new, 202), (&kept, 202)] {
        assert_eq!(daemon.send_as(token, "e").status, status);
    }
    assert_eq!(daemon.administer("DELETE", "/admin/v1/tokens/revoked", &Value::Null).status, 404);
}

#[test]
fn an_expired_token_is_refused_to_the_second() {
    let faults = Faults::none();
    let daemon = faults.on(Setup::with_config(SMALL)).start();
    let about = json!({"name": "short", "scopes": ["ingest:*", "create"], "expires_in": 600});
    let short = daemon.token_with(&about);
    let deputy = daemon.token_with(&json!({"name": "deputy", "scopes": ["admin"], "expires_in": 600}));
    let about = json!({"name": "signed", "kind": "jwt", "scopes": ["ingest:*"], "expires_in": 600});
    let signed = daemon.token_with(&about);
    assert_eq!(daemon.send_as(&short, "e").status, 202);
    assert_eq!(daemon.send_as(&signed, "e").status, 202);
    faults.set("clock", "601");
    let refused = daemon.send_as(&short, "e");
    assert_eq!((refused.status, &refused.json()["error"]), (403, &json!("invalid authentication token")));
    assert_eq!(daemon.send_as(&signed, "e").status, 403);
    let refused = daemon.administer_as(&deputy, "GET", "/admin/v1/status", &Value::Null);
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("the authentication token expired"), "{}", refused.text());
    assert_eq!(daemon.administer("GET", "/admin/v1/tokens/short", &Value::Null).json()["expired"], true);
    let text = daemon.get("/metrics").text();
    let count =
        text.lines().find(|line| line.starts_with("forebay_http_refusals_total{reason=\"token_expired\"}"));
    let count: u64 = count.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count >= 2, "{text}");
}

#[test]
fn an_origin_bound_token_works_on_its_pages_only() {
    let daemon = daemon();
    let about = json!({"name": "page", "scopes": ["ingest:*", "create"],
                       "origins": ["https://www.example.com", "https://*.shop.example"]});
    let token = daemon.token_with(&about);
    let signed = json!({"name": "page", "kind": "jwt", "scopes": ["ingest:*", "create"], "expires_in": 600,
                        "origins": ["https://www.example.com"]});
    let signed = daemon.token_with(&signed);
    for (origin, good, signed_good) in [
        (Some("https://www.example.com"), true, true),
        (Some("https://de.shop.example"), true, false),
        (Some("https://shop.example"), false, false),
        (Some("http://www.example.com"), false, false),
        (Some("https://www.example.com.evil.test"), false, false),
        (Some("null"), false, false),
        (None, false, false),
    ] {
        for (token, good) in [(&token, good), (&signed, signed_good)] {
            let mut headers = Vec::new();
            headers.extend(origin.map(|origin| ("origin", origin)));
            // As sent by `sendBeacon`.
            let answer = daemon.post_with(&format!("name=e&token={token}"), &headers, EVENT);
            assert_eq!(answer.status, if good { 202 } else { 403 }, "{origin:?}: {}", answer.text());
            assert!(good || answer.text().contains("may not be used from this origin"), "{}", answer.text());
        }
    }
}

#[test]
fn invalid_tokens_are_refused_without_harm() {
    let (daemon, other) = (daemon(), daemon());
    let signing =
        daemon.token_with(&json!({"name": "s", "kind": "signing", "scopes": ["ingest:*", "create"]}));
    let id = workspace(&daemon);
    let claims = json!({"workspace_id": id, "name": "n", "exp": now() + 60,
                        "scopes": [{"type": "DATASOURCES:APPEND", "resource": "e"}]});
    let good = forge(&json!({"alg": "HS256", "typ": "JWT"}), &claims, &signing);
    assert_eq!(daemon.send_as(daemon.token.as_deref().unwrap(), "e").status, 202);
    assert_eq!(daemon.send_as(&good, "e").status, 202);
    let jwt = json!({"name": "n", "kind": "jwt", "scopes": ["ingest:e"], "expires_in": 600});
    let foreign = other.token_with(&jwt);
    let foreign_claims =
        json!({"workspace_id": workspace(&other), "exp": now() + 60, "scopes": ["ingest:e"]});
    let over = json!({"workspace_id": id, "exp": now() - 1, "scopes": ["ingest:e"]});
    let mut tokens = vec![
        ("of another daemon", other.token.clone().unwrap()),
        ("signed by another daemon", foreign),
        ("for another daemon", forge(&json!({"alg": "HS256"}), &foreign_claims, &signing)),
        ("expired by a second", forge(&json!({"alg": "HS256"}), &over, &signing)),
        ("of a client's secret", forge(&json!({"alg": "HS256"}), &claims, "guess")),
        ("with a NUL, encoded", format!("{good}%00")),
        ("of 100 kB", "x".repeat(100_000)),
    ];
    for algorithm in ["none", "None", "RS256", "ES256", "EdDSA", "HS384", "HS512"] {
        tokens.push(("of another algorithm", forge(&json!({"alg": algorithm}), &claims, &signing)));
        let unsigned = forge(&json!({"alg": algorithm}), &claims, &signing);
        tokens.push(("unsigned", format!("{}.", unsigned.rsplit_once('.').unwrap().0)));
    }
    for (name, token) in &tokens {
        if token.len() < 16_000 {
            let refused = daemon.send_as(token, "e");
            assert_eq!(
                (refused.status, &refused.json()["error"]),
                (403, &json!("invalid authentication token")),
                "{name}"
            );
        }
        if token.len() < 60_000 {
            assert_eq!(daemon.post(&format!("name=e&token={token}"), EVENT).status, 403, "{name}");
        }
    }
    // Bytes that a header must not contain, and values beyond the limits of heads and paths.
    let raw = |query: &str, token: &[u8]| {
        let mut stream = connect(daemon.ingest);
        let head = format!("POST /v0/events?name=e{query} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n");
        let mut text = [head.as_bytes(), b"authorization: Bearer "].concat();
        text.extend_from_slice(token);
        text.extend_from_slice(b"\r\n\r\n{}");
        // The daemon need not read everything.
        drop(stream.write_all(&text));
        read_response(&mut stream).status
    };
    assert_eq!(raw("", b"a\0b"), 400);
    assert_eq!(raw("", &vec![b'x'; 1 << 20]), 431);
    assert_eq!(raw("", "ü".as_bytes()), 403);
    let long = format!("&token={}", "x".repeat(1 << 20));
    assert!(matches!(raw(&long, b"x"), 414 | 431), "{}", raw(&long, b"x"));
    assert_eq!(daemon.rows("e").len(), 2, "no record must be stored");
}

#[test]
fn signing_keys_rotate_with_a_grace_period() {
    let daemon = Setup::with_config(&format!("[auth]\njwt_grace = \"1h\"\n{SMALL}")).start();
    let keys = || daemon.administer("GET", "/admin/v1/keys", &Value::Null).json()["keys"].clone();
    assert_eq!(keys(), json!([]));
    let jwt = |n: u32| {
        let about =
            json!({"name": "n", "kind": "jwt", "scopes": ["ingest:e", "ingest:f"], "expires_in": 600 + n});
        daemon.token_with(&about)
    };
    assert_eq!(daemon.send_as(daemon.token.as_deref().unwrap(), "e").status, 202);
    let first = jwt(0);
    let kid = part(&first, 0)["kid"].as_str().unwrap().to_owned();
    assert_eq!((&keys()[0]["kid"], &keys()[0]["signs"]), (&json!(kid), &json!(true)));
    let rotated = daemon.administer("POST", "/admin/v1/keys/rotate", &Value::Null);
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let second = jwt(1);
    assert_eq!(part(&second, 0)["kid"], rotated.json()["kid"]);
    assert_eq!(keys()[1]["signs"], false);
    let until = keys()[1]["retires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert!(until.abs_diff(i64::try_from(now()).unwrap() + 3600) < 60, "{}", keys());
    assert_eq!((daemon.send_as(&first, "e").status, daemon.send_as(&second, "e").status), (202, 202));
    // The old key is deleted; then the new one is rotated without a grace period.
    let signs = format!("/admin/v1/keys/{}", rotated.json()["kid"].as_str().unwrap());
    assert_eq!(daemon.administer("DELETE", &signs, &Value::Null).status, 400);
    assert_eq!(daemon.administer("DELETE", &format!("/admin/v1/keys/{kid}"), &Value::Null).status, 204);
    assert_eq!((daemon.send_as(&first, "e").status, daemon.send_as(&second, "e").status), (403, 202));
    assert_eq!(daemon.administer("POST", "/admin/v1/keys/rotate", &json!({"grace": 0})).status, 201);
    assert_eq!(daemon.send_as(&second, "e").status, 403);
    assert_eq!(keys().as_array().unwrap().len(), 1);
    assert_eq!(daemon.administer("DELETE", &format!("/admin/v1/keys/{kid}"), &Value::Null).status, 404);
}

#[test]
fn invalid_token_requests_get_a_reason() {
    let daemon = daemon();
    daemon.token_with(&json!({"name": "taken", "scopes": ["ingest:a"]}));
    for (body, status, says) in [
        (json!({}), 400, "missing field `name`"),
        (json!({"name": "n"}), 400, "missing field `scopes`"),
        (json!({"name": "n", "scopes": []}), 400, "needs a scope"),
        (json!({"name": "n", "scopes": ["write:a"]}), 400, "\"write:a\" is not a valid scope"),
        (json!({"name": "n", "scopes": ["ingest:a/b"]}), 400, "ingest:a/b"),
        (json!({"name": "n", "scopes": ["ingest:a"], "kind": "king"}), 400, "kind: unknown variant `king`"),
        (json!({"name": "n", "scopes": ["ingest:a"], "colour": "red"}), 400, "unknown field `colour`"),
        (json!({"name": "n", "scopes": ["ingest:a"], "rps": -1}), 400, "rps: invalid value"),
        (
            json!({"name": "n", "scopes": ["ingest:a"], "expires_at": "soon"}),
            400,
            "'expires_at' is not a valid time",
        ),
        (
            json!({"name": "n", "scopes": ["ingest:a"], "expires_at": "2020-01-01T00:00:00Z"}),
            400,
            "is in the past",
        ),
        (
            json!({"name": "n", "scopes": ["ingest:a"], "expires_in": u64::MAX}),
            400,
            "'expires_in' is too long",
        ),
        (json!({"name": "n", "scopes": ["ingest:a"], "origins": ["x"]}), 400, "\"x\" is not a valid origin"),
        (json!({"name": "n", "scopes": ["ingest:a"], "kind": "jwt"}), 400, "needs an expiry time"),
        (json!({"name": "taken", "scopes": ["ingest:a"]}), 409, "token named \"taken\" already exists"),
        (json!([1]), 400, "invalid body"),
    ] {
        let refused = daemon.administer("POST", "/admin/v1/tokens", &body);
        assert_eq!(refused.status, status, "{body}: {}", refused.text());
        assert!(refused.json()["detail"].as_str().unwrap().contains(says), "{says:?}: {}", refused.text());
    }
    let broken = request(
        daemon.admin,
        "POST",
        "/admin/v1/tokens",
        &[("authorization", &format!("Bearer {}", daemon.token.as_deref().unwrap()))],
        b"{\"name\":",
    );
    assert_eq!(broken.status, 400, "{}", broken.text());
    for (method, path) in [
        ("GET", "/admin/v1/tokens/nobody"),
        ("DELETE", "/admin/v1/tokens/nobody"),
        ("POST", "/admin/v1/tokens/nobody/refresh"),
        ("DELETE", "/admin/v1/clients/nobody"),
        ("DELETE", "/admin/v1/keys/nobody"),
    ] {
        let missing = daemon.administer(method, path, &Value::Null);
        assert_eq!(missing.status, 404, "{method} {path}: {}", missing.text());
        assert!(missing.text().contains("has the id or name \\\"nobody\\\""), "{}", missing.text());
    }
    let last = daemon.administer("DELETE", "/admin/v1/tokens/admin", &Value::Null);
    assert_eq!(last.status, 409, "{}", last.text());
    for (body, says) in [
        (json!({"name": "c", "roles": []}), "needs a role"),
        (json!({"name": "c", "roles": ["King"]}), "\"King\" is not a valid scope"),
        (json!({"name": "", "roles": ["ManageStreams"]}), "the name of a client"),
    ] {
        let refused = daemon.administer("POST", "/admin/v1/clients", &body);
        assert_eq!(refused.status, 400);
        assert!(refused.json()["detail"].as_str().unwrap().contains(says), "{says}: {}", refused.text());
    }
}

#[test]
fn token_managers_cannot_create_admin_tokens() {
    let daemon = daemon();
    let broker = daemon.token_with(&json!({"name": "broker", "scopes": ["tokens"]}));
    let make = |body: Value| daemon.administer_as(&broker, "POST", "/admin/v1/tokens", &body);
    assert_eq!(make(json!({"name": "a", "scopes": ["ingest:a"]})).status, 201);
    let refused = make(json!({"name": "b", "scopes": ["admin"]}));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("only a caller with the scope admin may grant it"), "{}", refused.text());
    let refresh = "/admin/v1/tokens/admin/refresh";
    assert_eq!(daemon.administer_as(&broker, "POST", refresh, &Value::Null).status, 403);
    assert_eq!(daemon.administer_as(&broker, "DELETE", "/admin/v1/tokens/a", &Value::Null).status, 204);
    assert_eq!(daemon.administer_as(&broker, "GET", "/admin/v1/keys", &Value::Null).status, 403);
}

#[test]
fn under_dev_every_caller_is_an_administrator() {
    let daemon = Daemon::dev();
    assert_eq!(daemon.send_as("whatever", "e").status, 202);
    let made = daemon.administer("POST", "/admin/v1/tokens", &json!({"name": "a", "scopes": ["ingest:a"]}));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(daemon.administer("GET", "/admin/v1/clients", &Value::Null).json(), json!({"clients": []}));
    let client = json!({"name": "c", "roles": ["ManageStreams"]});
    let made = daemon.administer("POST", "/admin/v1/clients", &client);
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(made.json()["client_secret"].as_str().unwrap().starts_with("fbc_"));
    assert_eq!(
        daemon.administer("GET", "/admin/v1/clients", &Value::Null).json()["clients"][0]["scopes"],
        json!(["ingest:*"])
    );
    assert_eq!(daemon.administer("DELETE", "/admin/v1/clients/c", &Value::Null).status, 204);
}

#[test]
fn a_dev_data_directory_can_go_into_production() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(home.path());
    let sender = daemon.token_with(&json!({"name": "sender", "scopes": ["ingest:*", "create"]}));
    assert_eq!(daemon.stop().status.code(), Some(0));
    let daemon = Setup::with_config(SMALL).start_at(home.path());
    assert!(daemon.token.is_some(), "a token exists, but no admin token");
    assert_eq!(daemon.administer("GET", "/admin/v1/tokens/sender", &Value::Null).status, 200);
    assert_eq!(daemon.send_as(&sender, "e").status, 202);
    assert_eq!(daemon.send_as("whatever", "e").status, 403);
}
