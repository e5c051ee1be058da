//! Subscribers: registered readers of a stream. The daemon stores their positions.

use super::errors::{error, wrong};
use super::fields::BodyFields;
use super::read::{self, BYTES_MAX, Readable};
use super::request::FoundryRequest;
use super::{no_content, ok, text};
use crate::auth::Need;
use crate::catalog::ObjectError;
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::collection::Document;
use crate::read::{PositionError, Positions, Range, ReadPosition, Record, Subscriber};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

const ID_CHARS_MAX: usize = 256;
const LIMIT_DEFAULT: u64 = 100;
const LIMIT_MAX: u64 = 1000;
/// Attempts of a change that conflicts with others.
const ATTEMPTS: usize = 16;

/// Returns whether a subscriber belongs to this stream.
fn is_of(subscriber: &Subscriber, request: &FoundryRequest<'_>, readable: &Readable) -> bool {
    *subscriber.dataset == *request.dataset && subscriber.branch == readable.branch
}

fn missing(request: &FoundryRequest<'_>) -> Reject {
    let parameters = [("subscriberId", json!(request.third))];
    error(
        RejectKind::NotFound,
        "SubscriberNotFound",
        "The subscriber was not found on this stream.",
        parameters,
    )
}

/// Loads the subscriber that the path names, if it belongs to this stream.
fn load(request: &FoundryRequest<'_>, readable: &Readable) -> Result<Document<Subscriber>, Reject> {
    let found = request.foundry.subscribers.get("", &request.third)?;
    found.filter(|found| is_of(&found.value, request, readable)).ok_or_else(|| missing(request))
}

/// Changes the current version of a subscriber. Retries if another change comes first.
fn change(
    request: &FoundryRequest<'_>,
    readable: &Readable,
    change: impl Fn(&mut Subscriber) -> Result<(), PositionError>,
) -> Result<Subscriber, Reject> {
    for _ in 0..ATTEMPTS {
        let Document { mut value, version, .. } = load(request, readable)?;
        change(&mut value).map_err(|error| wrong(format!("{error}.")))?;
        match request.foundry.subscribers.replace("", &request.third, Some(version), &value) {
            Ok(_) => return Ok(value),
            Err(ObjectError::Stale(_)) => {}
            Err(ObjectError::Missing) => return Err(missing(request)),
            Err(error) => return Err(Reject::internal(&error)),
        }
    }
    Err(Reject::new(RejectKind::Conflict, "The subscriber is being changed by other requests; try again."))
}

pub(super) fn create(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let body = BodyFields::from_call(request.call, false)?;
    let id = body.required("subscriberId")?;
    if id.is_empty() || id.chars().count() > ID_CHARS_MAX || id.chars().any(char::is_control) {
        return Err(wrong(format!(
            "\"subscriberId\" must have 1 to {ID_CHARS_MAX} characters, none of them a control character."
        )));
    }
    let readable = Readable::find(request, None)?;
    request.require(Need::Ingest(&readable.handle))?;
    let position = body.get("readPosition").map_or(Ok(ReadPosition::default()), read_position)?;
    let ends = readable.ends(request.control())?;
    let subscriber = Subscriber::new(&request.dataset, &readable.branch, &readable.view, position, &ends);
    let subscriber = subscriber.map_err(|error| wrong(format!("{error}.")))?;
    match request.foundry.subscribers.create("", id, &subscriber) {
        Ok(made) => Ok(ok(&shown(&made))),
        Err(ObjectError::Exists) => existing(request, &readable, id),
        Err(error) => Err(Reject::internal(&error)),
    }
}

