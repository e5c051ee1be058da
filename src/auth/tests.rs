//! Tests of the identity module, with a clock that the test sets.

use super::words::{Vocabulary, Words};
use super::*;
use crate::clock::FakeClock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use std::path::Path;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_800_000_000 * SECOND;
const INSTANCE: &str = "01a1fcf4-b910-77c1-ac97-bb8ccb66b579";

struct World {
    auth: Auth,
    clock: Arc<FakeClock>,
    dir: tempfile::TempDir,
}

/// The vocabulary of a contract.
fn words() -> Vocabulary {
    static WORDS: Words = Words {
        role: |role| match role {
            "ManageStreams" | "streaming-ingest-api:write" => Some(vec![Scope::Ingest(ScopeTarget::All)]),
            "ManageConnections" => Some(vec![Scope::Create, Scope::Ingest(ScopeTarget::All)]),
            "AccessMetrics" => Some(vec![Scope::Metrics]),
            _ => None,
        },
        claim: |kind, resource| match kind {
            "DATASOURCES:APPEND" => Some(vec![Scope::Ingest(ScopeTarget::named(resource).ok()?)]),
            "DATASOURCES:READ" => Some(vec![Scope::Read(ScopeTarget::named(resource).ok()?)]),
            "DATASOURCES:CREATE" => Some(vec![Scope::Create, Scope::Ingest(ScopeTarget::All)]),
            "TOKENS" => Some(vec![Scope::Tokens]),
            "ADMIN" => Some(vec![Scope::Admin]),
            _ => None,
        },
        token: None,
    };
    Vocabulary::new([&WORDS])
}

fn open(dir: &Path, clock: &Arc<FakeClock>) -> Auth {
    let config = AuthConfig {
        instance: INSTANCE.to_owned(),
        open: false,
        jwt_grace: Duration::from_hours(1),
        client_secret_grace: Duration::from_hours(720),
        client_token_lifetime: Duration::from_mins(5),
    };
    let catalog = Arc::new(Catalog::open(dir, Arc::clone(clock) as Arc<dyn Clock>).unwrap());
    Auth::open(config, words(), catalog, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::at(START));
        Self { auth: open(dir.path(), &clock), clock, dir }
    }

    fn make(&self, kind: TokenKind, request: &TokenRequest) -> String {
        self.auth.create_token(&admin(), kind, None, request).unwrap().1
    }

    fn who(&self, token: &str) -> Result<Caller, AuthError> {
        self.auth.identify(&Credential::Bearer(token.into()))
    }

    fn later(&self, micros: Micros) {
        self.clock.set(self.clock.now() + micros);
    }
}

fn admin() -> Caller {
    Caller::everybody()
}

fn request(name: &str, scopes: &str) -> TokenRequest {
    TokenRequest {
        name: name.to_owned(),
        description: String::new(),
        scopes: scope::split(scopes).unwrap(),
        origins: None,
        rps: None,
        project: None,
        expires_at: None,
    }
}

/// A token with any header and claims, signed with HS256 whatever the header says.
fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// The token with a different last byte.
fn other_end(token: &str) -> String {
    let (rest, last) = token.split_at(token.len() - 1);
    format!("{rest}{}", if last == "A" { "E" } else { "A" })
}

