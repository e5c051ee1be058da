//! Reads segment files without changing them, for `forebay wal`: in the directory of a running or a stopped daemon.
//!
//! Reads a whole file into memory first, so that concurrent appends do not change the bytes under the inspector; an
//! append that was in progress shows as an unfinished tail.

use super::archive;
use super::format::{
    self, Frame, FrameHeader, FrameKind, HEADER_BYTES, HeaderError, Seal, SegmentHeader, SegmentStart,
};
use super::lsn::{Lsn, LsnRange, SegmentId};
use super::{marks, salvage};
use crate::error::{IoContext, IoError};
use crate::storage::real::{RealStorage, read_whole};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No segment is larger; a file that decompresses to more is not a segment.
const RAW_BYTES_MAX: u64 = 16 << 30;
/// The header of a segment and its first frame, which describes it.
const HEAD_BYTES: u64 = HEADER_BYTES as u64 + 128;

/// A segment file in memory.
pub struct SegmentFile {
    pub path: PathBuf,
    pub header: Result<SegmentHeader, HeaderError>,
    /// Offsets of blocks that the medium cannot return. They are zeros in what is inspected.
    pub unreadable: BTreeSet<u64>,
    bytes: Vec<u8>,
}

/// The contents of a segment, in byte order.
#[derive(Debug)]
pub enum SegmentEntry<'a> {
    Frame {
        offset: u64,
        frame: Frame<'a>,
    },
    /// Bytes that are not a valid frame, followed by a valid frame.
    Bad {
        offset: u64,
        bytes: u64,
    },
}

/// The result of reading a whole segment.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub struct SegmentSummary {
    /// No frame was ever written to it.
    pub prepared: bool,
    pub sealed: bool,
    pub base: Lsn,
    /// LSN of its last DATA frame, 0 if it has none.
    pub last: Lsn,
    pub data_frames: u64,
    pub payload_bytes: u64,
    /// Offset just after the last frame.
    pub end_offset: u64,
    pub bad_ranges: u64,
    pub bad_bytes: u64,
    /// The highest LSN that its frames record as durable.
    pub durable: Lsn,
    /// Receive times of the first and last DATA frame, in microseconds since the epoch.
    pub first_ts: Option<i64>,
    pub last_ts: Option<i64>,
}

/// The segment files in a log's directory, by name.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, IoError> {
    list_named(dir, |name| format::parse_segment_name(name).is_some())
}

/// The archived segments in an archive's directory, by name.
pub fn list_archived(dir: &Path) -> Result<Vec<PathBuf>, IoError> {
    list_named(dir, |name| archive::format::SegmentName::parse(name).is_some())
}

fn list_named(dir: &Path, is_one: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, IoError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).context("list directory", dir)? {
        let entry = entry.context("list directory", dir)?;
        if entry.file_name().to_str().is_some_and(&is_one) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// The id of the segment in a file, archived or not, by the file's name.
pub fn segment_id(path: &Path) -> Option<SegmentId> {
    let name = path.file_name()?.to_str()?;
    format::parse_segment_name(name).or_else(|| Some(archive::format::SegmentName::parse(name)?.id))
}

/// The LSN of the first frame of the segment in a file; `None` if it has none or is unreadable.
pub fn base(path: &Path) -> Option<Lsn> {
    if let Some(archived) = archive::format::SegmentName::parse(path.file_name()?.to_str()?) {
        return Some(archived.base);
    }
    if let Some(base) = base_of_start(path) {
        return Some(base);
    }
    // Its START frame may be lost.
    SegmentFile::read(path).ok()?.entries().find_map(|entry| match entry {
        SegmentEntry::Frame { frame, .. } if frame.header.kind == FrameKind::Data => Some(frame.header.lsn),
        _ => None,
    })
}

/// The same by the START frame alone.
fn base_of_start(path: &Path) -> Option<Lsn> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut bytes).ok()?;
    let header = SegmentHeader::decode(bytes.get(..HEADER_BYTES)?).ok()?;
    let frame = format::frame_at(&bytes, HEADER_BYTES, header.salt(), &header.wal_uuid).ok()?;
    if frame.header.kind != FrameKind::Start {
        return None;
    }
    SegmentStart::decode(frame.payload).map(|start| start.base)
}

