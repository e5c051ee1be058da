//! The offsets in the files of streams with numbered rows.

use super::{Catalog, CatalogError};
use crate::batch::StreamId;
use rusqlite::{Row, Transaction, params};

/// The offsets of one partition in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OffsetRange {
    pub partition: u32,
    pub first: u64,
    pub last: u64,
}

/// The end of one partition: the offset after the last one in a registered file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOffset {
    pub stream: StreamId,
    pub partition: u32,
    pub end: u64,
}

impl Catalog {
    /// The end of every partition of every stream, according to the registered files.
    pub fn end_offsets(&self) -> Result<Vec<EndOffset>, CatalogError> {
        self.read(|db| {
            let end = |row: &Row<'_>| {
                let end = row.get::<_, i64>(2)?.cast_unsigned();
                Ok(EndOffset { stream: StreamId(row.get(0)?), partition: row.get(1)?, end })
            };
            db.prepare("SELECT stream, partition, end_offset FROM partitions")?.query_map([], end)?.collect()
        })
    }
}

/// Records the offsets in a file, and replaces what was recorded before.
pub(super) fn note(
    db: &Transaction<'_>,
    stream: StreamId,
    file: i64,
    offsets: &[OffsetRange],
) -> rusqlite::Result<()> {
    db.execute("DELETE FROM file_offsets WHERE file = ?1", [file])?;
    for range in offsets {
        let (first, last) = (range.first.cast_signed(), range.last.cast_signed());
        let sql = "INSERT INTO file_offsets (stream, partition, last_offset, first_offset, file)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        db.execute(sql, params![stream.0, range.partition, last, first, file])?;
        let sql = "INSERT INTO partitions (stream, partition, end_offset) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET end_offset = max(end_offset, ?3)";
        db.execute(sql, params![stream.0, range.partition, last + 1])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Counts, Cut, FileKind, StagedFile};
    use crate::clock::FakeClock;
    use crate::wal::{Lsn, LsnRange};
    use std::sync::Arc;

    fn range(partition: u32, first: u64, last: u64) -> OffsetRange {
        OffsetRange { partition, first, last }
    }

    fn cut(stream: StreamId, lsns: (u64, u64), files: &[(&str, &[OffsetRange])]) -> Cut {
        let file = |(object, offsets): &(&str, &[OffsetRange])| StagedFile {
            kind: FileKind::Rows,
            object: (*object).to_owned(),
            rows: 1,
            bytes: 1,
            checksum: None,
            offsets: offsets.to_vec(),
        };
        Cut {
            stream,
            lsns: LsnRange { first: Lsn(lsns.0), last: Lsn(lsns.1) },
            first_at: 0,
            last_at: 0,
            files: files.iter().map(file).collect(),
            counts: Counts::default(),
            schema_version: 1,
            first_number: None,
            given: false,
            misfits: Vec::new(),
            proposals: Vec::new(),
        }
    }

    #[test]
    fn files_are_found_by_the_offsets_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path(), Arc::new(FakeClock::at(1_000))).unwrap();
        let stream = catalog.create_stream("s").unwrap().id;
        let first = [range(0, 0, 9), range(3, 0, 4)];
        catalog.register(&[cut(stream, (1, 5), &[("a", &first)])], Lsn(5)).unwrap();
        // Rows divided by a column: the offsets of two files overlap.
        let second = [("b", &[range(0, 10, 29)][..]), ("c", &[range(0, 15, 20), range(3, 5, 5)][..])];
        catalog.register(&[cut(stream, (6, 9), &second)], Lsn(9)).unwrap();
        let found = |partition, from| {
            let files = catalog.files_from(stream, partition, from).unwrap();
            files.into_iter().map(|file| file.object).collect::<Vec<_>>()
        };
        assert_eq!(found(0, 0), ["a"]);
        assert_eq!(found(0, 9), ["a"]);
        assert_eq!(found(0, 10), ["b", "c"]);
        assert_eq!(found(0, 21), ["b"]);
        assert_eq!(found(3, 5), ["c"]);
        assert!(found(0, 30).is_empty() && found(1, 0).is_empty());
        let mut ends = catalog.end_offsets().unwrap();
        ends.sort_by_key(|end| end.partition);
        let ends: Vec<(u32, u64)> = ends.into_iter().map(|end| (end.partition, end.end)).collect();
        assert_eq!(ends, [(0, 30), (3, 6)]);
    }
}