fn decoded(token: &str, part: usize) -> Value {
    let part = token.split('.').nth(part).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_is_good_until_it_is_revoked_or_its_time_is_over() {
    let world = World::new();
    let lasting = world.make(TokenKind::Token, &request("a", "ingest:visits"));
    let ending = world
        .make(TokenKind::Token, &TokenRequest { expires_at: Some(START + SECOND), ..request("b", "admin") });
    assert_eq!(&*world.who(&lasting).unwrap().name, "a");
    assert_eq!(world.who(&ending).unwrap().scopes.len(), 1);
    world.later(SECOND - 1);
    assert!(world.who(&ending).is_ok());
    world.later(1);
    assert_eq!(world.who(&ending), Err(AuthError::Expired { at: START + SECOND }));
    world.auth.revoke_token(&admin(), "a").unwrap();
    assert_eq!(world.who(&lasting), Err(AuthError::Unknown));
    assert_eq!(world.auth.identify(&Credential::None), Err(AuthError::Missing));
    assert_eq!(world.who(""), Err(AuthError::Unknown));
    assert_eq!(world.who(&"x".repeat(1 << 20)), Err(AuthError::Unknown));
}

#[test]
fn everything_is_there_again_after_a_restart_and_no_value_is_stored() {
    let world = World::new();
    let token = world.make(TokenKind::Token, &request("a", "ingest:visits read:*"));
    let key = world.make(TokenKind::ApiKey, &request("k", "create"));
    let client =
        ClientRequest { name: "c".to_owned(), roles: vec!["ManageStreams".to_owned()], project: None };
    let (client, secret) = world.auth.create_client(&admin(), &client).unwrap();
    let issued = world.auth.client_token(&client.client_id, &secret).unwrap().jwt;
    let callers = [&token, &key, &issued].map(|token| world.who(token).unwrap());
    let World { auth, clock, dir } = world;
    drop(auth);
    let world = World { auth: open(dir.path(), &clock), clock, dir };
    for (token, caller) in [&token, &key, &issued].into_iter().zip(&callers) {
        assert_eq!(world.who(token).unwrap(), *caller);
    }
    let stored = std::fs::read(world.dir.path().join("catalog.db")).unwrap();
    let log = std::fs::read(world.dir.path().join("catalog.db-wal")).unwrap();
    for value in [&token, &key, &secret, &issued] {
        let found = |bytes: &[u8]| bytes.windows(value.len()).any(|window| window == value.as_bytes());
        assert!(!found(&stored) && !found(&log), "{value} is in the catalog");
    }
}

#[test]
fn ids_of_callers_are_never_used_again() {
    let world = World::new();
    let first = world.make(TokenKind::Token, &request("a", "admin"));
    let other = world.make(TokenKind::Token, &request("b", "admin"));
    let known = [world.who(&first).unwrap().id, world.who(&other).unwrap().id];
    world.auth.revoke_token(&admin(), "b").unwrap();
    let new = world.make(TokenKind::Token, &request("b", "admin"));
    assert!(!known.contains(&world.who(&new).unwrap().id));
    let (refreshed, value) = world.auth.refresh_token(&admin(), "a").unwrap();
    assert_eq!(world.who(&value).unwrap().id, known[0], "{refreshed:?}");
    assert_eq!(world.who(&first), Err(AuthError::Unknown));
}

#[test]
fn a_token_of_the_daemons_own_is_good_for_its_time_and_the_grace_of_its_key() {
    let world = World::new();
    let request = TokenRequest {
        rps: Some(7),
        project: Some("p".to_owned()),
        origins: Some(vec!["https://A.com".to_owned()]),
        expires_at: Some(START + 7200 * SECOND),
        ..request("page", "ingest:visits read:visits")
    };
    let token = world.auth.issue_token(&admin(), ScopeClaim::own, &request).unwrap();
    assert_eq!(decoded(&token, 0)["alg"], "HS256");
    assert_eq!(decoded(&token, 0)["kid"], world.auth.keys()[0].kid);
    assert_eq!(decoded(&token, 1)["exp"], START / SECOND + 7200);
    let caller = world.who(&token).unwrap();
    assert!(
        caller.may(Need::Ingest("visits")) && !caller.may(Need::Ingest("other")) && !caller.may(Need::Admin)
    );
    assert_eq!((caller.rps, caller.project.as_deref()), (Some(7), Some("p")));
    assert!(caller.allows_origin(Some("https://a.com")) && !caller.allows_origin(None));
    // The same name is the same caller, whichever token it presents.
    let again = world.auth.issue_token(&admin(), ScopeClaim::own, &request).unwrap();
    assert_eq!(world.who(&again).unwrap().id, caller.id);
    assert_ne!(again, token);

    let old = world.auth.keys()[0].kid.clone();
    let new = world.auth.rotate_key(None).unwrap();
    assert_eq!(new.retires_at, None);
    let keys = world.auth.keys();
    assert_eq!(keys.len(), 2);
    assert_eq!((&keys[1].kid, keys[1].retires_at), (&old, Some(START + 3600 * SECOND)));
    assert!(world.who(&token).is_ok());
    let young = world.auth.issue_token(&admin(), ScopeClaim::own, &request).unwrap();
    assert_eq!(decoded(&young, 0)["kid"], new.kid);
    world.later(3600 * SECOND);
    assert_eq!(world.who(&token), Err(AuthError::Expired { at: START + 3600 * SECOND }));
    assert!(world.who(&young).is_ok());
    world.later(3600 * SECOND);
    assert_eq!(world.who(&young), Err(AuthError::Expired { at: START + 7200 * SECOND }));
}

#[test]
fn an_old_key_can_be_forgotten_at_once_and_the_one_that_signs_cannot() {
    let world = World::new();
    let lasting = TokenRequest { expires_at: Some(START + 7200 * SECOND), ..request("n", "ingest:a") };
    let token = world.auth.issue_token(&admin(), ScopeClaim::own, &lasting).unwrap();
    let old = world.auth.keys()[0].kid.clone();
    assert!(matches!(world.auth.delete_key(&old), Err(ManageError::Invalid(_))));
    world.auth.rotate_key(None).unwrap();
    world.auth.delete_key(&old).unwrap();
    assert_eq!(world.who(&token), Err(AuthError::Unknown));
    assert!(matches!(world.auth.delete_key(&old), Err(ManageError::Missing { .. })));
    // Without a grace period, they expire with the rotation.
    let token = world.auth.issue_token(&admin(), ScopeClaim::own, &lasting).unwrap();
    world.auth.rotate_key(Some(Duration::ZERO)).unwrap();
    assert!(world.who(&token).is_err());
    assert_eq!(world.auth.keys().len(), 1);
}

#[test]
fn a_signature_is_checked_as_the_key_says_and_never_as_the_token_says() {
    let world = World::new();
    let lasting = TokenRequest { expires_at: Some(START + 60 * SECOND), ..request("n", "ingest:a") };
    let good = world.auth.issue_token(&admin(), ScopeClaim::own, &lasting).unwrap();
    let (header, claims) = (decoded(&good, 0), decoded(&good, 1));
    let secret = world.auth.snapshot.load().current_key().unwrap().stored.secret.clone();
    assert!(world.who(&forge(&header, &claims, &secret)).is_ok(), "the test can sign");
    let with = |value: &Value, name: &str, new: Value| {
        let mut value = value.clone();
        value[name] = new;
        value
    };
    for algorithm in ["none", "None", "", "RS256", "ES256", "EdDSA", "PS256", "HS384", "HS512", "hs256"] {
        let header = with(&header, "alg", json!(algorithm));
        assert_eq!(world.who(&forge(&header, &claims, &secret)), Err(AuthError::Unknown), "{algorithm}");
        // As created by libraries that treat `none` as an absent signature.
        let unsigned = forge(&header, &claims, &secret);
        let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
        assert_eq!(world.who(&unsigned), Err(AuthError::Unknown), "{algorithm}, unsigned");
    }
    for (name, forged) in [
        ("another secret", forge(&header, &claims, b"guess")),
        ("no secret", forge(&header, &claims, b"")),
        ("the kid as the secret", forge(&header, &claims, header["kid"].as_str().unwrap().as_bytes())),
        ("another daemon's", forge(&header, &with(&claims, "workspace_id", json!("x")), &secret)),
        ("no daemon's", forge(&header, &with(&claims, "workspace_id", Value::Null), &secret)),
        ("without an end", forge(&header, &with(&claims, "exp", Value::Null), &secret)),
        ("an end that is no time", forge(&header, &with(&claims, "exp", json!("soon")), &secret)),
        ("an unknown key", forge(&with(&header, "kid", json!("x")), &claims, &secret)),
        ("no key", forge(&with(&header, "kid", Value::Null), &claims, &secret)),
        (
            "an extension that must be understood",
            forge(&with(&header, "crit", json!(["x"])), &claims, &secret),
        ),
        ("a client that is not there", forge(&header, &with(&claims, "client_id", json!("x")), &secret)),
        ("not before tomorrow", forge(&header, &with(&claims, "nbf", json!(START / SECOND + 1)), &secret)),
        ("four parts", format!("{good}.x")),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("another signature", other_end(&good)),
        ("no text", "eyJ\0.\0.\0".to_owned()),
        ("only dots", "eyJ..".to_owned()),
    ] {
        assert!(good != forged && world.who(&forged) == Err(AuthError::Unknown), "{name}");
    }
    let over = forge(&header, &with(&claims, "exp", json!(START / SECOND - 1)), &secret);
    assert!(matches!(world.who(&over), Err(AuthError::Expired { .. })));
    let raised = with(&claims, "scopes", json!(["admin"]));
    let (head, _) = good.split_once('.').unwrap();
    let (_, signature) = good.rsplit_once('.').unwrap();
    let raised = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(raised.to_string()));
    assert_eq!(world.who(&raised), Err(AuthError::Unknown));
}

