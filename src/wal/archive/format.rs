//! The bytes of an archived segment in addition to the compressed blocks: the index at its end, and the file name.
//! Pure.
//!
//! Mirrors the archive section of `docs/wal-format.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::clock::Micros;
use crate::wal::format::Predecessor;
use crate::wal::lsn::{Lsn, SegmentId};

const MAGIC: [u8; 8] = *b"FBAYARC\0";
const VERSION: u16 = 1;
/// The index is a zstd frame that decompressors skip.
const SKIPPABLE: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
const SKIPPABLE_HEAD_BYTES: usize = 8;
const FIXED_BYTES: usize = 120;
const BLOCK_BYTES: usize = 24;
/// Size of the file's tail: length of the index, its checksum, the magic bytes.
pub const TAIL_BYTES: usize = 16;
/// The longest index that is read: that of a segment of 256 GiB.
const INDEX_BYTES_MAX: usize = 8 << 20;

/// The contents of an archived segment, from the end of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    pub wal_uuid: [u8; 16],
    pub id: SegmentId,
    pub generation: u64,
    /// As in the START frame of the segment.
    pub base: Lsn,
    /// Its last LSN; `base - 1` if it holds none.
    pub last: Lsn,
    pub predecessor: Option<Predecessor>,
    pub data_frames: u64,
    /// Earliest and latest receive time of its DATA frames; 0 if it holds none.
    pub first_ts: Micros,
    pub last_ts: Micros,
    pub blocks: Vec<Block>,
}

/// An independently compressed part of the segment that begins at its start or at a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// LSN of the first DATA frame at or after its start.
    pub first: Lsn,
    pub compressed_bytes: u64,
    pub raw_bytes: u64,
}

/// Why the end of a file is not the end of an archived segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("not an archived segment, or truncated: the magic bytes at the end are missing")]
    NotAnArchive,
    #[error("archive format {0} is newer than {VERSION}, the newest that this version supports")]
    Newer(u16),
    #[error("the index of the archived segment is corrupted: its checksum does not match")]
    Damaged,
}

/// The length of the index of one segment: a few numbers for each of its blocks.
fn bytes_of(body: &[u8]) -> u32 {
    u32::try_from(body.len()).expect("a segment has far fewer blocks than would fill 4 GiB")
}

impl SegmentIndex {
    pub fn encode(&self) -> Vec<u8> {
        let before =
            self.predecessor.unwrap_or(Predecessor { id: SegmentId(0), end_offset: 0, last: Lsn::NONE });
        let mut body = Vec::new();
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&VERSION.to_le_bytes());
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&self.wal_uuid);
        for number in [
            self.id.0,
            self.generation,
            self.base.0,
            self.last.0,
            before.id.0,
            before.end_offset,
            before.last.0,
            self.data_frames,
            self.first_ts.cast_unsigned(),
            self.last_ts.cast_unsigned(),
            self.blocks.len() as u64,
        ] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for block in &self.blocks {
            for number in [block.first.0, block.compressed_bytes, block.raw_bytes] {
                body.extend_from_slice(&number.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&body);
        let index_bytes = bytes_of(&body);
        body.extend_from_slice(&index_bytes.to_le_bytes());
        body.extend_from_slice(&crc.to_le_bytes());
        body.extend_from_slice(&MAGIC);
        let mut bytes = SKIPPABLE.to_vec();
        bytes.extend_from_slice(&bytes_of(&body).to_le_bytes());
        bytes.append(&mut body);
        bytes
    }

    /// How many bytes from the end of the file [`SegmentIndex::decode`] needs, according to its last [`TAIL_BYTES`].
    pub fn bytes(tail: &[u8]) -> Result<usize, IndexError> {
        let magic = tail.get(8..TAIL_BYTES).ok_or(IndexError::NotAnArchive)?;
        if magic != MAGIC {
            return Err(IndexError::NotAnArchive);
        }
        let bytes = tail.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let bytes = bytes.filter(|bytes| (FIXED_BYTES..=INDEX_BYTES_MAX).contains(bytes));
        bytes.and_then(|bytes| bytes.checked_add(TAIL_BYTES)).ok_or(IndexError::Damaged)
    }

    /// Decodes the index from the last bytes of a file, as many as [`SegmentIndex::bytes`] returned.
    pub fn decode(end: &[u8]) -> Result<Self, IndexError> {
        let split = end.len().checked_sub(TAIL_BYTES).and_then(|at| end.split_at_checked(at));
        let (body, tail) = split.ok_or(IndexError::NotAnArchive)?;
        let crc = tail.get(4..8).and_then(|crc| crc.first_chunk()).map(|crc| u32::from_le_bytes(*crc));
        let version = body.get(8..10).and_then(|bytes| bytes.first_chunk());
        let version = u16::from_le_bytes(*version.ok_or(IndexError::Damaged)?);
        if version > VERSION {
            return Err(IndexError::Newer(version));
        }
        if crc != Some(crc32fast::hash(body)) || body.get(..8) != Some(&MAGIC) {
            return Err(IndexError::Damaged);
        }
        Self::fields(body).ok_or(IndexError::Damaged)
    }

    fn fields(body: &[u8]) -> Option<Self> {
        let (fixed, blocks) = body.split_at_checked(FIXED_BYTES)?;
        let number = |at: usize| Some(u64::from_le_bytes(*fixed.get(at..)?.first_chunk()?));
        let before =
            Predecessor { id: SegmentId(number(64)?), end_offset: number(72)?, last: Lsn(number(80)?) };
        let blocks = blocks.chunks_exact(BLOCK_BYTES).map(|block| {
            let number = |at: usize| Some(u64::from_le_bytes(*block.get(at..)?.first_chunk()?));
            Some(Block { first: Lsn(number(0)?), compressed_bytes: number(8)?, raw_bytes: number(16)? })
        });
        let blocks: Vec<Block> = blocks.collect::<Option<_>>()?;
        if blocks.len() as u64 != number(112)? {
            return None;
        }
        Some(Self {
            wal_uuid: fixed.get(16..32)?.try_into().ok()?,
            id: SegmentId(number(32)?),
            generation: number(40)?,
            base: Lsn(number(48)?),
            last: Lsn(number(56)?),
            predecessor: (before.id.0 != 0).then_some(before),
            data_frames: number(88)?,
            first_ts: number(96)?.cast_signed(),
            last_ts: number(104)?.cast_signed(),
            blocks,
        })
    }

    /// Uncompressed bytes of the segment.
    pub fn raw_bytes(&self) -> u64 {
        self.blocks.iter().fold(0, |sum, block| sum.saturating_add(block.raw_bytes))
    }

    /// Size of the whole file with this index.
    pub fn file_bytes(&self) -> u64 {
        let compressed =
            self.blocks.iter().fold(0_u64, |sum, block| sum.saturating_add(block.compressed_bytes));
        let index = self.blocks.len().saturating_mul(BLOCK_BYTES).saturating_add(FIXED_BYTES);
        let around = index.saturating_add(SKIPPABLE_HEAD_BYTES).saturating_add(TAIL_BYTES);
        compressed.saturating_add(around as u64)
    }
}

