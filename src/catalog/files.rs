//! The register of files, and the checkpoints that go with them.

use super::{Catalog, CatalogError, OffsetRange, offsets, proposals, put};
use crate::batch::StreamId;
use crate::clock::Micros;
use crate::columns::Proposal;
use crate::formats::json;
use crate::wal::{Lsn, LsnRange};
use rusqlite::{OptionalExtension, Row, Transaction, params};

/// The table of a stream that a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    Rows,
    Quarantine,
    /// Records as received, in addition to the rows or instead of them.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Finished and synced on local disk.
    Staged,
    /// Visible at the destination.
    Published,
    /// Not published within `staging.retention`, and removed.
    Expired,
    /// Removed or never published, because its table was dropped.
    Dropped,
    /// Damaged before it was published, and neither the log nor the archive has its records.
    Lost,
}

impl FileState {
    /// Whether its rows are nowhere.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Expired | Self::Lost)
    }
}

/// A staged file to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    pub kind: FileKind,
    /// Name at the destination; the name of the staged file derives from it.
    pub object: String,
    pub rows: u64,
    pub bytes: u64,
    /// CRC-64/NVME of the whole file, from the moment of encoding; `None` if it was written before this was kept.
    pub checksum: Option<u64>,
    /// Its offset range in each partition, if rows are numbered.
    pub offsets: Vec<OffsetRange>,
}

impl StagedFile {
    /// A file with records as received.
    pub fn raw(object: String, bytes: u64, checksum: u64) -> Self {
        let checksum = Some(checksum);
        Self { kind: FileKind::Raw, object, rows: 0, bytes, checksum, offsets: Vec::new() }
    }
}

/// What one cut of a stream writes to the catalog, atomically.
#[derive(Debug, Clone)]
pub struct Cut {
    pub stream: StreamId,
    pub lsns: LsnRange,
    /// Earliest and latest receive time of its frames.
    pub first_at: Micros,
    pub last_at: Micros,
    pub files: Vec<StagedFile>,
    pub counts: Counts,
    /// The schema version with which the files were written.
    pub schema_version: u32,
    pub misfits: Vec<Misfit>,
    pub proposals: Vec<Proposal>,
    /// The number of its first row, if rows are numbered.
    pub first_number: Option<u64>,
    /// Whether it holds frames that do not name the stream.
    pub given: bool,
}

/// Values of one field, all of one kind, that did not fit their column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Misfit {
    /// Keys from the top of the record, joined with dots.
    pub path: String,
    pub kind: &'static str,
    pub count: u64,
    pub example: String,
}

/// Row counts since the stream was created, or in one cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counts {
    pub stored: u64,
    pub quarantined: u64,
    /// The quarantined rows that were too late, or too early.
    pub late: u64,
    pub early: u64,
    pub rescued: u64,
    pub duplicate_keys: u64,
    /// Values without a column in streams whose policy ignores them.
    pub ignored_fields: u64,
    /// Bytes of the request bodies, decompressed.
    pub source_bytes: u64,
}

impl Counts {
    pub fn plus(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            quarantined: self.quarantined + other.quarantined,
            late: self.late + other.late,
            early: self.early + other.early,
            rescued: self.rescued + other.rescued,
            duplicate_keys: self.duplicate_keys + other.duplicate_keys,
            ignored_fields: self.ignored_fields + other.ignored_fields,
            source_bytes: self.source_bytes + other.source_bytes,
        }
    }
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct RegisteredFile {
    pub id: i64,
    #[serde(skip)]
    pub stream: StreamId,
    pub kind: FileKind,
    pub object: String,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    pub rows: u64,
    pub bytes: u64,
    /// CRC-64/NVME of the whole file; `None` if it was registered before this was kept.
    #[serde(skip)]
    pub checksum: Option<u64>,
    pub schema_version: u32,
    pub state: FileState,
    pub staged_at: Micros,
    pub published_at: Option<Micros>,
    pub attempts: u32,
    pub last_error: Option<String>,
    /// Why it is held back until someone requests its publication.
    pub held: Option<String>,
}

/// The checkpoint and the counts of a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamProgress {
    pub stream: StreamId,
    pub checkpoint: Lsn,
    pub counts: Counts,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct FileTotals {
    pub state: String,
    pub kind: String,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// Frames that are neither in the log nor in a file: `missing` and `corrupt` ones had been durable, `torn` ones had
/// not, `staged` ones were in a file that was damaged before it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub first: Lsn,
    pub last: Lsn,
    pub reason: String,
    pub found_at: Micros,
}