#[test]
fn the_owner_of_a_signing_token_signs_for_events_within_its_rights() {
    let world = World::new();
    let secret = world.make(TokenKind::Signing, &request("signer", "ingest:* read:visits create"));
    let claims = |scopes: Value| {
        json!({"workspace_id": INSTANCE, "name": "user 7", "exp": START / SECOND + 60, "scopes": scopes,
               "limits": {"rps": 3}})
    };
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let scopes = json!([
        {"type": "DATASOURCES:APPEND", "resource": "visits"},
        {"type": "DATASOURCES:READ", "resource": "visits"},
        {"type": "DATASOURCES:READ", "resource": "other"},
        {"type": "DATASOURCES:READ", "resource": "visits", "filter": "user = 7"},
        {"type": "PIPES:READ", "resource": "top", "fixed_params": {"user": 7}},
        {"type": "DATASOURCES:CREATE"}, {"type": "ADMIN"}, {"type": "TOKENS"}, "admin",
    ]);
    let token = forge(&header, &claims(scopes), secret.as_bytes());
    let caller = world.who(&token).unwrap();
    // The token gets the event scopes that the signer covers: `DATASOURCES:CREATE` includes appending to any stream.
    assert_eq!(scope::join(&caller.scopes), "ingest:visits read:visits ingest:*");
    assert_eq!((&*caller.name, caller.rps), ("user 7", Some(3)));
    let by_kid = json!({"alg": "HS256", "kid": "whatever the client calls it"});
    assert!(world.who(&forge(&by_kid, &claims(json!([])), secret.as_bytes())).is_ok());
    // A signing token is itself a token.
    assert!(world.who(&secret).unwrap().may(Need::Create));

    let as_client = json!({"workspace_id": INSTANCE, "exp": START / SECOND + 60, "client_id": "x"});
    assert!(world.who(&forge(&header, &as_client, secret.as_bytes())).unwrap().scopes.is_empty());
    let foreign = json!({"workspace_id": "x", "exp": START / SECOND + 60, "scopes": ["ingest:a"]});
    assert_eq!(world.who(&forge(&header, &foreign, secret.as_bytes())), Err(AuthError::Unknown));
    let plain = world.make(TokenKind::Token, &request("plain", "admin"));
    assert_eq!(world.who(&forge(&header, &claims(json!([])), plain.as_bytes())), Err(AuthError::Unknown));
    world.auth.revoke_token(&admin(), "signer").unwrap();
    assert_eq!(world.who(&token), Err(AuthError::Unknown));
}

