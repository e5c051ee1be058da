//! One archived segment: written from a consumed segment, and read block by block.

use super::format::{Block, IndexError, SegmentIndex, SegmentName, TAIL_BYTES};
use crate::error::IoError;
use crate::storage::{Storage, StoredFile};
use crate::wal::format::{self, FrameHeader, FrameKind, HEADER_BYTES, SEAL_FRAME_BYTES, SegmentHeader};
use crate::wal::frames::FrameReader;
use crate::wal::lsn::Lsn;
use crate::wal::segment::{Segment, SegmentEnd};
use std::path::{Path, PathBuf};
use zstd::bulk::{Compressor, Decompressor};

/// A block ends with the first frame that brings it to this size. It and the largest frame bound the memory of writing
/// and reading.
const BLOCK_BYTES: usize = 1 << 20;
/// Makes JSON five times smaller, at half a gigabyte a second.
const LEVEL: i32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot compress log segment {}", .path.display())]
    Compress {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read archived segment {}: {source}", .path.display())]
    Index { path: PathBuf, source: IndexError },
    #[error("cannot decompress archived segment {}, block {block} at offset {offset}", .path.display())]
    Block {
        path: PathBuf,
        block: usize,
        offset: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("archived segment {} has {found} bytes instead of {expected}", .path.display())]
    Length { path: PathBuf, found: u64, expected: u64 },
    #[error("the log is closing")]
    Closing,
}

impl ArchiveError {
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_full())
    }
}

/// Compresses the frames of a consumed segment into a new file at `scratch` and syncs it. Checks `stop` between
/// blocks.
pub(super) fn write(
    storage: &dyn Storage,
    segment: &Segment,
    end: SegmentEnd,
    scratch: &Path,
    stop: impl Fn() -> bool,
) -> Result<SegmentIndex, ArchiveError> {
    let compress = |source| ArchiveError::Compress { path: segment.file.path().to_owned(), source };
    let mut compressor = Compressor::new(LEVEL).map_err(compress)?;
    compressor.include_checksum(true).map_err(compress)?;
    let mut file = storage.create(scratch)?;
    let mut index = SegmentIndex {
        wal_uuid: segment.header.wal_uuid,
        id: segment.id(),
        generation: segment.header.generation,
        base: segment.base,
        last: end.last,
        predecessor: segment.predecessor,
        data_frames: 0,
        first_ts: 0,
        last_ts: 0,
        blocks: Vec::new(),
    };
    let mut frames = segment.frames();
    let stop_at = end_of_frames(&mut frames, end);
    let (mut from, mut at) = (0, Segment::FIRST_OFFSET);
    let mut first = segment.base;
    let mut next = segment.base;
    while from < stop_at {
        if stop() {
            return Err(ArchiveError::Closing);
        }
        while at < stop_at && at - from < BLOCK_BYTES as u64 {
            at = if let Ok(header) = frames.header(at) {
                index.note(&header);
                next = if header.kind == FrameKind::Data { header.lsn.next() } else { next };
                at + header.frame_bytes() as u64
            } else {
                // Damage is archived as is: readers find the valid frames after it.
                let from = at + format::ALIGN as u64;
                frames.next_header(from, stop_at).map_or(stop_at, |(found, _)| found)
            };
        }
        let until = at.min(stop_at);
        let raw = usize::try_from(until - from).ok().and_then(|len| segment.file.read(from, len));
        let raw = raw.ok_or_else(|| compress(std::io::ErrorKind::UnexpectedEof.into()))?;
        let compressed = compressor.compress(&raw).map_err(compress)?;
        file.write(&compressed)?;
        let block = Block { first, compressed_bytes: compressed.len() as u64, raw_bytes: raw.len() as u64 };
        index.blocks.push(block);
        (from, at, first) = (until, until, next);
    }
    file.write(&index.encode())?;
    file.sync()?;
    Ok(index)
}

