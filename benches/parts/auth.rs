//! The cost of authenticating a request, with 10,000 tokens in the catalog.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::Criterion;
use forebay::auth::words::Vocabulary;
use forebay::auth::{
    Auth, AuthConfig, Caller, Credential, Need, Scope, ScopeClaim, ScopeTarget, TokenKind, TokenRequest,
};
use forebay::catalog::Catalog;
use forebay::clock;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const TOKENS: usize = 10_000;

fn request(name: String) -> TokenRequest {
    TokenRequest {
        description: String::new(),
        scopes: vec![Scope::Ingest(ScopeTarget::Stream(name.as_str().into()))],
        name,
        origins: None,
        rps: None,
        project: None,
        expires_at: None,
    }
}

pub fn identify(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock::system();
    let catalog = Arc::new(Catalog::open(dir.path(), Arc::clone(&clock)).unwrap());
    let config = AuthConfig {
        instance: "bench".to_owned(),
        open: false,
        jwt_grace: Duration::from_hours(1),
        client_secret_grace: Duration::ZERO,
        client_token_lifetime: Duration::from_mins(5),
    };
    let auth = Auth::open(config, Vocabulary::default(), catalog, Arc::clone(&clock)).unwrap();
    let admin = Caller::everybody();
    let make = |kind, name: String| auth.create_token(&admin, kind, None, &request(name)).unwrap().1;
    let tokens: Vec<String> = (0..TOKENS).map(|n| make(TokenKind::Token, format!("s{n}"))).collect();
    let soon = clock.now() + 3_600_000_000;
    let signed = TokenRequest { expires_at: Some(soon), ..request("s1".to_owned()) };
    let signed = auth.issue_token(&admin, ScopeClaim::own, &signed).unwrap();
    let secret = make(TokenKind::Signing, "signing".to_owned());
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"workspace_id": "bench", "name": "n", "exp": soon / 1_000_000,
                        "scopes": [{"type": "DATASOURCES:APPEND", "resource": "signing"}]});
    let message = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let own = format!("{message}.{}", crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap());

    let mut group = criterion.benchmark_group("identify");
    let mut next = 0;
    group.bench_function("opaque token of 10,000, and its scope", |bencher| {
        bencher.iter(|| {
            next = (next + 7919) % TOKENS;
            let caller = auth.identify(&Credential::Bearer(black_box(&tokens[next]).into())).unwrap();
            black_box(caller.may(Need::Ingest("s1")))
        });
    });
    group.bench_function("unknown token", |bencher| {
        bencher.iter(|| auth.identify(&Credential::Bearer(black_box("fb_unknown").into())).is_err());
    });
    group.bench_function("token signed by the daemon", |bencher| {
        bencher
            .iter(|| auth.check(&Credential::Bearer(black_box(&signed).into()), Need::Ingest("s1")).unwrap());
    });
    group.bench_function("token signed by a client", |bencher| {
        bencher.iter(|| {
            auth.check(&Credential::Bearer(black_box(&own).into()), Need::Ingest("signing")).unwrap()
        });
    });
    group.finish();
}