#[test]
fn a_client_gets_short_lived_tokens_with_its_roles() {
    let world = World::new();
    let roles = vec!["ManageConnections".to_owned(), "AccessMetrics".to_owned()];
    let new = ClientRequest { name: "collector".to_owned(), roles, project: Some("p".to_owned()) };
    let (client, secret) = world.auth.create_client(&admin(), &new).unwrap();
    assert_eq!(scope::join(&client.scopes), "create ingest:* metrics");
    for (id, given) in [(&*client.client_id, "wrong"), ("x", &*secret), ("", ""), (&client.client_id, "")] {
        assert!(matches!(world.auth.client_token(id, given), Err(ClientError::Unknown)), "{id} {given}");
    }
    let issued = world.auth.client_token(&client.client_id, &secret).unwrap();
    assert_eq!(issued.expires_in, Duration::from_mins(5));
    let caller = world.who(&issued.jwt).unwrap();
    assert!(caller.may(Need::Ingest("t")) && caller.may(Need::Metrics) && !caller.may(Need::Drop("t")));
    assert!(caller.allows_project("p") && !caller.allows_project("q"));
    world.later(300 * SECOND);
    assert_eq!(world.who(&issued.jwt), Err(AuthError::Expired { at: START + 300 * SECOND }));
    let issued = world.auth.client_token(&client.client_id, &secret).unwrap();
    assert!(world.who(&issued.jwt).is_ok());
    // Neither the id nor the secret of a client is a token.
    assert_eq!(world.who(&secret), Err(AuthError::Unknown));
    world.auth.delete_client(&admin(), "collector").unwrap();
    assert_eq!(world.who(&issued.jwt), Err(AuthError::Unknown));
    assert!(matches!(world.auth.client_token(&client.client_id, &secret), Err(ClientError::Unknown)));
}

