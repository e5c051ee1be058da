//! Statistics of a sink's records by level: *local* is in the log, *staging* in finished files, *target* at the
//! destination.

use super::model::{Entity, EntityPlace};
use super::request::StreamRequest;
use super::shown::{put, time};
use crate::catalog::{FileState, RegisteredFile};
use crate::clock::Micros;
use crate::contracts::Reply;
use crate::contracts::keboola::reply::{empty, ok};
use crate::contracts::reject::Reject;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Limits of files that are read and of files that are shown.
const FILES_MAX: u32 = 100_000;
const FILES_SHOWN: usize = 30;
/// Publishing a file is retried within this time, in microseconds.
const RETRY_WITHIN: Micros = 60_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums {
    first_at: Micros,
    last_at: Micros,
    records: u64,
    compressed: u64,
    uncompressed: u64,
}

impl Sums {
    fn and(self, other: Self) -> Self {
        Self {
            first_at: self.first_at.min(other.first_at),
            last_at: self.last_at.max(other.last_at),
            records: self.records.saturating_add(other.records),
            compressed: self.compressed.saturating_add(other.compressed),
            uncompressed: self.uncompressed.saturating_add(other.uncompressed),
        }
    }

    fn shown(self) -> Value {
        json!({
            "firstRecordAt": time(Some(self.first_at)),
            "lastRecordAt": time(Some(self.last_at)),
            "recordsCount": self.records,
            "compressedSize": self.compressed,
            "uncompressedSize": self.uncompressed,
        })
    }
}

/// The levels, from the log to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Local,
    Staging,
    Target,
}

impl Level {
    const ALL: [Self; 3] = [Self::Local, Self::Staging, Self::Target];

    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Target => "target",
        }
    }
}

/// A file, or the records of the next one.
struct FileStatistics {
    level: Level,
    sums: Sums,
    /// `None`: the file is still open.
    file: Option<RegisteredFile>,
}

/// All parts of a sink since its statistics were cleared, oldest first.
fn parts(request: &StreamRequest<'_>, entity: &Entity) -> Result<Vec<FileStatistics>, Reject> {
    let (control, stream) = (request.control(), entity.stream);
    let since = entity.cleared_at.unwrap_or(0);
    let (cuts, files) = (control.cuts(stream, since)?, control.files(stream, FILES_MAX)?);
    let mut of_cut: HashMap<(u64, u64), Vec<RegisteredFile>> = HashMap::new();
    for file in files.into_iter().filter(|file| !file.state.is_gone()) {
        of_cut.entry((file.first_lsn.0, file.last_lsn.0)).or_default().push(file);
    }
    let mut parts = Vec::new();
    for cut in cuts.into_iter().filter(|cut| cut.first_at > since) {
        // The files of the oldest cuts are beyond the maximum.
        let files = of_cut.remove(&(cut.lsns.first.0, cut.lsns.last.0)).unwrap_or_default();
        let Some(file) = files.iter().find(|file| file.state == FileState::Staged).or(files.first()) else {
            continue;
        };
        let level = if file.state == FileState::Staged { Level::Staging } else { Level::Target };
        // Of the oldest cuts, the counts were not kept.
        let counts = cut.counts.unwrap_or_default();
        let sums = Sums {
            first_at: cut.first_at,
            last_at: cut.last_at,
            records: counts.stored,
            compressed: files.iter().map(|file| file.bytes).sum(),
            uncompressed: counts.source_bytes,
        };
        parts.push(FileStatistics { level, sums, file: Some(file.clone()) });
    }
    if let Some(open) = control.progress.open(stream).filter(|open| open.first_at > since) {
        let sums = Sums {
            first_at: open.first_at,
            last_at: open.last_at,
            records: open.rows,
            // The log stores records as received.
            compressed: open.bytes,
            uncompressed: open.bytes,
        };
        parts.push(FileStatistics { level: Level::Local, sums, file: None });
    }
    Ok(parts)
}

fn sum<'a>(parts: impl IntoIterator<Item = &'a FileStatistics>) -> Option<Sums> {
    parts.into_iter().map(|part| part.sums).reduce(Sums::and)
}

fn levels(parts: &[FileStatistics]) -> Value {
    let of = |level| sum(parts.iter().filter(|part| part.level == level));
    let levels =
        Level::ALL.into_iter().filter_map(|level| Some((level.name().to_owned(), of(level)?.shown())));
    Value::Object(levels.collect::<Map<_, _>>())
}

fn total_of(parts: &[FileStatistics]) -> Value {
    let nothing = json!({"recordsCount": 0, "compressedSize": 0, "uncompressedSize": 0});
    json!({"total": sum(parts).map_or(nothing, Sums::shown), "levels": levels(parts)})
}

fn file(request: &StreamRequest<'_>, part: &FileStatistics) -> Value {
    let one = std::slice::from_ref(part);
    let mut shown = json!({
        "state": "writing",
        "openedAt": time(Some(part.sums.first_at)),
        "statistics": {"total": part.sums.shown(), "levels": levels(one)},
    });
    let Some(file) = &part.file else { return shown };
    put(&mut shown, "state", "importing");
    put(&mut shown, "closingAt", time(Some(file.staged_at)));
    put(&mut shown, "importingAt", time(Some(file.staged_at)));
    if file.state == FileState::Published {
        put(&mut shown, "state", "imported");
        put(&mut shown, "importedAt", time(file.published_at));
    } else if let Some(reason) = &file.last_error {
        put(&mut shown, "retryAttempt", file.attempts);
        put(&mut shown, "retryReason", reason.as_str());
        let latest = request.control().clock.now().saturating_add(RETRY_WITHIN);
        put(&mut shown, "retryAfter", time(Some(latest)));
    }
    shown
}

/// Newest first.
fn files_of(request: &StreamRequest<'_>, parts: &[FileStatistics]) -> Vec<Value> {
    let only_failed = request.has_parameter("failedFiles", "true");
    let files = parts.iter().rev().map(|part| file(request, part));
    let files = files.filter(|file| !only_failed || file.get("retryReason").is_some());
    files.take(FILES_SHOWN).collect()
}

pub(super) fn total(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let entity = request.find(place)?;
    Ok(ok(&total_of(&parts(request, &entity)?)))
}

pub(super) fn files(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let entity = request.find(place)?;
    Ok(ok(&json!({"files": files_of(request, &parts(request, &entity)?)})))
}

/// The totals and the files, for the aggregation.
pub(super) fn all(request: &StreamRequest<'_>, entity: &Entity) -> Result<Value, Reject> {
    let parts = parts(request, entity)?;
    let mut all = total_of(&parts);
    put(&mut all, "files", files_of(request, &parts));
    Ok(all)
}

/// Restarts the counts of a sink, or of every sink of a source.
pub(super) fn clear(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    let (store, now) = (request.store(), request.control().clock.now());
    if place.is_sink() {
        entity.cleared_at = Some(now);
        store.save(place, &entity)?;
        return Ok(empty());
    }
    for mut sink in store.sinks(place)? {
        sink.entity.cleared_at = Some(now);
        store.save(&sink.place, &sink.entity)?;
    }
    Ok(empty())
}
