//! Subscribers: registered readers of a stream, whose positions are kept here.

use super::errors::{error, wrong};
use super::fields::Fields;
use super::manage::Request;
use super::read::{self, BYTES_MAX, Readable};
use super::{DIALECT, no_content, ok, text};
use crate::auth::Need;
use crate::contracts::Reply;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::shared::control::{
    Object, ObjectError, ObjectKey, PositionError, Positions, Range, ReadPosition, Record, Subscriber,
};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What documents of subscribers are in the catalog.
const SUBSCRIBER: &str = "subscriber";
const ID_CHARS_MAX: usize = 256;
const LIMIT_DEFAULT: u64 = 100;
const LIMIT_MAX: u64 = 1000;
/// Times that a change is tried which meets another one.
const ATTEMPTS: usize = 16;

fn key(id: &str) -> ObjectKey<'_> {
    ObjectKey { dialect: DIALECT, project: "", kind: SUBSCRIBER, name: id }
}

/// A call that is about one subscriber.
struct Call<'r, 'a> {
    request: &'r Request<'a>,
    id: &'r str,
}

impl Call<'_, '_> {
    fn missing(&self) -> Reject {
        let parameters = [("subscriberId", json!(self.id))];
        error(Kind::NotFound, "SubscriberNotFound", "There is no such subscriber of this stream.", parameters)
    }

    /// The subscriber, if it is one of this stream.
    fn load(&self, readable: &Readable) -> Result<(Object, Subscriber), Reject> {
        let found = self.request.control.catalog.object(key(self.id));
        let object = found.map_err(|error| Reject::internal(&error))?.ok_or_else(|| self.missing())?;
        let subscriber: Subscriber =
            serde_json::from_value(object.document.clone()).map_err(|error| Reject::internal(&error))?;
        let of_it = *subscriber.dataset == *self.request.dataset && subscriber.branch == readable.branch;
        if of_it { Ok((object, subscriber)) } else { Err(self.missing()) }
    }

    /// Changes it as it is now.
    fn change(
        &self,
        readable: &Readable,
        change: impl Fn(&mut Subscriber) -> Result<(), PositionError>,
    ) -> Result<Subscriber, Reject> {
        for _ in 0..ATTEMPTS {
            let (object, mut subscriber) = self.load(readable)?;
            change(&mut subscriber).map_err(|error| wrong(format!("{error}.")))?;
            let document = serde_json::to_value(&subscriber).map_err(|error| Reject::internal(&error))?;
            let catalog = &self.request.control.catalog;
            match catalog.replace_object(key(self.id), Some(object.version), &document) {
                Ok(_) => return Ok(subscriber),
                Err(ObjectError::Stale(_)) => {}
                Err(ObjectError::Missing) => return Err(self.missing()),
                Err(error) => return Err(Reject::internal(&error)),
            }
        }
        Err(Reject::new(Kind::Conflict, "The subscriber is being changed by others at the same time."))
    }
}

pub(super) fn create(request: &Request<'_>) -> Result<Reply, Reject> {
    let body = Fields::of(request.call, false)?;
    let id = body.required("subscriberId")?;
    if id.is_empty() || id.chars().count() > ID_CHARS_MAX || id.chars().any(char::is_control) {
        return Err(wrong(format!("\"subscriberId\" has 1 to {ID_CHARS_MAX} characters.")));
    }
    let call = Call { request, id };
    let readable = Readable::find(request, None)?;
    request.require(Need::Ingest(&readable.handle))?;
    let position = body.get("readPosition").map_or(Ok(ReadPosition::default()), read_position)?;
    let ends = readable.ends(request.control)?;
    let subscriber = Subscriber::new(&request.dataset, &readable.branch, &readable.view, position, &ends);
    let subscriber = subscriber.map_err(|error| wrong(format!("{error}.")))?;
    let document = serde_json::to_value(&subscriber).map_err(|error| Reject::internal(&error))?;
    match request.control.catalog.create_object(key(id), &document) {
        Ok(object) => Ok(ok(&shown(&object, &subscriber))),
        Err(ObjectError::Exists) => existing(&call, &readable),
        Err(error) => Err(Reject::internal(&error)),
    }
}

/// Who registers again is told of the first time; who takes the name of another stream's subscriber is refused.
fn existing(call: &Call<'_, '_>, readable: &Readable) -> Result<Reply, Reject> {
    if let Ok((object, subscriber)) = call.load(readable) {
        return Ok(ok(&shown(&object, &subscriber)));
    }
    let found =
        call.request.control.catalog.object(key(call.id)).map_err(|error| Reject::internal(&error))?;
    let known: Option<Subscriber> = found.and_then(|object| serde_json::from_value(object.document).ok());
    let (dataset, branch) = known.map(|known| (known.dataset, known.branch)).unwrap_or_default();
    let parameters = [
        ("subscriberId", json!(call.id)),
        ("existingDatasetRid", json!(dataset)),
        ("existingBranchName", json!(branch)),
    ];
    let message = "There is a subscriber of that id for another stream.";
    Err(error(Kind::Conflict, "SubscriberAlreadyExists", message, parameters))
}

fn shown(object: &Object, subscriber: &Subscriber) -> Value {
    json!({
        "subscriberId": object.name,
        "datasetRid": subscriber.dataset,
        "branchName": subscriber.branch,
        "viewRid": subscriber.view,
        "startOffsets": by_name(&subscriber.start),
        "createdTime": time(object.created_at),
        "readPosition": match &subscriber.read_position {
            ReadPosition::Specific { offsets } => json!({"type": "specific", "offsets": by_name(offsets)}),
            position => json!(position),
        },
    })
}

