//! Replays: rebuilding files, and the state of the replacement while it runs.
//!
//! A cut (the files of a stream that hold exactly its frames from a first to a last LSN) is replaced as a whole. The
//! actions at the destination are recorded first, so that a restart can resume after a crash. The register and the
//! counts change in one transaction, after the actions that add rows to files and before those that remove rows.

use super::files::{Cut, FileKind, RegisteredFile, StagedFile, add_counts, file_kind, kind_of, register_cut};
use super::streams::{json_at, some_json_at};
use super::{Catalog, CatalogError, Counts, offsets};
use crate::batch::StreamId;
use crate::clock::Micros;
use crate::formats::json;
use crate::wal::{Lsn, LsnRange};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::{Value, json};

/// Files that are replaced together: see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRecord {
    pub lsns: LsnRange,
    /// Earliest and latest receive time of its frames; for cuts registered before these were stored, the time of
    /// registration.
    pub first_at: Micros,
    pub last_at: Micros,
    pub files: u64,
    pub rows: u64,
    /// Its share of the stream's counts; `None` if it was registered before these were stored.
    pub counts: Option<Counts>,
    /// The number of its first row; 0 if its rows have none.
    pub first_number: u64,
    /// Whether it holds frames of the stream's receiver that do not name the stream, instead of those that do.
    pub given: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayState {
    /// Queued behind others.
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl CutRecord {
    /// The user-visible form of a cut that is not replaced. `lost`: LSNs that are neither in the log nor in the
    /// archive.
    pub fn left_as_it_is(&self, lost: &[LsnRange], reason: &str) -> Value {
        json!({
            "first_lsn": self.lsns.first,
            "last_lsn": self.lsns.last,
            "from": time(self.first_at),
            "to": time(self.last_at),
            "files": self.files,
            "rows": self.rows,
            "lost": lost,
            "reason": reason,
        })
    }
}

fn time(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

impl ReplayState {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the replay has ended.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// A replay to queue.
#[derive(Debug, Clone)]
pub struct NewReplay {
    pub stream: StreamId,
    /// The requested range of receive times.
    pub from: Micros,
    pub to: Micros,
    pub partial: bool,
    /// What the files of that range hold.
    pub lsns: LsnRange,
    pub first_at: Micros,
    pub last_at: Micros,
    /// The cuts that can be rebuilt, and their contents.
    pub cuts: u64,
    pub files: u64,
    pub rows: u64,
    /// The cuts that cannot be rebuilt, for the requester.
    pub missing: Vec<Value>,
    /// The LSNs of the cuts that are not replaced.
    pub left_out: Vec<LsnRange>,
}

#[derive(Debug, Clone)]
pub struct Replay {
    pub id: i64,
    pub asked: NewReplay,
    pub state: ReplayState,
    /// Everything up to here is done.
    pub done_lsn: Lsn,
    pub cuts_done: u64,
    pub rows_done: u64,
    /// The counts of the finished cuts, before and after the replay.
    pub before: Counts,
    pub after: Counts,
    /// Why it failed or is stalled.
    pub error: Option<String>,
    pub created_at: Micros,
    pub started_at: Option<Micros>,
    pub ended_at: Option<Micros>,
}

/// The action at the destination for one object of a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub file: StagedFile,
    pub action: Action,
    /// Removes rows from a file, so it runs after the register has changed.
    pub after_swap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// No object of that name exists.
    Create,
    /// An object of this size exists.
    Replace {
        old_bytes: u64,
    },
    Remove,
}

/// A rebuilt cut.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Swap {
    pub stream: StreamId,
    pub lsns: LsnRange,
    pub counts: Counts,
    pub schema_version: u32,
}

const REPLAY: &str = "SELECT id, stream, from_at, to_at, partial, first_lsn, last_lsn, first_at, last_at, cuts, files, rows,
    missing, left_out, state, done_lsn, cuts_done, rows_done, counts_before, counts_after, error, created_at, started_at,
    ended_at FROM replays";
const CUT: &str =
    "SELECT c.first_lsn, c.last_lsn, c.first_at, c.last_at, c.counts, count(f.id), coalesce(sum(f.rows), 0),
        c.first_number, c.given
    FROM cuts c LEFT JOIN files f
    ON f.stream = c.stream AND f.last_lsn = c.last_lsn AND f.first_lsn = c.first_lsn";

impl Catalog {
    /// The cuts of a stream with frames received in `[from, to)`, in order.
    pub fn cuts_received(
        &self,
        stream: StreamId,
        from: Micros,
        to: Micros,
    ) -> Result<Vec<CutRecord>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "{CUT} WHERE c.stream = ?1 AND c.last_at >= ?2 AND c.first_at < ?3 GROUP BY c.first_lsn ORDER BY c.first_lsn"
            );
            db.prepare(&sql)?.query_map(params![stream.0, from, to], cut_of)?.collect()
        })
    }

    /// The LSN ranges of its receiver's frames that a stream was given, in order.
    pub fn given(&self, stream: StreamId) -> Result<Vec<LsnRange>, CatalogError> {
        self.read(|db| {
            let sql = "SELECT first_lsn, last_lsn FROM cuts WHERE stream = ?1 AND given ORDER BY first_lsn";
            let range = |row: &Row<'_>| {
                let number = |at: usize| row.get::<_, i64>(at).map(|lsn| Lsn(lsn.cast_unsigned()));
                Ok(LsnRange { first: number(0)?, last: number(1)? })
            };
            db.prepare(sql)?.query_map([stream.0], range)?.collect()
        })
    }

    /// Registers the files that a replay gave to a stream, in one synced transaction. Returns the files with their ids.
    pub fn register_given(&self, replay: i64, cut: &Cut) -> Result<Vec<RegisteredFile>, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let mut registered = Vec::new();
            register_cut(db, cut, now, &mut registered)?;
            let sql = "SELECT counts_after FROM replays WHERE id = ?1";
            let sum: Counts = db.query_row(sql, [replay], |row| json_at(row, 0))?;
            let sql = "UPDATE replays SET cuts = cuts + 1, cuts_done = cuts_done + 1, rows = rows + ?2,
                           rows_done = rows_done + ?2, files = files + ?3, counts_after = ?4, error = NULL
                       WHERE id = ?1";
            let rows = (cut.counts.stored + cut.counts.quarantined).cast_signed();
            let files = i64::try_from(cut.files.len()).unwrap_or(i64::MAX);
            let sum = json::text(&sum.plus(cut.counts));
            db.execute(sql, params![replay, rows, files, sum])?;
            Ok(registered)
        })
    }

    /// The first cut of a stream above `done` within `lsns`.
    pub fn next_cut(
        &self,
        stream: StreamId,
        lsns: LsnRange,
        done: Lsn,
    ) -> Result<Option<CutRecord>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "{CUT} WHERE c.stream = ?1 AND c.first_lsn > ?2 AND c.first_lsn >= ?3 AND c.last_lsn <= ?4
                 GROUP BY c.first_lsn ORDER BY c.first_lsn LIMIT 1"
            );
            let numbers = [done, lsns.first, lsns.last].map(|lsn| lsn.0.cast_signed());
            db.query_row(&sql, params![stream.0, numbers[0], numbers[1], numbers[2]], cut_of).optional()
        })
    }

    /// The files of a cut.
    pub fn cut_files(&self, stream: StreamId, lsns: LsnRange) -> Result<Vec<RegisteredFile>, CatalogError> {
        let (first, last) = (lsns.first.0.cast_signed(), lsns.last.0.cast_signed());
        self.files_where(
            "stream = ?1 AND last_lsn = ?3 AND first_lsn = ?2 ORDER BY id",
            &[&stream.0, &first, &last],
        )
    }

    /// Queues a replay.
    pub fn add_replay(&self, new: &NewReplay) -> Result<Replay, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "INSERT INTO replays (stream, from_at, to_at, partial, first_lsn, last_lsn, first_at, last_at, cuts,
                           files, rows, missing, left_out, state, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'waiting', ?14) RETURNING id";
            let [cuts, files, rows] = [new.cuts, new.files, new.rows].map(u64::cast_signed);
            let values = params![
                new.stream.0,
                new.from,
                new.to,
                new.partial,
                new.lsns.first.0.cast_signed(),
                new.lsns.last.0.cast_signed(),
                new.first_at,
                new.last_at,
                cuts,
                files,
                rows,
                json::text(&new.missing),
                json::text(&new.left_out),
                now
            ];
            let id: i64 = db.query_row(sql, values, |row| row.get(0))?;
            db.query_row(&format!("{REPLAY} WHERE id = ?1"), [id], replay_of)
        })
    }

    pub fn replay(&self, id: i64) -> Result<Option<Replay>, CatalogError> {
        self.read(|db| db.query_row(&format!("{REPLAY} WHERE id = ?1"), [id], replay_of).optional())
    }

    /// The latest replays, newest first.
    pub fn replays(&self, limit: u32) -> Result<Vec<Replay>, CatalogError> {
        self.read(|db| {
            let sql = format!("{REPLAY} ORDER BY id DESC LIMIT ?1");
            db.prepare(&sql)?.query_map([limit], replay_of)?.collect()
        })
    }

    /// The replay to continue, or else the next one to start.
    pub fn next_replay(&self) -> Result<Option<Replay>, CatalogError> {
        self.read(|db| {
            // Actions that were started at the destination are finished, even if the replay has been cancelled.
            let sql = format!(
                "{REPLAY} WHERE state IN ('running', 'waiting') OR id IN (SELECT replay FROM replacements)
                 ORDER BY id NOT IN (SELECT replay FROM replacements), state = 'waiting', id LIMIT 1"
            );
            db.query_row(&sql, [], replay_of).optional()
        })
    }

    /// Records that a replay starts or continues.
    pub fn begin_replay(&self, id: i64) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql =
                "UPDATE replays SET state = 'running', started_at = coalesce(started_at, ?2) WHERE id = ?1
                       AND state IN ('waiting', 'running')";
            db.execute(sql, params![id, now]).map(drop)
        })
    }

    /// Records why a replay is stalled; `None`: it is not.
    pub fn note_replay(&self, id: i64, error: Option<&str>) -> Result<(), CatalogError> {
        self.transaction(|db| {
            db.execute("UPDATE replays SET error = ?2 WHERE id = ?1", params![id, error]).map(drop)
        })
    }

    /// Ends a replay unless it has ended. Returns whether it was still open.
    pub fn end_replay(&self, id: i64, state: ReplayState, error: Option<&str>) -> Result<bool, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "UPDATE replays SET state = ?2, error = ?3, ended_at = ?4 WHERE id = ?1
                       AND state IN ('waiting', 'running')";
            Ok(db.execute(sql, params![id, state.name(), error, now])? > 0)
        })
    }

    /// Records that a replay continues after a cut that was known not to be replaceable.
    pub fn pass_over(&self, id: i64, cut: LsnRange) -> Result<(), CatalogError> {
        let last = cut.last.0.cast_signed();
        self.transaction(|db| {
            db.execute("UPDATE replays SET done_lsn = ?2 WHERE id = ?1", params![id, last]).map(drop)
        })
    }

    /// Records a cut that unexpectedly could not be rebuilt, and that the replay continues after it.
    pub fn leave_out(&self, id: i64, cut: LsnRange, missing: &Value) -> Result<(), CatalogError> {
        self.transaction(|db| {
            let sql = "UPDATE replays SET done_lsn = ?2, missing = json_insert(missing, '$[#]', json(?3)) WHERE id = ?1";
            db.execute(sql, params![id, cut.last.0.cast_signed(), missing.to_string()]).map(drop)
        })
    }

    /// Records the coming actions at the destination for one cut, in order, and the coming change of the register.
    pub fn plan_replacements(
        &self,
        replay: i64,
        swap: &Swap,
        plan: &[Replacement],
    ) -> Result<(), CatalogError> {
        self.transaction(|db| {
            db.execute("UPDATE replays SET swap = ?2 WHERE id = ?1", params![replay, json::text(swap)])?;
            for (position, replacement) in plan.iter().enumerate() {
                let sql = "INSERT INTO replacements (replay, position, object, kind, rows, bytes, action, old_bytes, after_swap, offsets, checksum)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
                let (action, old_bytes) = match replacement.action {
                    Action::Create => ("create", None),
                    Action::Replace { old_bytes } => ("replace", Some(old_bytes.cast_signed())),
                    Action::Remove => ("remove", None),
                };
                let file = &replacement.file;
                let (rows, bytes) = (file.rows.cast_signed(), file.bytes.cast_signed());
                let (kind, after) = (file_kind(file.kind), replacement.after_swap);
                let position = i64::try_from(position).unwrap_or(i64::MAX);
                let (object, offsets) = (&file.object, json::text(&file.offsets));
                let checksum = file.checksum.map(u64::cast_signed);
                db.execute(
                    sql,
                    params![
                        replay, position, object, kind, rows, bytes, action, old_bytes, after, offsets, checksum
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// The actions recorded by [`Catalog::plan_replacements`] that are not known to be finished.
    pub fn replacements(&self, replay: i64) -> Result<Vec<Replacement>, CatalogError> {
        self.read(|db| {
            let sql =
                "SELECT object, kind, rows, bytes, action, old_bytes, after_swap, offsets, checksum FROM replacements
                       WHERE replay = ?1 ORDER BY position";
            db.prepare(sql)?.query_map([replay], replacement_of)?.collect()
        })
    }

    /// Replaces the old files of the recorded cut with the new ones, and updates the counts of the stream and the
    /// progress of the replay, in one synced transaction. Does nothing if that has been done.
    pub fn swap(&self, replay: i64) -> Result<(), CatalogError> {
        let now = self.clock.now();
        let sql = "SELECT swap FROM replays WHERE id = ?1";
        let noted: Option<Swap> = self.read(|db| db.query_row(sql, [replay], |row| some_json_at(row, 0)))?;
        let Some(swap) = noted else { return Ok(()) };
        let old = self.cut_files(swap.stream, swap.lsns)?;
        let plan = self.replacements(replay)?;
        self.transaction(|db| {
            for file in old.iter().filter(|file| file.state.is_gone()) {
                let sql = "UPDATE streams SET expired = expired - ?2 WHERE id = ?1";
                db.execute(sql, params![swap.stream.0, file.rows.cast_signed()])?;
            }
            for replacement in &plan {
                swap_file(db, &swap, &replacement.file, replacement.action, now)?;
            }
            let before = counts_of_cut(db, &swap, &old)?;
            add_counts(db, swap.stream, before, swap.counts)?;
            let (first, last) = (swap.lsns.first.0.cast_signed(), swap.lsns.last.0.cast_signed());
            let sql = "UPDATE cuts SET counts = ?3 WHERE stream = ?1 AND first_lsn = ?2";
            db.execute(sql, params![swap.stream.0, first, json::text(&swap.counts)])?;
            let (sum_before, sum_after): (Counts, Counts) = db.query_row(
                "SELECT counts_before, counts_after FROM replays WHERE id = ?1",
                [replay],
                |row| Ok((json_at(row, 0)?, json_at(row, 1)?)),
            )?;
            let sum = |sum: Counts, counts: Counts| json::text(&sum.plus(counts));
            let sql =
                "UPDATE replays SET done_lsn = ?2, cuts_done = cuts_done + 1, rows_done = rows_done + ?3,
                           counts_before = ?4, counts_after = ?5, swap = NULL, error = NULL WHERE id = ?1";
            let rows = (swap.counts.stored + swap.counts.quarantined).cast_signed();
            let values = params![replay, last, rows, sum(sum_before, before), sum(sum_after, swap.counts)];
            db.execute(sql, values).map(drop)
        })
    }

    /// Records that all recorded actions are finished.
    pub fn replaced(&self, replay: i64) -> Result<(), CatalogError> {
        self.transaction(|db| db.execute("DELETE FROM replacements WHERE replay = ?1", [replay]).map(drop))
    }
}

fn swap_file(
    db: &Transaction<'_>,
    swap: &Swap,
    file: &StagedFile,
    action: Action,
    now: Micros,
) -> rusqlite::Result<()> {
    if action == Action::Remove {
        return db.execute("DELETE FROM files WHERE object = ?1", [&file.object]).map(drop);
    }
    let sql = "INSERT INTO files (stream, kind, object, first_lsn, last_lsn, rows, bytes, schema_version, state, staged_at,
                   published_at, checksum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'published', ?9, ?9, ?10)
               ON CONFLICT (object) DO UPDATE SET rows = ?6, bytes = ?7, schema_version = ?8, state = 'published',
                   published_at = ?9, checksum = ?10, lost_at = NULL, attempts = 0, last_error = NULL, held = NULL
               RETURNING id";
    let values = params![
        swap.stream.0,
        file_kind(file.kind),
        file.object,
        swap.lsns.first.0.cast_signed(),
        swap.lsns.last.0.cast_signed(),
        file.rows.cast_signed(),
        file.bytes.cast_signed(),
        swap.schema_version,
        now,
        file.checksum.map(u64::cast_signed)
    ];
    let id = db.query_row(sql, values, |row| row.get(0))?;
    offsets::note(db, swap.stream, id, &file.offsets)
}

/// The share of a cut in the counts of its stream. For a cut that was registered before these were stored: the counts
/// of its files, and for the rest the new values, as if unchanged.
fn counts_of_cut(db: &Transaction<'_>, swap: &Swap, old: &[RegisteredFile]) -> rusqlite::Result<Counts> {
    let sql = "SELECT counts FROM cuts WHERE stream = ?1 AND first_lsn = ?2";
    let values = params![swap.stream.0, swap.lsns.first.0.cast_signed()];
    let known: Option<Counts> = db.query_row(sql, values, |row| some_json_at(row, 0))?;
    let rows = |kind| old.iter().filter(|file| file.kind == kind).map(|file| file.rows).sum();
    Ok(known.unwrap_or_else(|| Counts {
        stored: rows(FileKind::Rows),
        quarantined: rows(FileKind::Quarantine),
        ..swap.counts
    }))
}

fn cut_of(row: &Row<'_>) -> rusqlite::Result<CutRecord> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(CutRecord {
        lsns: LsnRange { first: Lsn(number(0)?), last: Lsn(number(1)?) },
        first_at: row.get(2)?,
        last_at: row.get(3)?,
        counts: some_json_at(row, 4)?,
        files: number(5)?,
        rows: number(6)?,
        first_number: number(7)?,
        given: row.get(8)?,
    })
}

fn replacement_of(row: &Row<'_>) -> rusqlite::Result<Replacement> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let (kind, action): (String, String) = (row.get(1)?, row.get(4)?);
    let object: String = row.get(0)?;
    Ok(Replacement {
        file: StagedFile {
            kind: kind_of(&kind, &object),
            object,
            rows: number(2)?,
            bytes: number(3)?,
            checksum: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
            offsets: json_at(row, 7)?,
        },
        action: match action.as_str() {
            "create" => Action::Create,
            "remove" => Action::Remove,
            _ => Action::Replace { old_bytes: number(5)? },
        },
        after_swap: row.get(6)?,
    })
}

fn replay_of(row: &Row<'_>) -> rusqlite::Result<Replay> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let state = match row.get::<_, String>(14)?.as_str() {
        "waiting" => ReplayState::Waiting,
        "running" => ReplayState::Running,
        "done" => ReplayState::Done,
        "cancelled" => ReplayState::Cancelled,
        _ => ReplayState::Failed,
    };
    Ok(Replay {
        id: row.get(0)?,
        asked: NewReplay {
            stream: StreamId(row.get(1)?),
            from: row.get(2)?,
            to: row.get(3)?,
            partial: row.get(4)?,
            lsns: LsnRange { first: Lsn(number(5)?), last: Lsn(number(6)?) },
            first_at: row.get(7)?,
            last_at: row.get(8)?,
            cuts: number(9)?,
            files: number(10)?,
            rows: number(11)?,
            missing: json_at(row, 12)?,
            left_out: json_at(row, 13)?,
        },
        state,
        done_lsn: Lsn(number(15)?),
        cuts_done: number(16)?,
        rows_done: number(17)?,
        before: json_at(row, 18)?,
        after: json_at(row, 19)?,
        error: row.get(20)?,
        created_at: row.get(21)?,
        started_at: row.get(22)?,
        ended_at: row.get(23)?,
    })
}