#[test]
fn who_makes_tokens_cannot_make_themselves_an_administrator() {
    let world = World::new();
    let boss = world.make(TokenKind::Token, &request("boss", "admin"));
    let broker = world.make(TokenKind::Token, &request("broker", "tokens"));
    let sender = world.make(TokenKind::Token, &request("sender", "ingest:a"));
    let [boss, broker, sender] = [boss, broker, sender].map(|token| world.who(&token).unwrap());
    let make = |maker: &Caller, name: &str, scopes: &str| {
        world.auth.create_token(maker, TokenKind::Token, None, &request(name, scopes)).map(drop)
    };
    assert!(make(&broker, "x", "ingest:a create tokens").is_ok());
    assert!(matches!(make(&broker, "y", "ingest:a admin"), Err(ManageError::NotYours(Scope::Admin))));
    assert!(matches!(make(&sender, "z", "ingest:a"), Err(ManageError::NotYours(_))));
    let auth = &world.auth;
    assert!(matches!(auth.refresh_token(&broker, "boss"), Err(ManageError::NotYours(_))));
    assert!(matches!(auth.revoke_token(&broker, "boss"), Err(ManageError::NotYours(_))));
    let raised = request("x", "admin");
    assert!(matches!(auth.change_token(&broker, "x", &raised), Err(ManageError::NotYours(_))));
    let roles = ClientRequest { name: "c".to_owned(), roles: vec!["admin".to_owned()], project: None };
    assert!(matches!(auth.create_client(&broker, &roles), Err(ManageError::NotYours(_))));
    // Administrators cannot lock themselves out.
    assert!(matches!(auth.revoke_token(&boss, "boss"), Err(ManageError::LastAdmin)));
    assert!(matches!(
        auth.change_token(&boss, "boss", &request("boss", "create")),
        Err(ManageError::LastAdmin)
    ));
    assert!(make(&boss, "deputy", "admin").is_ok());
    assert!(auth.revoke_token(&boss, "boss").is_ok());
}

