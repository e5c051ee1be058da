//! `/admin/v1/keys`: the keys that the daemon signs tokens with.

use super::problem::{created, ok, timestamp};
use super::tokens::nothing;
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::auth::KeyInfo;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRotation {
    /// Seconds for which previous keys stay valid. Default: `auth.jwt_grace`.
    grace: Option<u64>,
}

impl RunningDaemon {
    pub(super) fn keys(&self) -> Response<Full<Bytes>> {
        let keys: Vec<Value> = self.auth.keys().iter().map(shown).collect();
        ok(&json!({"keys": keys}))
    }

    pub(super) async fn rotate_key(&self, request: &AdminRequest<'_>) -> AdminResult {
        let KeyRotation { grace } = request.json()?;
        let key = self.managed(move |auth| auth.rotate_key(grace.map(Duration::from_secs))).await?;
        Ok(created(&shown(&key)))
    }

    pub(super) async fn delete_key(&self, request: &AdminRequest<'_>) -> AdminResult {
        let kid = request.id().to_owned();
        self.managed(move |auth| auth.delete_key(&kid)).await?;
        Ok(nothing())
    }
}

fn shown(key: &KeyInfo) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm,
        "signs": key.retires_at.is_none(),
        "created_at": timestamp(key.created_at),
        "retires_at": key.retires_at.map(timestamp),
    })
}