/// A [`Misfit`] as stored, over all cuts.
#[derive(Debug, Clone, serde::Serialize)]
pub struct KnownMisfit {
    pub path: String,
    pub kind: String,
    pub count: u64,
    pub example: String,
}

const FILE_COLUMNS: &str =
    "id, stream, kind, object, first_lsn, last_lsn, rows, bytes, schema_version, state, staged_at,
    published_at, attempts, last_error, held, dropped_at, checksum, lost_at";

const PROGRESS: &str = "id, checkpoint_lsn, stored, quarantined, late, early, rescued, duplicate_keys, ignored_fields, source_bytes";

impl Catalog {
    /// Registers the files of several streams, advances their checkpoints, and records that the log up to `consumed` is
    /// no longer needed, in one synced transaction. Returns the files with their ids.
    pub fn register(&self, cuts: &[Cut], consumed: Lsn) -> Result<Vec<RegisteredFile>, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let mut registered = Vec::new();
            for cut in cuts {
                register_cut(db, cut, now, &mut registered)?;
            }
            put(db, "consumed", &consumed.0.cast_signed())?;
            Ok(registered)
        })
    }

    pub fn mark_published(&self, ids: &[i64]) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql =
                "UPDATE files SET state = 'published', published_at = ?2, last_error = NULL, held = NULL WHERE id = ?1";
            let mut statement = db.prepare(sql)?;
            ids.iter().try_for_each(|id| statement.execute(params![id, now]).map(drop))
        })
    }

    pub fn mark_failed(&self, id: i64, error: &str) -> Result<(), CatalogError> {
        let sql = "UPDATE files SET attempts = attempts + 1, last_error = ?2 WHERE id = ?1";
        self.transaction(|db| db.execute(sql, params![id, error]).map(drop))
    }

    /// Holds a file back for a reason, or releases it.
    pub fn hold(&self, id: i64, reason: Option<&str>) -> Result<(), CatalogError> {
        let sql = "UPDATE files SET held = ?2 WHERE id = ?1 AND state = 'staged'";
        self.transaction(|db| db.execute(sql, params![id, reason]).map(drop))
    }

    /// A registered file.
    pub fn file(&self, id: i64) -> Result<Option<RegisteredFile>, CatalogError> {
        Ok(self.files_where("id = ?1", &[&id])?.into_iter().next())
    }

    /// The highest row number of a stream in a registered file.
    pub fn numbered(&self, stream: StreamId) -> Result<u64, CatalogError> {
        self.read(|db| {
            let sql = "SELECT numbered FROM streams WHERE id = ?1";
            db.query_row(sql, [stream.0], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        })
    }

    /// Reserves `count` row numbers of a stream. Returns the first.
    pub fn take_numbers(&self, stream: StreamId, count: u64) -> Result<u64, CatalogError> {
        self.transaction(|db| {
            let sql = "UPDATE streams SET numbered = numbered + ?2 WHERE id = ?1 RETURNING numbered";
            let values = params![stream.0, count.cast_signed()];
            let last: i64 = db.query_row(sql, values, |row| row.get(0))?;
            Ok(last.cast_unsigned().saturating_sub(count).saturating_add(1))
        })
    }

    /// Expires a file; its rows count as expired from now on.
    pub fn mark_expired(&self, id: i64) -> Result<(), CatalogError> {
        self.transaction(|db| {
            let sql = "UPDATE streams SET expired = expired + (SELECT rows FROM files WHERE id = ?1)
                       WHERE id = (SELECT stream FROM files WHERE id = ?1)";
            db.execute(sql, [id])?;
            db.execute("UPDATE files SET state = 'expired' WHERE id = ?1", [id]).map(drop)
        })
    }

    /// Records that a staged file was made anew.
    pub fn mark_remade(&self, id: i64, bytes: u64, checksum: u64) -> Result<(), CatalogError> {
        let sql = "UPDATE files SET bytes = ?2, checksum = ?3 WHERE id = ?1 AND state = 'staged'";
        let values = [id, bytes.cast_signed(), checksum.cast_signed()];
        self.transaction(|db| db.execute(sql, values).map(drop))
    }

    /// Records that a staged file is lost, and the LSNs whose records are lost with it, in one transaction. Its rows
    /// count as expired from now on.
    pub fn mark_lost(&self, id: i64, lost: &[LsnRange]) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "UPDATE files SET state = 'expired', lost_at = ?2, held = NULL WHERE id = ?1 AND state = 'staged'";
            if db.execute(sql, params![id, now])? == 0 {
                return Ok(());
            }
            let sql = "UPDATE streams SET expired = expired + (SELECT rows FROM files WHERE id = ?1)
                       WHERE id = (SELECT stream FROM files WHERE id = ?1)";
            db.execute(sql, [id])?;
            // Several files can be lost with the same frames.
            let sql = "INSERT INTO losses (first_lsn, last_lsn, reason, found_at) VALUES (?1, ?2, 'staged', ?3)
                       ON CONFLICT (first_lsn) DO UPDATE SET last_lsn = max(last_lsn, excluded.last_lsn)";
            lost.iter().try_for_each(|lost| {
                let (first, last) = (lost.first.0.cast_signed(), lost.last.0.cast_signed());
                db.execute(sql, params![first, last, now]).map(drop)
            })
        })
    }

    /// All files waiting to be published, oldest first.
    pub fn staged(&self) -> Result<Vec<RegisteredFile>, CatalogError> {
        self.files_where("state = 'staged' ORDER BY id", &[])
    }

    /// The files of a stream, newest first.
    pub fn files(&self, stream: StreamId, limit: u32) -> Result<Vec<RegisteredFile>, CatalogError> {
        self.files_where("stream = ?1 ORDER BY last_lsn DESC, id DESC LIMIT ?2", &[&stream.0, &limit])
    }

    /// The files that hold rows of a frame.
    pub fn files_with(&self, stream: StreamId, lsn: Lsn) -> Result<Vec<RegisteredFile>, CatalogError> {
        let lsn = lsn.0.cast_signed();
        self.files_where("stream = ?1 AND last_lsn >= ?2 AND first_lsn <= ?2 ORDER BY id", &[&stream.0, &lsn])
    }

    /// The files of any stream that may hold a frame.
    pub fn files_around(&self, lsn: Lsn) -> Result<Vec<RegisteredFile>, CatalogError> {
        let lsn = lsn.0.cast_signed();
        self.files_where("last_lsn >= ?1 AND first_lsn <= ?1 ORDER BY id", &[&lsn])
    }

    /// The files with the first rows of a partition at `from` or above: usually one, several if all belong to one cut.
    pub fn files_from(
        &self,
        stream: StreamId,
        partition: u32,
        from: u64,
    ) -> Result<Vec<RegisteredFile>, CatalogError> {
        let from = from.cast_signed();
        self.read(|db| {
            let sql = "SELECT f.first_lsn FROM file_offsets o JOIN files f ON f.id = o.file
                       WHERE o.stream = ?1 AND o.partition = ?2 AND o.last_offset >= ?3 AND f.state <> 'expired'
                       ORDER BY o.last_offset LIMIT 1";
            let cut = db.query_row(sql, params![stream.0, partition, from], |row| row.get::<_, i64>(0));
            let Some(cut) = cut.optional()? else { return Ok(Vec::new()) };
            let sql = format!(
                "SELECT {FILE_COLUMNS} FROM files WHERE stream = ?1 AND first_lsn = ?4 AND state <> 'expired' AND id IN
                     (SELECT file FROM file_offsets WHERE stream = ?1 AND partition = ?2 AND last_offset >= ?3)
                 ORDER BY id"
            );
            let values = params![stream.0, partition, from, cut];
            db.prepare(&sql)?.query_map(values, file_of)?.collect()
        })
    }

    pub(super) fn files_where(
        &self,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<RegisteredFile>, CatalogError> {
        self.read(|db| {
            let mut statement = db.prepare(&format!("SELECT {FILE_COLUMNS} FROM files WHERE {condition}"))?;
            statement.query_map(values, file_of)?.collect()
        })
    }

    /// The progress of every stream.
    pub fn progress(&self) -> Result<Vec<StreamProgress>, CatalogError> {
        self.read(|db| {
            let sql = format!("SELECT {PROGRESS} FROM streams");
            db.prepare(&sql)?.query_map([], progress_of)?.collect()
        })
    }

    pub fn stream_progress(&self, stream: StreamId) -> Result<StreamProgress, CatalogError> {
        self.read(|db| {
            let sql = format!("SELECT {PROGRESS} FROM streams WHERE id = ?1");
            db.query_row(&sql, [stream.0], progress_of)
        })
    }

    /// The number, rows and bytes of a stream's files, by state.
    pub fn totals(&self, stream: StreamId) -> Result<Vec<FileTotals>, CatalogError> {
        self.read(|db| {
            let sql = "SELECT CASE WHEN dropped_at IS NOT NULL THEN 'dropped' WHEN lost_at IS NOT NULL THEN 'lost' ELSE state END, CASE WHEN object LIKE '%.parquet' THEN kind ELSE 'raw' END, count(*), sum(rows), sum(bytes)
                       FROM files WHERE stream = ?1 GROUP BY 1, 2";
            let totals = |row: &Row<'_>| {
                let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
                let (files, rows, bytes) = (number(2)?, number(3)?, number(4)?);
                Ok(FileTotals { state: row.get(0)?, kind: row.get(1)?, files, rows, bytes })
            };
            db.prepare(sql)?.query_map([stream.0], totals)?.collect()
        })
    }

    /// The values that did not fit a stream's columns, most frequent first.
    pub fn misfits(&self, stream: StreamId) -> Result<Vec<KnownMisfit>, CatalogError> {
        self.read(|db| {
            let sql = "SELECT column_path, kind, count, example FROM misfits WHERE stream = ?1 ORDER BY count DESC LIMIT 100";
            let misfit = |row: &Row<'_>| {
                let count = row.get::<_, i64>(2)?.cast_unsigned();
                Ok(KnownMisfit { path: row.get(0)?, kind: row.get(1)?, count, example: row.get(3)? })
            };
            db.prepare(sql)?.query_map([stream.0], misfit)?.collect()
        })
    }

    /// Records lost frames; a range that follows another one of the same reason is joined with it. They are found again
    /// after each restart until the log is trimmed beyond them. Returns whether the loss, or a part of it, is new.
    pub fn record_loss(&self, lost: LsnRange, reason: &str) -> Result<bool, CatalogError> {
        let now = self.clock.now();
        let (first, last) = (lost.first.0.cast_signed(), lost.last.0.cast_signed());
        self.transaction(|db| {
            let known = "SELECT 1 FROM losses WHERE first_lsn <= ?1 AND last_lsn >= ?2 AND reason = ?3";
            if db.prepare(known)?.exists(params![first, last, reason])? {
                return Ok(false);
            }
            let join = "UPDATE losses SET last_lsn = ?2 WHERE reason = ?3 AND last_lsn = ?1 - 1";
            if db.execute(join, params![first, last, reason])? > 0 {
                return Ok(true);
            }
            let insert = "INSERT INTO losses (first_lsn, last_lsn, reason, found_at) VALUES (?1, ?2, ?3, ?4)
                          ON CONFLICT (first_lsn) DO UPDATE SET last_lsn = ?2 WHERE last_lsn < ?2";
            Ok(db.execute(insert, params![first, last, reason, now])? > 0)
        })
    }

    /// The losses of the log, highest LSN first.
    pub fn losses(&self, limit: u32) -> Result<Vec<Loss>, CatalogError> {
        self.read(|db| {
            let sql =
                "SELECT first_lsn, last_lsn, reason, found_at FROM losses ORDER BY first_lsn DESC LIMIT ?1";
            let mut statement = db.prepare(sql)?;
            let losses = statement.query_map([limit], |row| {
                Ok(Loss {
                    first: Lsn(row.get::<_, i64>(0)?.cast_unsigned()),
                    last: Lsn(row.get::<_, i64>(1)?.cast_unsigned()),
                    reason: row.get(2)?,
                    found_at: row.get(3)?,
                })
            })?;
            losses.collect()
        })
    }
}