/// Milliseconds are what the contract's clients keep.
fn time(at: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
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
        _ => Err(wrong("A position has a \"type\": earliest, latest, or specific with \"offsets\".")),
    }
}

/// `{"0": 5}`; numbers may be text.
fn offsets(value: Option<&Value>) -> Result<Positions, Reject> {
    let refused =
        || wrong("\"offsets\" is an object: partitions from 0 on, and an offset from 0 on for each.");
    let object = value.and_then(Value::as_object).ok_or_else(refused)?;
    let entry = |(partition, offset): (&String, &Value)| {
        let offset = offset.as_u64().or_else(|| offset.as_str()?.parse().ok())?;
        let stored = i64::try_from(offset).is_ok_and(|offset| offset < i64::MAX);
        Some((partition.parse().ok()?, offset)).filter(|_| stored)
    };
    object.iter().map(entry).collect::<Option<Positions>>().ok_or_else(refused)
}

pub(super) fn delete(request: &Request<'_>, id: &str) -> Result<Reply, Reject> {
    let call = Call { request, id };
    let readable = Readable::find(request, None)?;
    request.require(Need::Ingest(&readable.handle))?;
    call.load(&readable)?;
    match request.control.catalog.delete_object(key(id)) {
        Ok(true) => Ok(no_content()),
        Ok(false) => Err(call.missing()),
        Err(error) => Err(Reject::internal(&error)),
    }
}

pub(super) fn read_records(request: &Request<'_>, id: &str) -> Result<Reply, Reject> {
    let call = Call { request, id };
    let body = Fields::of(request.call, true)?;
    let readable = Readable::find(request, body.text("viewRid")?)?;
    request.require(Need::Read(&readable.handle))?;
    let (_, subscriber) = call.load(&readable)?;
    let ends = readable.ends(request.control)?;
    let positions = subscriber.position(&readable.view, ends.len());
    let wanted = partitions(&body, ends.len())?;
    let limit = match body.get("limit").map(Value::as_u64) {
        None => LIMIT_DEFAULT,
        Some(Some(limit @ 1..)) => limit.min(LIMIT_MAX),
        Some(_) => return Err(wrong("\"limit\" is a number from 1 on.")),
    };
    let commits = match body.get("autoCommit") {
        None => false,
        Some(Value::Bool(commits)) => *commits,
        Some(_) => return Err(wrong("\"autoCommit\" is true or false.")),
    };
    let wanted = positions.into_iter().filter(|(partition, _)| wanted.contains(partition)).collect();
    let records = gather(&readable, request, wanted, usize::try_from(limit).unwrap_or(usize::MAX))?;
    if commits && !records.is_empty() {
        let last = |(partition, records): (&u32, &Vec<Record>)| Some((*partition, records.last()?.offset));
        let last: Positions = records.iter().filter_map(last).collect();
        call.change(&readable, |subscriber| subscriber.commit(&readable.view, &last, &ends))?;
    }
    let of_each: Vec<String> = records
        .iter()
        .map(|(partition, records)| format!("\"{partition}\":{}", read::list(records)))
        .collect();
    Ok(text(format!("{{\"recordsByPartition\":{{{}}}}}", of_each.join(","))))
}

/// The partitions that a reader wants: text, as the contract's clients have it, or numbers.
fn partitions(body: &Fields, of: usize) -> Result<Vec<u32>, Reject> {
    let all = || (0..u32::try_from(of).unwrap_or(u32::MAX)).collect();
    let Some(value) = body.get("partitionIds") else { return Ok(all()) };
    let refused = || wrong("\"partitionIds\" is a list of partitions.");
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

/// Records of several partitions: of each its share, and more of those that have more.
fn gather(
    readable: &Readable,
    request: &Request<'_>,
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
            let read = readable.read(request.control, range)?;
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

pub(super) fn commit(request: &Request<'_>, id: &str) -> Result<Reply, Reject> {
    let call = Call { request, id };
    let body = Fields::of(request.call, false)?;
    let readable = Readable::find(request, body.text("viewRid")?)?;
    request.require(Need::Ingest(&readable.handle))?;
    let last = offsets(body.get("offsets"))?;
    let ends = readable.ends(request.control)?;
    let now = call.change(&readable, |subscriber| subscriber.commit(&readable.view, &last, &ends))?;
    Ok(ok(&by_name(&now.position(&readable.view, ends.len()))))
}

pub(super) fn position(request: &Request<'_>, id: &str) -> Result<Reply, Reject> {
    let call = Call { request, id };
    let readable = Readable::find(request, read::asked_view(request).as_deref())?;
    if !request.call.caller.may(Need::Ingest(&readable.handle)) {
        request.require(Need::Read(&readable.handle))?;
    }
    let (_, subscriber) = call.load(&readable)?;
    let partitions = readable.ends(request.control)?.len();
    Ok(ok(&by_name(&subscriber.position(&readable.view, partitions))))
}

pub(super) fn reset(request: &Request<'_>, id: &str) -> Result<Reply, Reject> {
    let call = Call { request, id };
    let body = Fields::of(request.call, false)?;
    let readable = Readable::find(request, body.text("viewRid")?)?;
    request.require(Need::Ingest(&readable.handle))?;
    let to = body.get("position").ok_or_else(|| wrong("\"position\" is missing."))?;
    let to = read_position(to)?;
    let ends = readable.ends(request.control)?;
    let now = call.change(&readable, |subscriber| subscriber.reset(&readable.view, &to, &ends))?;
    Ok(ok(&by_name(&now.position(&readable.view, ends.len()))))
}