impl SegmentIndex {
    fn note(&mut self, header: &FrameHeader) {
        if header.kind != FrameKind::Data {
            return;
        }
        let some = self.data_frames > 0;
        self.first_ts = if some { self.first_ts.min(header.ts) } else { header.ts };
        self.last_ts = if some { self.last_ts.max(header.ts) } else { header.ts };
        self.data_frames += 1;
    }
}

/// Where the valid frames end: after the SEAL frame, if it agrees with `end`.
fn end_of_frames(frames: &mut FrameReader, end: SegmentEnd) -> u64 {
    let seal = frames.frame(end.offset).ok().filter(|header| header.kind == FrameKind::Seal);
    let seal = seal.and_then(|header| format::Seal::decode(frames.body(end.offset, &header)?.1));
    let sealed = seal.is_some_and(|seal| seal.end_offset == end.offset && seal.last == end.last);
    if sealed { end.offset + SEAL_FRAME_BYTES as u64 } else { end.offset }
}

/// An archived segment, opened for reading.
pub struct ArchivedSegment {
    path: PathBuf,
    file: Box<dyn StoredFile>,
    pub index: SegmentIndex,
    /// The identity of the segment, for checking frames; the first block holds the full header.
    pub header: SegmentHeader,
}

impl ArchivedSegment {
    /// Opens the file and reads its index.
    pub fn open(storage: &dyn Storage, path: &Path) -> Result<Self, ArchiveError> {
        let file = storage.open(path)?;
        let error = |source| ArchiveError::Index { path: path.to_owned(), source };
        let bytes = file.bytes()?;
        let tail_at = bytes.checked_sub(TAIL_BYTES as u64).ok_or(error(IndexError::NotAnArchive))?;
        let index_bytes = SegmentIndex::bytes(&file.read(tail_at, TAIL_BYTES)?).map_err(error)?;
        let index_at = bytes.checked_sub(index_bytes as u64).ok_or(error(IndexError::Damaged))?;
        let index = SegmentIndex::decode(&file.read(index_at, index_bytes)?).map_err(error)?;
        if index.file_bytes() != bytes {
            return Err(ArchiveError::Length {
                path: path.to_owned(),
                found: bytes,
                expected: index.file_bytes(),
            });
        }
        let name = path.file_name().and_then(|name| SegmentName::parse(name.to_str()?));
        if name != Some(index.name()) {
            return Err(error(IndexError::Damaged));
        }
        let header = SegmentHeader {
            wal_uuid: index.wal_uuid,
            id: index.id,
            generation: index.generation,
            capacity: 0,
            created: 0,
        };
        Ok(Self { path: path.to_owned(), file, index, header })
    }

    /// The block that holds `lsn`, or the first one above it.
    pub fn block_with(&self, lsn: Lsn) -> usize {
        self.index.blocks.partition_point(|block| block.first <= lsn).saturating_sub(1)
    }

    /// The decompressed block, and the offset in it at which frames start. `None` after the last block.
    pub fn block(&self, number: usize) -> Result<Option<(Vec<u8>, usize)>, ArchiveError> {
        let Some(block) = self.index.blocks.get(number) else { return Ok(None) };
        let before = self.index.blocks.iter().take(number);
        let offset = before.map(|block| block.compressed_bytes).sum();
        let bad = |source| ArchiveError::Block { path: self.path.clone(), block: number, offset, source };
        let too_large = || bad(std::io::ErrorKind::FileTooLarge.into());
        let len = usize::try_from(block.compressed_bytes).map_err(|_| too_large())?;
        let raw_bytes = usize::try_from(block.raw_bytes).map_err(|_| too_large())?;
        let compressed = self.file.read(offset, len)?;
        let raw = Decompressor::new().and_then(|mut zstd| zstd.decompress(&compressed, raw_bytes));
        let raw = raw.map_err(bad)?;
        if raw.len() != raw_bytes {
            return Err(bad(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some((raw, if number == 0 { HEADER_BYTES } else { 0 })))
    }
}

impl SegmentIndex {
    pub(super) fn name(&self) -> SegmentName {
        SegmentName { base: self.base, id: self.id, last: self.last }
    }
}