pub(super) fn register_cut(
    db: &Transaction<'_>,
    cut: &Cut,
    now: Micros,
    registered: &mut Vec<RegisteredFile>,
) -> rusqlite::Result<()> {
    let (first, last) = (cut.lsns.first.0.cast_signed(), cut.lsns.last.0.cast_signed());
    if !cut.given {
        db.execute("UPDATE streams SET checkpoint_lsn = ?2 WHERE id = ?1", params![cut.stream.0, last])?;
    }
    if let Some(first) = cut.first_number {
        let numbered = first.saturating_add(cut.counts.stored).saturating_sub(1).cast_signed();
        let sql = "UPDATE streams SET numbered = max(numbered, ?2) WHERE id = ?1";
        db.execute(sql, params![cut.stream.0, numbered])?;
    }
    add_counts(db, cut.stream, Counts::default(), cut.counts)?;
    let sql = "INSERT INTO cuts (stream, first_lsn, last_lsn, first_at, last_at, counts, first_number, given)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (counts, number) = (json::text(&cut.counts), cut.first_number.unwrap_or(0).cast_signed());
    let values = params![cut.stream.0, first, last, cut.first_at, cut.last_at, counts, number, cut.given];
    db.execute(sql, values)?;
    proposals::add(db, cut.stream, &cut.proposals)?;
    for misfit in &cut.misfits {
        let sql = "INSERT INTO misfits (stream, column_path, kind, count, example, first_at, last_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                   ON CONFLICT (stream, column_path, kind) DO UPDATE SET count = count + ?4, last_at = ?6";
        let count = misfit.count.cast_signed();
        db.execute(sql, params![cut.stream.0, misfit.path, misfit.kind, count, misfit.example, now])?;
    }
    for file in &cut.files {
        let sql = format!(
            "INSERT INTO files (stream, kind, object, first_lsn, last_lsn, rows, bytes, schema_version, state, staged_at, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'staged', ?9, ?10) RETURNING {FILE_COLUMNS}"
        );
        let kind = file_kind(file.kind);
        let (rows, bytes) = (file.rows.cast_signed(), file.bytes.cast_signed());
        let version = cut.schema_version;
        let checksum = file.checksum.map(u64::cast_signed);
        let values =
            params![cut.stream.0, kind, file.object, first, last, rows, bytes, version, now, checksum];
        let made = db.query_row(&sql, values, file_of)?;
        offsets::note(db, cut.stream, made.id, &file.offsets)?;
        registered.push(made);
    }
    Ok(())
}