/// Registering again returns the existing subscriber. An id that belongs to another stream's subscriber is refused.
fn existing(request: &FoundryRequest<'_>, readable: &Readable, id: &str) -> Result<Reply, Reject> {
    let found = request.foundry.subscribers.get("", id)?;
    if let Some(known) = found.as_ref().filter(|found| is_of(&found.value, request, readable)) {
        return Ok(ok(&shown(known)));
    }
    // It may have been deleted in the meantime.
    let (dataset, branch) = found.map(|found| (found.value.dataset, found.value.branch)).unwrap_or_default();
    let parameters = [
        ("subscriberId", json!(id)),
        ("existingDatasetRid", json!(dataset)),
        ("existingBranchName", json!(branch)),
    ];
    let message = "The subscriber id is already in use on another stream.";
    Err(error(RejectKind::Conflict, "SubscriberAlreadyExists", message, parameters))
}

fn shown(document: &Document<Subscriber>) -> Value {
    let subscriber = &document.value;
    json!({
        "subscriberId": document.name,
        "datasetRid": subscriber.dataset,
        "branchName": subscriber.branch,
        "viewRid": subscriber.view,
        "startOffsets": by_name(&subscriber.start),
        "createdTime": time(document.created_at),
        "readPosition": match &subscriber.read_position {
            ReadPosition::Specific { offsets } => json!({"type": "specific", "offsets": by_name(offsets)}),
            position => json!(position),
        },
    })
}

/// The contract's clients store milliseconds.
fn time(at: i64) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

fn by_name(positions: &Positions) -> Value {
    let named = positions.iter().map(|(partition, offset)| (partition.to_string(), json!(offset)));
    Value::Object(named.collect::<Map<_, _>>())
}

fn read_position(value: &Value) -> Result<ReadPosition, Reject> {
    match value.get("type").and_then(Value::as_str) {
        Some("earliest") => Ok(ReadPosition::Earliest),
        Some("latest") => Ok(ReadPosition::Latest),
        Some("specific") => Ok(ReadPosition::Specific { offsets: offsets(value.get("offsets"))? }),
        _ => Err(wrong("A position needs a \"type\": earliest, latest, or specific with \"offsets\".")),
    }
}

/// `{"0": 5}`. Offsets may be strings.
fn offsets(value: Option<&Value>) -> Result<Positions, Reject> {
    let refused =
        || wrong("\"offsets\" must be an object that maps partition numbers to offsets, both 0 or more.");
    let object = value.and_then(Value::as_object).ok_or_else(refused)?;
    let entry = |(partition, offset): (&String, &Value)| {
        let offset = offset.as_u64().or_else(|| offset.as_str()?.parse().ok())?;
        let stored = i64::try_from(offset).is_ok_and(|offset| offset < i64::MAX);
        Some((partition.parse().ok()?, offset)).filter(|_| stored)
    };
    object.iter().map(entry).collect::<Option<Positions>>().ok_or_else(refused)
}

pub(super) fn delete(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let readable = Readable::find(request, None)?;
    request.require(Need::Ingest(&readable.handle))?;
    load(request, &readable)?;
    if request.foundry.subscribers.delete("", &request.third)? {
        Ok(no_content())
    } else {
        Err(missing(request))
    }
}

pub(super) fn read_records(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let body = BodyFields::from_call(request.call, true)?;
    let readable = Readable::find(request, body.text("viewRid")?)?;
    request.require(Need::Read(&readable.handle))?;
    let subscriber = load(request, &readable)?.value;
    let ends = readable.ends(request.control())?;
    let positions = subscriber.position(&readable.view, ends.len());
    let wanted = partitions(&body, ends.len())?;
    let limit = match body.get("limit").map(Value::as_u64) {
        None => LIMIT_DEFAULT,
        Some(Some(limit @ 1..)) => limit.min(LIMIT_MAX),
        Some(_) => return Err(wrong("\"limit\" must be an integer of 1 or more.")),
    };
    let commits = match body.get("autoCommit") {
        None => false,
        Some(Value::Bool(commits)) => *commits,
        Some(_) => return Err(wrong("\"autoCommit\" must be true or false.")),
    };
    let wanted = positions.into_iter().filter(|(partition, _)| wanted.contains(partition)).collect();
    let records = gather(&readable, request, wanted, usize::try_from(limit).unwrap_or(usize::MAX))?;
    if commits && !records.is_empty() {
        let last = |(partition, records): (&u32, &Vec<Record>)| Some((*partition, records.last()?.offset));
        let last: Positions = records.iter().filter_map(last).collect();
        change(request, &readable, |subscriber| subscriber.commit(&readable.view, &last, &ends))?;
    }
    let of_each: Vec<String> = records
        .iter()
        .map(|(partition, records)| format!("\"{partition}\":{}", read::list(records)))
        .collect();
    Ok(text(format!("{{\"recordsByPartition\":{{{}}}}}", of_each.join(","))))
}