/// The fields in the file name of an archived segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub base: Lsn,
    pub id: SegmentId,
    pub last: Lsn,
}

impl SegmentName {
    /// `<id>-<first number>-<last number>.wal.zst`
    pub fn file(&self) -> String {
        format!("{}-{:020}-{:020}.wal.zst", self.id, self.base.0, self.last.0)
    }

    /// The inverse of [`SegmentName::file`].
    pub fn parse(file: &str) -> Option<Self> {
        let mut parts = file.strip_suffix(".wal.zst")?.split('-');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let name = Self { id: SegmentId(number()?), base: Lsn(number()?), last: Lsn(number()?) };
        (name.file() == file).then_some(name)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the numbers of these tests are small")]
mod tests {
    use super::*;

    fn index(blocks: u64) -> SegmentIndex {
        let block = |n| Block { first: Lsn(10 + n), compressed_bytes: 100 + n, raw_bytes: 1000 + n };
        SegmentIndex {
            wal_uuid: [7; 16],
            id: SegmentId(42),
            generation: 99,
            base: Lsn(10),
            last: Lsn(50),
            predecessor: Some(Predecessor { id: SegmentId(41), end_offset: 5000, last: Lsn(9) }),
            data_frames: 41,
            first_ts: -5,
            last_ts: 1_600_000_000_000_000,
            blocks: (0..blocks).map(block).collect(),
        }
    }

    #[test]
    fn an_index_survives_the_round_trip_and_no_flipped_bit_does() {
        for expected in [index(0), index(3), SegmentIndex { predecessor: None, ..index(1) }] {
            let bytes = expected.encode();
            let around = expected.blocks.iter().map(|block| block.compressed_bytes).sum::<u64>();
            assert_eq!(bytes.len() as u64 + around, expected.file_bytes());
            let read = |bytes: &[u8]| {
                let need = SegmentIndex::bytes(&bytes[bytes.len() - TAIL_BYTES..])?;
                SegmentIndex::decode(&bytes[bytes.len().checked_sub(need).ok_or(IndexError::Damaged)?..])
            };
            assert_eq!(read(&bytes), Ok(expected));
            for bit in SKIPPABLE_HEAD_BYTES * 8..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&bad).is_err(), "bit {bit}");
            }
        }
        assert_eq!(SegmentIndex::bytes(b"short"), Err(IndexError::NotAnArchive));
    }

    #[test]
    fn names_are_strict() {
        let name = SegmentName { id: SegmentId(42), base: Lsn(10), last: Lsn(16_777_217) };
        assert_eq!(name.file(), "0000000000000042-00000000000000000010-00000000000016777217.wal.zst");
        assert_eq!(SegmentName::parse(&name.file()), Some(name));
        for file in ["42-10-50.wal.zst", "0000000000000042.wal", "notes.txt", &(name.file() + ".tmp")] {
            assert_eq!(SegmentName::parse(file), None, "{file}");
        }
    }
}
