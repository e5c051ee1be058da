//! Tinybird's `/v0/tokens`: static tokens in the contract's notation, and JWTs.

use crate::faults::Faults;
use crate::identity::{SMALL, forge};
use crate::support::{Daemon, Response, Setup, request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const EVENT: &str = r#"{"city":"Chicago"}"#;

struct World {
    daemon: Daemon,
}

impl World {
    fn new() -> Self {
        Self { daemon: Setup::with_config(SMALL).start() }
    }

    fn admin(&self) -> &str {
        self.daemon.token.as_deref().unwrap()
    }

    fn call(&self, token: &str, method: &str, target: &str, body: &str) -> Response {
        let authorization = format!("Bearer {token}");
        // A form, as curl sends it.
        let headers =
            [("authorization", &*authorization), ("content-type", "application/x-www-form-urlencoded")];
        request(self.daemon.ingest, method, target, &headers, body.as_bytes())
    }

    /// A call with the admin token that must succeed.
    fn good(&self, method: &str, target: &str, body: &str) -> Value {
        let answer = self.call(self.admin(), method, target, body);
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.text());
        answer.json()
    }

    fn refused(&self, token: &str, method: &str, target: &str, body: &str, status: u16, says: &str) {
        let answer = self.call(token, method, target, body);
        assert_eq!(answer.status, status, "{method} {target} {body}: {}", answer.text());
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(says), "{says:?} is not in {error:?}");
    }

    fn send(&self, token: &str, stream: &str) -> u16 {
        self.daemon.post(&format!("name={stream}&token={token}"), EVENT).status
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn static_tokens_are_created_shown_changed_refreshed_and_deleted() {
    let world = World::new();
    assert_eq!(world.send(world.admin(), "ev"), 202);
    let form = "name=page&description=for+pages&scope=DATASOURCES:APPEND:ev&scope=DATASOURCES:READ:ev";
    let made = world.good("POST", "/v0/tokens", form);
    let scopes = json!([
        {"type": "DATASOURCES:APPEND", "resource": "ev"},
        {"type": "DATASOURCES:READ", "resource": "ev"},
    ]);
    assert_eq!(
        (&made["name"], &made["description"], &made["scopes"]),
        (&json!("page"), &json!("for pages"), &scopes)
    );
    let value = text(&made["token"]).to_owned();
    let [prefix, about, secret] = value.split('.').collect::<Vec<_>>()[..] else { panic!("{value}") };
    let about: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(about).unwrap()).unwrap();
    assert_eq!((prefix, &about["id"]), ("p", &made["id"]));
    assert_eq!(about["u"], world.good("GET", "/v0/workspace", "")["id"]);
    assert!(secret.len() >= 43);
    assert_eq!((world.send(&value, "ev"), world.send(&value, "other")), (202, 403));

    // The list, and one by name, id and value; a value is not shown again.
    let list = world.good("GET", "/v0/tokens/", "");
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(&value));
    assert_eq!(list["tokens"][0]["scopes"], json!([{"type": "ADMIN"}]));
    for id in ["page", text(&made["id"]), &value] {
        let shown = world.good("GET", &format!("/v0/tokens/{id}"), "");
        assert_eq!(shown["scopes"], scopes);
        assert!(text(&shown["token"]).starts_with("p.…"), "{shown}");
    }

    // Fields that are not given stay; scopes are replaced.
    let changed = world.good("PUT", "/v0/tokens/page?scope=DATASOURCES:APPEND:other", "");
    assert_eq!((&changed["name"], &changed["description"]), (&json!("page"), &json!("for pages")));
    assert_eq!((world.send(&value, "ev"), world.send(&value, "other")), (403, 404));
    world.good("PUT", &format!("/v0/tokens/{value}"), "name=renamed&scope=DATASOURCES:CREATE");
    assert_eq!(world.send(&value, "other"), 202, "the right to create includes appending");

    let refreshed = world.good("POST", "/v0/tokens/renamed/refresh", "");
    let new = text(&refreshed["token"]).to_owned();
    assert!(new.starts_with("p.") && new != value);
    assert_eq!((world.send(&value, "ev"), world.send(&new, "ev")), (403, 202));
    assert_eq!(world.good("DELETE", "/v0/tokens/renamed", ""), json!({"ok": true}));
    assert_eq!(world.send(&new, "ev"), 403);
    world.refused(world.admin(), "DELETE", "/v0/tokens/renamed", "", 404, "no token has the id");
}

