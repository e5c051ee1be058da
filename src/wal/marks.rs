//! The log's second place: `wal/marks`, a small file beside the segments.
//!
//! It remembers for each run of the daemon which segments were taken into use and how far the run was durable. So a
//! start notices what damage has made invisible: a segment that is gone or blank, a last frame that no longer verifies.
//! A mark is written before the durable mark moves into a new segment, when the log has been idle for a second, and
//! when it closes; never for a single request. Losing the file costs this evidence and nothing else.
//!
//! The format is described in `docs/wal-format.md`.

use super::format::{u32_at, u64_at};
use super::lsn::{Lsn, SegmentId};
use crate::clock::Micros;
use crate::error::{IoError, chain};
use crate::storage::{NewFile, Storage};
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "marks";
const MAGIC: [u8; 8] = *b"FBAYMRK\x01";
/// Magic and the identity of the log.
const HEADER_BYTES: usize = 24;
const MARK_BYTES: usize = 48;
/// The file is written anew at a start, and once it is this long.
const FILE_BYTES_MAX: usize = 1 << 20;

/// What is known of a run at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DurableMark {
    /// The first LSN of the run, which identifies it.
    pub(super) run: Lsn,
    /// A segment that was in use, and its first LSN.
    pub(super) segment: SegmentId,
    pub(super) base: Lsn,
    /// Everything of the run up to here is durable.
    pub(super) durable: Lsn,
    pub(super) at: Micros,
}

impl DurableMark {
    fn encode(&self, wal_uuid: &[u8; 16]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MARK_BYTES);
        for field in [self.run.0, self.segment.0, self.base.0, self.durable.0, self.at.cast_unsigned()] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc(&bytes, wal_uuid);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(MARK_BYTES, 0);
        bytes
    }

    fn decode(bytes: &[u8], wal_uuid: &[u8; 16]) -> Option<Self> {
        let checked = u32_at(bytes, 40)? == crc(bytes.get(..40)?, wal_uuid);
        let mark = Self {
            run: Lsn(u64_at(bytes, 0)?),
            segment: SegmentId(u64_at(bytes, 8)?),
            base: Lsn(u64_at(bytes, 16)?),
            durable: Lsn(u64_at(bytes, 24)?),
            at: u64_at(bytes, 32)?.cast_signed(),
        };
        checked.then_some(mark)
    }
}

fn crc(bytes: &[u8], wal_uuid: &[u8; 16]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(wal_uuid);
    crc.update(bytes);
    crc.finalize()
}

/// What the file says: the identity of its log, and its marks. Damaged marks are left out.
#[derive(Debug, Default)]
pub(super) struct KnownMarks {
    pub(super) wal_uuid: Option<[u8; 16]>,
    pub(super) marks: Vec<DurableMark>,
}

/// Reads the file. A missing file has no marks. An unreadable one is logged and has none either: the log can be opened
/// without them.
pub(super) fn read(storage: &dyn Storage, dir: &Path) -> KnownMarks {
    let path = dir.join(FILE_NAME);
    let bytes = storage.open(&path).and_then(|file| {
        let len = usize::try_from(file.bytes()?).unwrap_or(usize::MAX).min(2 * FILE_BYTES_MAX);
        file.read(0, len)
    });
    match bytes {
        Ok(bytes) => decode(&bytes),
        Err(error) => {
            if error.source.kind() != std::io::ErrorKind::NotFound {
                tracing::error!(error = %chain(&error), "cannot read the marks of the log; damage at the end of the log may go unnoticed at this start");
            }
            KnownMarks::default()
        }
    }
}

fn decode(bytes: &[u8]) -> KnownMarks {
    let uuid = bytes.get(8..HEADER_BYTES).and_then(|uuid| uuid.try_into().ok());
    let Some(wal_uuid) = uuid.filter(|_| bytes.get(..8) == Some(&MAGIC)) else {
        return KnownMarks::default();
    };
    let marks =
        bytes[HEADER_BYTES..].chunks(MARK_BYTES).filter_map(|mark| DurableMark::decode(mark, &wal_uuid));
    KnownMarks { wal_uuid: Some(wal_uuid), marks: marks.collect() }
}

/// Appends marks to the file.
pub(super) struct MarkWriter {
    path: PathBuf,
    file: Option<Box<dyn NewFile>>,
    bytes: usize,
    /// The marks that a new file begins with: the last of each segment and of each run.
    kept: Vec<DurableMark>,
    /// The last mark was not written, and it has been logged.
    failed: bool,
}

impl MarkWriter {
    /// Starts with the marks of earlier runs that are still needed.
    pub(super) fn new(dir: &Path, kept: Vec<DurableMark>) -> Self {
        Self { path: dir.join(FILE_NAME), file: None, bytes: 0, kept, failed: false }
    }

    /// Writes a mark, durably. A failure is logged once and does not stop the log: the next mark is written into a new
    /// file.
    pub(super) fn write(&mut self, storage: &dyn Storage, wal_uuid: &[u8; 16], mark: DurableMark) {
        self.kept.retain(|kept| kept.segment != mark.segment);
        self.kept.push(mark);
        match self.append(storage, wal_uuid, mark) {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.file = None;
                // It is written with the next one.
                self.kept.retain(|kept| *kept != mark);
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(error = %chain(&error), "cannot write the marks of the log; damage at the end of the log may go unnoticed at the next start");
                }
            }
        }
    }

    /// Whether a mark of this segment was written.
    pub(super) fn knows(&self, segment: SegmentId) -> bool {
        self.kept.iter().any(|mark| mark.segment == segment)
    }

    /// How far the last mark says that the log is durable.
    pub(super) fn durable(&self) -> Option<Lsn> {
        self.kept.last().map(|mark| mark.durable)
    }

    /// Forgets the marks of segments that are gone for good, when the file is written anew.
    pub(super) fn forget(&mut self, is_needed: impl Fn(&DurableMark) -> bool) {
        let last = self.kept.last().copied();
        self.kept.retain(|mark| Some(*mark) == last || is_needed(mark));
    }

    fn append(
        &mut self,
        storage: &dyn Storage,
        wal_uuid: &[u8; 16],
        mark: DurableMark,
    ) -> Result<(), IoError> {
        if let Some(file) = self.file.as_mut().filter(|_| self.bytes < FILE_BYTES_MAX) {
            file.write(&mark.encode(wal_uuid))?;
            self.bytes += MARK_BYTES;
            return file.sync();
        }
        let mut bytes = [&MAGIC[..], wal_uuid].concat();
        bytes.extend(self.kept.iter().flat_map(|mark| mark.encode(wal_uuid)));
        let scratch = self.path.with_extension("new");
        if let Err(error) = storage.remove(&scratch)
            && error.source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = storage.create(&scratch)?;
        file.write(&bytes)?;
        file.sync()?;
        storage.rename(&scratch, &self.path)?;
        storage.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        (self.file, self.bytes) = (Some(file), bytes.len());
        Ok(())
    }
}

/// Whether a name in the directory of the log is that of this file.
pub(super) fn is_name(name: &str) -> bool {
    Path::new(name).file_stem() == Some(FILE_NAME.as_ref())
}