/// The requested partitions: strings, as the contract's clients send them, or numbers.
fn partitions(body: &BodyFields, of: usize) -> Result<Vec<u32>, Reject> {
    let all = || (0..u32::try_from(of).unwrap_or(u32::MAX)).collect();
    let Some(value) = body.get("partitionIds") else { return Ok(all()) };
    let refused = || wrong("\"partitionIds\" must be a list of partitions.");
    let one = |value: &Value| {
        let text = value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
        text.parse::<u32>().map_err(|_| refused())
    };
    let wanted = value.as_array().ok_or_else(refused)?.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    for partition in &wanted {
        read::check_partition(*partition, of)?;
    }
    Ok(if wanted.is_empty() { all() } else { wanted })
}

/// Reads records of several partitions: a share of each, then more from the partitions that have more.
fn gather(
    readable: &Readable,
    request: &FoundryRequest<'_>,
    mut next: Positions,
    limit: usize,
) -> Result<BTreeMap<u32, Vec<Record>>, Reject> {
    let mut records: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    let (mut left, mut bytes_left) = (limit, BYTES_MAX);
    while left > 0 && bytes_left > 0 && !next.is_empty() {
        let share = left.div_ceil(next.len());
        for (partition, from) in std::mem::take(&mut next) {
            let range = Range { partition, from, limit: share.min(left), bytes_max: bytes_left };
            if range.limit == 0 || range.bytes_max == 0 {
                break;
            }
            let read = readable.read(request.control(), range)?;
            left = left.saturating_sub(read.len());
            let bytes = read.iter().map(|record| record.value.len()).sum();
            bytes_left = bytes_left.saturating_sub(bytes);
            if let Some(last) = read.last() {
                next.insert(partition, last.offset.saturating_add(1));
                records.entry(partition).or_default().extend(read);
            }
        }
    }
    Ok(records)
}

pub(super) fn commit(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let body = BodyFields::from_call(request.call, false)?;
    let readable = Readable::find(request, body.text("viewRid")?)?;
    request.require(Need::Ingest(&readable.handle))?;
    let last = offsets(body.get("offsets"))?;
    let ends = readable.ends(request.control())?;
    let now = change(request, &readable, |subscriber| subscriber.commit(&readable.view, &last, &ends))?;
    Ok(ok(&by_name(&now.position(&readable.view, ends.len()))))
}

pub(super) fn position(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let readable = Readable::find(request, read::asked_view(request).as_deref())?;
    if !request.call.caller.may(Need::Ingest(&readable.handle)) {
        request.require(Need::Read(&readable.handle))?;
    }
    let subscriber = load(request, &readable)?.value;
    let partitions = readable.ends(request.control())?.len();
    Ok(ok(&by_name(&subscriber.position(&readable.view, partitions))))
}

pub(super) fn reset(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let body = BodyFields::from_call(request.call, false)?;
    let readable = Readable::find(request, body.text("viewRid")?)?;
    request.require(Need::Ingest(&readable.handle))?;
    let to = body.get("position").ok_or_else(|| wrong("\"position\" is missing."))?;
    let to = read_position(to)?;
    let ends = readable.ends(request.control())?;
    let now = change(request, &readable, |subscriber| subscriber.reset(&readable.view, &to, &ends))?;
    Ok(ok(&by_name(&now.position(&readable.view, ends.len()))))
}
