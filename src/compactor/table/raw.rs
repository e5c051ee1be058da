//! Files with records as received, in addition to a stream's Parquet files or in their place: they cover the same
//! frames, and are finished, staged and registered with them.
//!
//! A frame's chunk waits with its rows and is written when they are: a cut ends both at the same frame.

use super::{StreamTable, TableConfig, scratch_path};
use crate::batch::{Batch, BodyKind};
use crate::clock::Micros;
use crate::compactor::checksum::{Sum, Summed};
use crate::compactor::landing;
use crate::compactor::parquet::WriteError;
use crate::schema::RawFormat;
use crate::wal::Lsn;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const ZSTD_LEVEL: i32 = 3;

/// The bytes that one frame contributes.
pub(super) struct Chunk {
    lsn: Lsn,
    /// `2026-11-21/13`, of the receive time in UTC.
    hour: String,
    format: RawFormat,
    bytes: Vec<u8>,
    /// The number of its records that are valid rows: the others are in quarantine and counted there.
    records: u64,
}

/// Waiting chunks and open files.
#[derive(Default)]
pub(super) struct RawFiles {
    /// The chunk of the current frame.
    next: Option<Chunk>,
    waiting: Vec<Chunk>,
    waiting_bytes: usize,
    open: BTreeMap<(String, RawFormat), RawFile>,
}

struct RawFile {
    path: PathBuf,
    first: Lsn,
    to: RawEncoder,
    records: u64,
}

enum RawEncoder {
    Plain(BufWriter<Summed<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<Summed<File>>>),
}

/// A finished file.
pub(super) struct FinishedFile {
    /// Its name below the stream's directory.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) records: u64,
    pub(super) sum: Sum,
}

impl RawFiles {
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.open.values().map(|file| file.path.as_path())
    }

    /// The current frame joins the waiting ones, with `stored` rows.
    pub(super) fn took(&mut self, stored: u64) {
        if let Some(chunk) = self.next.take() {
            self.waiting_bytes += chunk.bytes.len();
            self.waiting.push(Chunk { records: stored, ..chunk });
        }
    }

    /// Writes the waiting chunks.
    pub(super) fn write(&mut self, config: &TableConfig) -> Result<(), WriteError> {
        self.waiting_bytes = 0;
        for chunk in std::mem::take(&mut self.waiting) {
            let key = (chunk.hour, chunk.format);
            let file = match self.open.entry(key) {
                std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(RawFile::create(scratch_path(&config.scratch_dir), chunk.lsn, chunk.format)?)
                }
            };
            file.records += chunk.records;
            let written = match &mut file.to {
                RawEncoder::Plain(to) => write(to, &chunk.bytes),
                RawEncoder::Zstd(to) => write(to, &chunk.bytes),
            };
            written.map_err(|source| WriteError::Raw { path: file.path.clone(), source })?;
        }
        Ok(())
    }

    /// Finishes and syncs the open files.
    pub(super) fn finish(&mut self) -> Result<Vec<FinishedFile>, WriteError> {
        let finish = |((hour, format), file): ((String, RawFormat), RawFile)| {
            let RawFile { path, first, to, records } = file;
            let synced = (|| {
                let to = match to {
                    RawEncoder::Plain(to) => to,
                    RawEncoder::Zstd(to) => to.finish()?,
                };
                let (file, sum) = to.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish();
                file.sync_all()?;
                Ok(sum)
            })();
            let sum = synced.map_err(|source| WriteError::Sync { path: path.clone(), source })?;
            Ok(FinishedFile { name: name(&hour, first, format), path, records, sum })
        };
        std::mem::take(&mut self.open).into_iter().map(finish).collect()
    }
}

impl RawFile {
    fn create(path: PathBuf, first: Lsn, format: RawFormat) -> Result<Self, WriteError> {
        let create_error = |source| WriteError::Create { path: path.clone(), source };
        let file = BufWriter::new(Summed::new(File::create(&path).map_err(create_error)?));
        let to = match format {
            RawFormat::Cbor => RawEncoder::Plain(file),
            RawFormat::Ndjson => {
                RawEncoder::Zstd(zstd::Encoder::new(file, ZSTD_LEVEL).map_err(create_error)?)
            }
        };
        Ok(Self { path, first, to, records: 0 })
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)
}

/// The name of a file: `2026-11-21/13-00000000000016777218.ndjson.zst`
fn name(hour: &str, first: Lsn, format: RawFormat) -> String {
    let extension = match format {
        RawFormat::Ndjson => "ndjson.zst",
        RawFormat::Cbor => "cbor",
    };
    format!("{hour}-{:020}.{extension}", first.0)
}

fn hour(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%d/%H").to_string())
}

impl StreamTable {
    /// Keeps the current frame's records as received; `lines` are its records if it is XML that can be parsed.
    pub(super) fn keep_raw(
        &mut self,
        lsn: Lsn,
        received_at: Micros,
        batch: &Batch<'_>,
        lines: Option<&[u8]>,
    ) {
        let Some(format) = self.applied.landing.raw else { return };
        let mut bytes = Vec::new();
        match (format, lines) {
            (RawFormat::Cbor, _) => landing::cbor(batch, received_at, &mut bytes),
            (RawFormat::Ndjson, Some(lines)) => landing::ndjson(lines, BodyKind::Lines, &mut bytes),
            (RawFormat::Ndjson, None) if batch.head.kind == BodyKind::Xml => {}
            (RawFormat::Ndjson, None) => landing::ndjson(batch.body, batch.head.kind, &mut bytes),
        }
        if !bytes.is_empty() {
            self.raw.next = Some(Chunk { lsn, hour: hour(received_at), format, bytes, records: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_the_hour_in_utc() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        let found = name(&hour(at("2026-11-21T23:59:59.999999-02:00")), Lsn(7), RawFormat::Cbor);
        assert_eq!(found, "2026-11-22/01-00000000000000000007.cbor");
        let found = name(&hour(at("2026-11-21T00:00:00Z")), Lsn(16_777_218), RawFormat::Ndjson);
        assert_eq!(found, "2026-11-21/00-00000000000016777218.ndjson.zst");
    }
}