#[test]
fn tokens_need_the_tokens_right_but_may_see_themselves() {
    let world = World::new();
    let token = |name: &str, scope: &str| {
        let made = world.good("POST", &format!("/v0/tokens?name={name}&scope={scope}"), "");
        text(&made["token"]).to_owned()
    };
    let broker = token("broker", "TOKENS");
    let sender = token("sender", "DATASOURCES:APPEND:ev");
    assert_eq!(world.call(&broker, "GET", "/v0/tokens", "").status, 200);
    world.refused(&sender, "GET", "/v0/tokens", "", 403, "token lacks TOKENS");
    world.refused(
        &sender,
        "POST",
        "/v0/tokens",
        "name=x&scope=DATASOURCES:APPEND:ev",
        403,
        "token lacks TOKENS",
    );
    world.refused(&sender, "DELETE", "/v0/tokens/sender", "", 403, "token lacks TOKENS");
    assert_eq!(world.call(&sender, "GET", "/v0/tokens/sender", "").json()["name"], "sender");
    let hidden = "Token has not enough permissions to get information about this token";
    world.refused(&sender, "GET", "/v0/tokens/broker", "", 403, hidden);
    world.refused(&sender, "GET", "/v0/tokens/nobody", "", 403, hidden);
    world.refused(&broker, "GET", "/v0/tokens/nobody", "", 403, hidden);
    world.refused("wrong", "GET", "/v0/tokens/sender", "", 403, "invalid authentication token");
    // No token can raise its own rights.
    world.refused(
        &broker,
        "POST",
        "/v0/tokens",
        "name=x&scope=ADMIN",
        403,
        "only a token with ADMIN may grant it",
    );
    world.refused(&broker, "PUT", "/v0/tokens/broker", "scope=ADMIN", 403, "only a token with ADMIN");
    world.refused(&broker, "POST", "/v0/tokens/admin/refresh", "", 403, "admin");
    world.refused(
        world.admin(),
        "DELETE",
        "/v0/tokens/admin",
        "",
        409,
        "the only token with the scope admin",
    );
    world.refused(
        world.admin(),
        "POST",
        "/v0/tokens",
        "name=sender&scope=TOKENS",
        409,
        "A token named \"sender\" already exists",
    );
}

#[test]
fn what_is_wrong_about_a_token_is_said() {
    let world = World::new();
    for (body, says) in [
        ("", "The 'name' parameter is required"),
        ("name=x", "needs a scope"),
        ("name=x&scope=", "unknown scope \"\""),
        ("name=x&scope=DATASOURCES:APPEND", "needs the name of a data source"),
        ("name=x&scope=DATASOURCES:APPEND:a/b", "a stream's name"),
        ("name=x&scope=DATASOURCES:READ:ev:n%3D1", "filter"),
        ("name=x&scope=PIPES:READ:top", "PIPES:READ is for a feature that Forebay does not have"),
        ("name=x&scope=ingest:ev", "unknown scope"),
        ("name=x&scope=TOKENS&expiration_time=soon", "'expiration_time' must be the number of seconds"),
        ("name=x&scope=DATASOURCES:READ:ev&expiration_time=1", "is in the past"),
        ("name=x&scope=DATASOURCES:READ:ev&expiration_time=9223372036854775807", "out of range"),
        (
            "name=x&scope=TOKENS&expiration_time=4000000000",
            "JWTs can only have the scopes DATASOURCES:APPEND and",
        ),
        ("{\"name\":", "The body is invalid"),
        ("{\"name\":7}", "The body is invalid"),
    ] {
        world.refused(world.admin(), "POST", "/v0/tokens", body, 400, says);
    }
}

