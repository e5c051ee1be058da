//! Recent data: the newest events of a stream, and sample events.

use super::token::of_tenant;
use super::{reply, tenant};
use crate::auth::Need;
use crate::catalog::Stream;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use crate::contracts::{Call, Reply};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The most events shown, and the most events searched.
const RECENT_MAX: usize = 50;
const LOOKED_AT_MAX: usize = 1000;
/// The most sample events shown.
const SAMPLES_MAX: usize = 10;

/// `GET /events/{id}/recent?state=&name=`: the newest first.
pub(super) fn recent(control: &Control, call: &Call<'_>, id: &str) -> Result<Reply, Reject> {
    let events = events(control, call, id, "name")?;
    let events: Vec<Value> = events.into_iter().take(RECENT_MAX).collect();
    Ok(reply::with_id(reply::ok(&json!({"stream": id, "events": events})), &call.head))
}

/// `GET /streams/{id}/sample-events?state=&type=`.
pub(super) fn samples(control: &Control, call: &Call<'_>, id: &str) -> Result<Reply, Reject> {
    let events = events(control, call, id, "type")?;
    let events: Vec<Value> = events.into_iter().take(SAMPLES_MAX).collect();
    Ok(reply::with_id(reply::ok(&json!({"stream": id, "sample_events": events})), &call.head))
}

/// The newest events of a stream, the newest first, filtered by the field `by` and by `state`: `accepted`, or
/// `rejected` for events that were quarantined.
fn events(control: &Control, call: &Call<'_>, id: &str, by: &str) -> Result<Vec<Value>, Reject> {
    let stream = find(control, call, id)?;
    let parameter = |name: &str| {
        let mut found = form_urlencoded::parse(call.head.query.as_bytes());
        found
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .filter(|text| !text.is_empty())
    };
    let wanted = parameter(by);
    let failed = |error: String| Reject::internal(&std::io::Error::other(error));
    match parameter("state").as_deref() {
        None | Some("accepted") => {
            let records = control.recent_records(stream, LOOKED_AT_MAX).map_err(failed)?;
            let is_wanted = |record: &Value| {
                wanted.as_deref().is_none_or(|wanted| record.get(by).and_then(Value::as_str) == Some(wanted))
            };
            Ok(records.into_iter().rev().filter(is_wanted).map(accepted).collect())
        }
        Some("rejected") => {
            let errors = control.recent_errors(stream, LOOKED_AT_MAX).map_err(failed)?;
            let excerpts = errors.into_iter().map(|error| {
                let at = jiff::Timestamp::from_microsecond(error.received_at).ok();
                let at = at.map(|at| at.to_string());
                (json!({"state": "rejected", "received_at": at, "reason": error.reason, "excerpt": error.excerpt}), error.excerpt)
            });
            // A rejected record may not be valid JSON, so its text is searched.
            let has = |text: &str| wanted.as_deref().is_none_or(|wanted| text.contains(wanted));
            Ok(excerpts.filter(|(_, text)| has(text)).map(|(shown, _)| shown).collect())
        }
        Some(other) => {
            Err(Reject::malformed(format!("'state' must be \"accepted\" or \"rejected\", not {other:?}")))
        }
    }
}

fn accepted(record: Value) -> Value {
    let Value::Object(mut event) = record else { return json!({"state": "accepted", "event": record}) };
    let at = event.remove("_received_at");
    for own in ["_lsn", "_record"] {
        event.remove(own);
    }
    let mut shown = Map::new();
    shown.insert("state".to_owned(), "accepted".into());
    shown.insert("received_at".to_owned(), at.unwrap_or(Value::Null));
    shown.insert("event".to_owned(), Value::Object(event));
    Value::Object(shown)
}

fn find(control: &Control, call: &Call<'_>, id: &str) -> Result<Arc<Stream>, Reject> {
    let tenant = tenant(&call.head)?;
    of_tenant(call, tenant)?;
    let streams = control.streams();
    let found =
        streams.named(id).filter(|stream| stream.settings.project.as_deref().is_none_or(|own| own == tenant));
    let Some(stream) = found else {
        return Err(Reject::new(RejectKind::NoSuchStream, format!("No stream {id}")));
    };
    call.caller.require(Need::Read(&stream.name))?;
    Ok(Arc::clone(stream))
}