/// Adds to the counts of a stream, and subtracts the counts that these replace.
pub(super) fn add_counts(
    db: &Transaction<'_>,
    stream: StreamId,
    before: Counts,
    now: Counts,
) -> rusqlite::Result<()> {
    let sql = "UPDATE streams SET stored = stored + ?2, quarantined = quarantined + ?3, late = late + ?4,
                   early = early + ?5, rescued = rescued + ?6, duplicate_keys = duplicate_keys + ?7,
                   ignored_fields = ignored_fields + ?8, source_bytes = source_bytes + ?9 WHERE id = ?1";
    let more = |of: fn(&Counts) -> u64| of(&now).cast_signed() - of(&before).cast_signed();
    let values = params![
        stream.0,
        more(|counts| counts.stored),
        more(|counts| counts.quarantined),
        more(|counts| counts.late),
        more(|counts| counts.early),
        more(|counts| counts.rescued),
        more(|counts| counts.duplicate_keys),
        more(|counts| counts.ignored_fields),
        more(|counts| counts.source_bytes),
    ];
    db.execute(sql, values).map(drop)
}

/// The name of a kind in the register.
pub(super) fn file_kind(kind: FileKind) -> &'static str {
    match kind {
        // Distinguished from them by its name, see `kind_of`.
        FileKind::Rows | FileKind::Raw => "rows",
        FileKind::Quarantine => "quarantine",
    }
}