#[test]
fn the_daemon_signs_jwts() {
    let faults = Faults::none();
    let world = World { daemon: faults.on(Setup::with_config(SMALL)).start() };
    assert_eq!(world.send(world.admin(), "ev"), 202);
    let body = json!({
        "name": "user 7",
        "scopes": [{"type": "DATASOURCES:APPEND", "resource": "ev"}, {"type": "DATASOURCES:READ", "resource": "ev"}],
        "limits": {"rps": 10},
    });
    let target = format!("/v0/tokens/?expiration_time={}", now() + 600);
    let made = world.good("POST", &target, &body.to_string());
    assert_eq!(made.as_object().unwrap().len(), 1, "{made}");
    let jwt = text(&made["token"]);
    let claims = jwt.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(
        (&claims["scopes"], &claims["name"], &claims["limits"]),
        (&body["scopes"], &body["name"], &body["limits"])
    );
    assert_eq!(claims["workspace_id"], world.good("GET", "/v0/workspace", "")["id"]);
    assert_eq!((world.send(jwt, "ev"), world.send(jwt, "other")), (202, 403));
    // Nothing about the token is stored.
    assert_eq!(world.good("GET", "/v0/tokens", "")["tokens"].as_array().unwrap().len(), 1);
    faults.set("clock", "601");
    assert_eq!(world.send(jwt, "ev"), 403, "expired");
}

#[test]
fn clients_sign_jwts_themselves() {
    let world = World::new();
    assert_eq!(world.send(world.admin(), "ev"), 202);
    let about = json!({"name": "backend", "kind": "signing", "scopes": ["ingest:ev"]});
    let secret = world.daemon.token_with(&about);
    let claims = |exp: i64, resource: &str| {
        json!({
            "workspace_id": world.good("GET", "/v1/workspace", "")["id"],
            "name": "user 7",
            "exp": exp,
            "scopes": [{"type": "DATASOURCES:APPEND", "resource": resource}, {"type": "PIPES:READ", "resource": "top"}],
            "limits": {"rps": 10},
        })
    };
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let good = forge(&header, &claims(now() + 60, "ev"), &secret);
    assert_eq!(world.send(&good, "ev"), 202);
    assert_eq!(world.daemon.send_as(&good, "ev").status, 202);
    assert_eq!(
        world.send(&forge(&header, &claims(now() - 1, "ev"), &secret), "ev"),
        403,
        "expired by a second"
    );
    // Signing cannot grant rights that the signer does not have.
    let raised = forge(&header, &claims(now() + 60, "other"), &secret);
    assert_eq!((world.send(&raised, "other"), world.send(&raised, "ev")), (403, 403));
    // A token that is not a signing token cannot sign.
    let admins = forge(&header, &claims(now() + 60, "ev"), world.admin());
    assert_eq!(world.send(&admins, "ev"), 403);
    world.good("DELETE", "/v0/tokens/backend", "");
    assert_eq!(world.send(&good, "ev"), 403, "the token must end with its signer");
}

#[test]
fn a_jwt_carries_the_rate_limit_of_its_name() {
    let world = World::new();
    assert_eq!(world.send(world.admin(), "ev"), 202);
    let jwt = |name: &str| {
        let scopes = json!([{"type": "DATASOURCES:APPEND", "resource": "ev"}]);
        let body = json!({"name": name, "scopes": scopes, "limits": {"rps": 2}});
        let target = format!("/v0/tokens/?expiration_time={}", now() + 600);
        text(&world.good("POST", &target, &body.to_string())["token"]).to_owned()
    };
    let (one, again, other) = (jwt("one"), jwt("one"), jwt("other"));
    let started = std::time::Instant::now();
    let send = |n: usize| world.daemon.post(&format!("name=ev&token={}", [&one, &again][n % 2]), EVENT);
    let answers: Vec<Response> = (0..40).map(send).collect();
    let good = answers.iter().filter(|answer| answer.status == 202).count() as f64;
    // A burst of two and two per second, for both tokens of the name together.
    assert!(
        good >= 2.0 && good <= 2.0 + 2.0 * started.elapsed().as_secs_f64() + 1.0,
        "{good} of 40 were accepted"
    );
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    }
    assert_eq!(world.send(&other, "ev"), 202, "other tokens must not be limited");
}