/// Whether a file is an archived segment, by its name.
pub fn is_archived(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// For each run of the daemon that the log's directory remembers: its first LSN, and how far it was durable.
pub fn marked_runs(dir: &Path) -> Vec<LsnRange> {
    let marks = marks::read(&RealStorage, dir).marks;
    marks.iter().map(|mark| LsnRange { first: mark.run, last: mark.durable }).collect()
}

/// Opens the index of an archived segment.
pub fn index(path: &Path) -> Result<archive::format::SegmentIndex, archive::ArchiveError> {
    archive::file::ArchivedSegment::open(&RealStorage, path).map(|segment| segment.index)
}

impl SegmentFile {
    /// Reads a segment file, or decompresses an archived one.
    pub fn read(path: &Path) -> Result<Self, IoError> {
        let (bytes, unreadable) = if is_archived(path) {
            let file = std::fs::File::open(path).context("open archived segment", path)?;
            let mut bytes = Vec::new();
            let decoder = zstd::stream::read::Decoder::new(file);
            let decoded = decoder.and_then(|decoder| decoder.take(RAW_BYTES_MAX).read_to_end(&mut bytes));
            decoded.context("decompress archived segment", path)?;
            (bytes, BTreeSet::new())
        } else {
            read_whole(path)?
        };
        let header = SegmentHeader::decode(bytes.get(..HEADER_BYTES).unwrap_or(&bytes));
        Ok(Self { path: path.to_owned(), header, unreadable, bytes })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A header under which the frames are valid, if this one is damaged: see [`salvage::header`].
    pub fn salvaged(&self, wal_uuid: Option<[u8; 16]>) -> Option<SegmentHeader> {
        let id = format::parse_segment_name(self.path.file_name()?.to_str()?)?;
        let read = |at: u64, len: usize| {
            let rest = self.bytes.get(usize::try_from(at).ok()?..)?;
            Some(rest[..len.min(rest.len())].to_vec())
        };
        salvage::header(read, id, self.bytes.len() as u64, wal_uuid)
    }

    /// The LSN of a damaged request after the last valid frame.
    pub fn damaged_last(&self) -> Option<Lsn> {
        let header = self.header.as_ref().ok()?;
        let summary = self.summary();
        let rest = self.bytes.get(usize::try_from(summary.end_offset).ok()?..)?;
        let head = rest.first_chunk()?;
        let damaged = FrameHeader::decode(head, header.salt()).ok();
        let damaged = damaged.or_else(|| salvage::frame_header(rest, header.salt()))?;
        (damaged.kind == FrameKind::Data && damaged.lsn > summary.last).then_some(damaged.lsn)
    }

    /// Everything up to the last valid frame.
    pub fn entries(&self) -> impl Iterator<Item = SegmentEntry<'_>> {
        let mut offset = HEADER_BYTES;
        let mut pending: Option<SegmentEntry<'_>> = None;
        std::iter::from_fn(move || {
            if let Some(entry) = pending.take() {
                return Some(entry);
            }
            let header = self.header.as_ref().ok()?;
            let at = offset + self.next_valid(offset, header)?;
            let frame = self.frame(at, header)?;
            let entry = SegmentEntry::Frame { offset: at as u64, frame };
            let bad = at - offset;
            let bad_entry = SegmentEntry::Bad { offset: offset as u64, bytes: bad as u64 };
            offset = at + frame.header.frame_bytes();
            if bad == 0 {
                return Some(entry);
            }
            pending = Some(entry);
            Some(bad_entry)
        })
    }

    fn frame(&self, at: usize, header: &SegmentHeader) -> Option<Frame<'_>> {
        format::frame_at(&self.bytes, at, header.salt(), &header.wal_uuid).ok()
    }

    fn next_valid(&self, offset: usize, header: &SegmentHeader) -> Option<usize> {
        let rest = self.bytes.get(offset..)?;
        format::candidates(rest).find(|at| self.frame(offset + at, header).is_some())
    }

    pub fn summary(&self) -> SegmentSummary {
        let mut summary =
            SegmentSummary { prepared: true, end_offset: HEADER_BYTES as u64, ..SegmentSummary::default() };
        for entry in self.entries() {
            match entry {
                SegmentEntry::Bad { bytes, .. } => {
                    summary.bad_ranges += 1;
                    summary.bad_bytes += bytes;
                }
                SegmentEntry::Frame { offset, frame } => {
                    summary.prepared = false;
                    summary.add(&frame);
                    summary.end_offset = offset + frame.header.frame_bytes() as u64;
                }
            }
        }
        summary
    }
}

impl SegmentSummary {
    fn add(&mut self, frame: &Frame<'_>) {
        let header = &frame.header;
        self.durable = self.durable.max(header.durable);
        match header.kind {
            FrameKind::Start => {
                self.base = SegmentStart::decode(frame.payload).map_or(Lsn::NONE, |start| start.base);
            }
            FrameKind::Seal => self.sealed = Seal::decode(frame.payload).is_some(),
            FrameKind::Data => {
                self.last = header.lsn;
                self.data_frames += 1;
                self.payload_bytes += frame.payload.len() as u64;
                self.first_ts.get_or_insert(header.ts);
                self.last_ts = Some(header.ts);
            }
        }
    }
}