/// The kind of a registered file.
pub(super) fn kind_of(kind: &str, object: &str) -> FileKind {
    match kind {
        _ if !object.ends_with(".parquet") => FileKind::Raw,
        "rows" => FileKind::Rows,
        _ => FileKind::Quarantine,
    }
}

fn file_of(row: &Row<'_>) -> rusqlite::Result<RegisteredFile> {
    let (kind, object): (String, String) = (row.get(2)?, row.get(3)?);
    let state: String = row.get(9)?;
    Ok(RegisteredFile {
        id: row.get(0)?,
        stream: StreamId(row.get(1)?),
        kind: kind_of(&kind, &object),
        object,
        first_lsn: Lsn(row.get::<_, i64>(4)?.cast_unsigned()),
        last_lsn: Lsn(row.get::<_, i64>(5)?.cast_unsigned()),
        rows: row.get::<_, i64>(6)?.cast_unsigned(),
        bytes: row.get::<_, i64>(7)?.cast_unsigned(),
        checksum: row.get::<_, Option<i64>>(16)?.map(i64::cast_unsigned),
        schema_version: row.get(8)?,
        state: match state.as_str() {
            "staged" => FileState::Staged,
            "published" => FileState::Published,
            _ if row.get::<_, Option<Micros>>(15)?.is_some() => FileState::Dropped,
            _ if row.get::<_, Option<Micros>>(17)?.is_some() => FileState::Lost,
            _ => FileState::Expired,
        },
        staged_at: row.get(10)?,
        published_at: row.get(11)?,
        attempts: row.get(12)?,
        last_error: row.get(13)?,
        held: row.get(14)?,
    })
}

fn progress_of(row: &Row<'_>) -> rusqlite::Result<StreamProgress> {
    let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(StreamProgress {
        stream: StreamId(row.get(0)?),
        checkpoint: Lsn(number(1)?),
        counts: Counts {
            stored: number(2)?,
            quarantined: number(3)?,
            late: number(4)?,
            early: number(5)?,
            rescued: number(6)?,
            duplicate_keys: number(7)?,
            ignored_fields: number(8)?,
            source_bytes: number(9)?,
        },
    })
}