#[test]
fn what_is_wrong_about_a_token_is_said() {
    let world = World::new();
    world.make(TokenKind::Token, &request("taken", "admin"));
    let long = |text: &str| text.repeat(200);
    let base = || request("n", "ingest:a");
    for (wrong, says) in [
        (request("", "admin"), "the name of a token"),
        (request(" x", "admin"), "the name of a token"),
        (request("a\nb", "admin"), "the name of a token"),
        (request(&long("x"), "admin"), "the name of a token"),
        (request("taken", "admin"), "token named \"taken\" already exists"),
        (request("n", ""), "needs a scope"),
        (TokenRequest { description: long("123456"), ..base() }, "at most 1000"),
        (TokenRequest { scopes: vec![Scope::Create; 257], ..base() }, "at most 256"),
        (TokenRequest { origins: Some(vec![]), ..base() }, "list of origins is empty"),
        (
            TokenRequest { origins: Some(vec!["a.com".to_owned()]), ..base() },
            "\"a.com\" is not a valid origin",
        ),
        (TokenRequest { rps: Some(0), ..base() }, "at least 1 request"),
        (TokenRequest { expires_at: Some(START), ..base() }, "is in the past"),
        (TokenRequest { project: Some(String::new()), ..base() }, "the name of a project"),
    ] {
        let refused = world.auth.create_token(&admin(), TokenKind::Token, None, &wrong);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(says), "{says:?} is not in {message:?}");
    }
    for (wrong, says) in [
        (base(), "needs an expiry time"),
        (
            TokenRequest { expires_at: Some(START + 1), ..request("n", "tokens") },
            "cannot have the scope tokens",
        ),
        (
            TokenRequest { expires_at: Some(START + 1), ..request("n", "admin") },
            "cannot have the scope admin",
        ),
    ] {
        let message = world.auth.issue_token(&admin(), ScopeClaim::own, &wrong).unwrap_err().to_string();
        assert!(message.contains(says), "{says:?} is not in {message:?}");
    }
    for n in 0..8 {
        world.make(TokenKind::Signing, &request(&format!("s{n}"), "ingest:a"));
    }
    let ninth = world.auth.create_token(&admin(), TokenKind::Signing, None, &base());
    assert!(ninth.unwrap_err().to_string().contains("8 signing tokens"));
}

#[test]
fn a_start_makes_an_administrators_token_where_there_is_none_that_is_good() {
    let world = World::new();
    world.make(TokenKind::Token, &request("sender", "ingest:*"));
    let token = world.auth.first_token().unwrap().unwrap();
    assert!(world.who(&token).unwrap().may(Need::Admin));
    assert_eq!(world.auth.first_token().unwrap(), None);
    let ending = TokenRequest { expires_at: Some(START + SECOND), ..request("admin", "admin") };
    world.auth.change_token(&admin(), "sender", &request("sender", "ingest:* admin")).unwrap();
    world.auth.change_token(&admin(), "admin", &ending).unwrap();
    world.auth.change_token(&admin(), "sender", &request("sender", "ingest:*")).unwrap();
    assert_eq!(world.auth.first_token().unwrap(), None);
    world.later(SECOND);
    let second = world.auth.first_token().unwrap().unwrap();
    assert!(world.who(&second).is_ok() && world.who(&token).is_err());
}

#[test]
fn keys_that_are_good_are_not_too_many() {
    let world = World::new();
    for _ in 0..64 {
        world.auth.rotate_key(None).unwrap();
    }
    let refused = world.auth.rotate_key(None).unwrap_err().to_string();
    assert!(refused.contains("64 signing keys are still valid"), "{refused}");
    world.auth.rotate_key(Some(Duration::ZERO)).unwrap();
    assert_eq!(world.auth.keys().len(), 1);
    world.auth.rotate_key(None).unwrap();
}

#[test]
fn secrets_of_clients_are_rotated_and_tokens_end_with_theirs() {
    const DAY: Micros = 86_400 * SECOND;
    let world = World::new();
    let roles = vec!["streaming-ingest-api:write".to_owned()];
    let new = ClientRequest { name: "k".to_owned(), roles, project: Some("acme".to_owned()) };
    let (client, secret) = world.auth.create_client(&admin(), &new).unwrap();
    let id = &*client.client_id;
    let issue =
        |days: Micros| world.auth.make_client_token(&admin(), "k", world.clock.now() + days * DAY).unwrap().1;
    let first = issue(90);
    let caller = world.who(&first).unwrap();
    assert!(caller.may(Need::Ingest("is-x")) && caller.project.as_deref() == Some("acme"));
    // After a rotation, the old secret stays valid for 30 days.
    let (rotated, second_secret) = world.auth.rotate_client_secret(&admin(), "k", None).unwrap();
    assert_eq!(rotated.secrets[1].retires_at, Some(START + 30 * DAY));
    let second = issue(90);
    assert!(world.auth.client_token(id, &secret).is_ok());
    world.later(30 * DAY - SECOND);
    assert!(world.who(&first).is_ok() && world.who(&second).is_ok());
    world.later(SECOND);
    assert_eq!(world.who(&first), Err(AuthError::Expired { at: START + 30 * DAY }));
    assert!(matches!(world.auth.client_token(id, &secret), Err(ClientError::Unknown)));
    assert!(world.who(&second).is_ok() && world.auth.client_token(id, &second_secret).is_ok());
    // A second rotation drops the secret before it, and a restart does not bring it back.
    world.auth.rotate_client_secret(&admin(), "k", None).unwrap();
    let third = issue(1);
    world.auth.rotate_client_secret(&admin(), "k", None).unwrap();
    let again = open(world.dir.path(), &world.clock);
    for auth in [&world.auth, &again] {
        let who = |token: &str| auth.identify(&Credential::Bearer(token.to_owned().into()));
        assert_eq!(who(&second), Err(AuthError::Unknown));
        assert!(who(&third).is_ok());
    }
    let fourth = issue(1);
    assert_eq!(world.auth.client_tokens(&admin(), "k").unwrap().len(), 2);
    world.auth.revoke_client_secrets(&admin(), "k", false).unwrap();
    assert_eq!(world.who(&third), Err(AuthError::Unknown));
    assert!(world.who(&fourth).is_ok());
    world.auth.revoke_client_secrets(&admin(), "k", true).unwrap();
    assert_eq!(world.who(&fourth), Err(AuthError::Unknown));
    let refused = world.auth.make_client_token(&admin(), "k", world.clock.now() + DAY).unwrap_err();
    assert!(refused.to_string().contains("rotate its secret first"), "{refused}");
    world.auth.rotate_client_secret(&admin(), "k", None).unwrap();
    // The expiry time is exact to the second.
    let fifth = issue(1);
    world.later(DAY - 1);
    assert!(world.who(&fifth).is_ok());
    world.later(1);
    assert!(matches!(world.who(&fifth), Err(AuthError::Expired { .. })));
    // A caller bound to one project does not see the clients of another.
    let other = ClientRequest {
        name: "o".to_owned(),
        roles: vec!["tokens".to_owned()],
        project: Some("b".to_owned()),
    };
    world.auth.create_client(&admin(), &other).unwrap();
    let issuer =
        world.who(&world.auth.make_client_token(&admin(), "o", world.clock.now() + DAY).unwrap().1).unwrap();
    let refused = world.auth.make_client_token(&issuer, "k", world.clock.now() + DAY).unwrap_err();
    assert!(matches!(refused, ManageError::Missing { .. }), "{refused}");
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_shown_as_a_credential_breaks_anything(
        text in "\\PC{0,80}",
        head in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
        claims in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
    ) {
        thread_local! {
            static WORLD: World = {
                let world = World::new();
                world.make(TokenKind::Signing, &request("s", "ingest:*"));
                world.auth.rotate_key(None).unwrap();
                world
            };
        }
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode([b"{\"alg\":\"HS256\"", bytes].concat());
        for value in [
            text.clone(),
            format!("Bearer {text}"),
            format!("Basic {text}"),
            format!("Bearer eyJ{text}"),
            format!("Bearer {}.{}.{text}", part(&head), part(&claims)),
            format!("Bearer {}.{}.{text}", part(b"}"), part(&claims)),
            format!("Basic {}", URL_SAFE_NO_PAD.encode(&head)),
        ] {
            let known = WORLD.with(|world| world.auth.identify(&Credential::of_header(Some(&value))).is_ok());
            proptest::prop_assert!(!known, "{value}");
        }
    }
}
