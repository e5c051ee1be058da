//! The byte format of the log: segment headers and frames. Pure: bytes in, value or error out.
//!
//! Mirrors `docs/wal-format.md`, which also states the assumptions about the medium. All input may come from a damaged
//! disk, so lengths are checked before they are used, and no arithmetic may overflow.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::lsn::{Lsn, SegmentId};
use crate::clock::Micros;

/// First bytes of a segment file.
pub const MAGIC: [u8; 8] = *b"FBAYWAL\0";
/// The format version that this code writes, and the newest that it reads.
pub const VERSION: u16 = 1;
/// The segment header fills one page; frames start here.
pub const HEADER_BYTES: usize = 4096;
/// A frame's header.
pub const FRAME_HEADER_BYTES: usize = 40;
/// Frames start at multiples of this.
pub const ALIGN: usize = 8;
/// Payload sizes of a SEGSTART frame and of a SEAL frame.
pub const SEGSTART_BYTES: usize = 32;
pub const SEAL_BYTES: usize = 24;
/// Size of the SEAL frame, reserved at the end of every segment.
pub const SEAL_FRAME_BYTES: usize = FRAME_HEADER_BYTES + SEAL_BYTES;

const CRC_OFFSET: usize = HEADER_BYTES - 4;

/// The header page of a segment: written and synced before the segment is used, never changed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Identity of the log: distinguishes the segments of two logs.
    pub wal_uuid: [u8; 16],
    pub id: SegmentId,
    /// Random, regenerated at every use of the file.
    pub generation: u64,
    /// Size of the file in bytes.
    pub capacity: u64,
    pub created: Micros,
}

/// Why a file is not a readable segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("not a log segment: the magic bytes are missing")]
    NotASegment,
    #[error("segment format {0} is newer than {VERSION}, the newest that this version supports")]
    Newer(u16),
    #[error("the segment header is corrupted: its checksum does not match")]
    Damaged,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(HEADER_BYTES);
        page.extend_from_slice(&MAGIC);
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&[0; 6]);
        page.extend_from_slice(&self.wal_uuid);
        page.extend_from_slice(&self.id.0.to_le_bytes());
        page.extend_from_slice(&self.generation.to_le_bytes());
        page.extend_from_slice(&self.capacity.to_le_bytes());
        page.extend_from_slice(&self.created.to_le_bytes());
        page.resize(CRC_OFFSET, 0);
        let crc = crc32fast::hash(&page);
        page.extend_from_slice(&crc.to_le_bytes());
        page
    }

    pub fn decode(page: &[u8]) -> Result<Self, HeaderError> {
        if page.get(..8) != Some(&MAGIC) {
            return Err(HeaderError::NotASegment);
        }
        let body = page.get(..CRC_OFFSET).ok_or(HeaderError::Damaged)?;
        let version = u16_at(page, 8).ok_or(HeaderError::Damaged)?;
        // Before the checksum, which a newer format may store elsewhere.
        if version > VERSION {
            return Err(HeaderError::Newer(version));
        }
        if u32_at(page, CRC_OFFSET) != Some(crc32fast::hash(body)) || version != VERSION {
            return Err(HeaderError::Damaged);
        }
        let fields = (|| {
            Some(Self {
                wal_uuid: page.get(16..32)?.try_into().ok()?,
                id: SegmentId(u64_at(page, 32)?),
                generation: u64_at(page, 40)?,
                capacity: u64_at(page, 48)?,
                created: u64_at(page, 56)?.cast_signed(),
            })
        })();
        fields.ok_or(HeaderError::Damaged)
    }

    /// Seeds the header checksum of every frame in this segment, so that leftovers of an earlier use of the file, or
    /// bytes of another log, are never mistaken for a frame.
    pub fn salt(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.wal_uuid);
        crc.update(&self.id.0.to_le_bytes());
        crc.update(&self.generation.to_le_bytes());
        crc.finalize() | 1
    }
}

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The first frame of a segment in use: a [`SegmentStart`].
    Start = 1,
    /// One accepted request.
    Data = 2,
    /// The last frame of a segment that was rolled: a [`Seal`].
    Seal = 3,
}

/// The header of a frame. Its extension and payload follow, then zeros up to the next multiple of [`ALIGN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    /// The LSN of a DATA frame; in other frames, the LSN of the next DATA frame.
    pub lsn: Lsn,
    /// When the request was received.
    pub ts: Micros,
    /// Everything up to here was durable when this frame was appended. On recovery, this proves that an invalid frame
    /// with a lower LSN is damage and not a torn tail.
    pub durable: Lsn,
    /// Bytes of extension and payload together.
    pub body_bytes: u32,
    /// Bytes of the extension.
    pub ext_bytes: u16,
    /// CRC-32 of extension and payload, seeded with the log's identity: see [`body_crc`].
    pub body_crc: u32,
}

/// Why the bytes at an offset are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Nothing but zeros.
    Empty,
    /// The header's checksum, kind or lengths are wrong.
    BadHeader,
    /// The header is valid, but the extension or the payload fails its checksum.
    BadBody(FrameHeader),
}

impl FrameHeader {
    pub fn encode(&self, salt: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0_u8; FRAME_HEADER_BYTES];
        let fields: [&[u8]; 9] = [
            &self.body_bytes.to_le_bytes(),
            &[0; 4],
            &self.lsn.0.to_le_bytes(),
            &self.ts.to_le_bytes(),
            &self.durable.0.to_le_bytes(),
            &self.body_crc.to_le_bytes(),
            &[self.kind as u8],
            &[0],
            &self.ext_bytes.to_le_bytes(),
        ];
        let mut rest: &mut [u8] = &mut bytes;
        for field in fields {
            let (to, tail) = rest.split_at_mut(field.len());
            to.copy_from_slice(field);
            rest = tail;
        }
        let crc = header_crc(&bytes, salt);
        if let Some(to) = bytes.get_mut(4..8) {
            to.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES], salt: u32) -> Result<Self, FrameError> {
        let decoded = (|| {
            let kind = match bytes.get(36)? {
                1 => FrameKind::Start,
                2 => FrameKind::Data,
                3 => FrameKind::Seal,
                _ => return None,
            };
            let header = Self {
                kind,
                lsn: Lsn(u64_at(bytes, 8)?),
                ts: u64_at(bytes, 16)?.cast_signed(),
                durable: Lsn(u64_at(bytes, 24)?),
                body_bytes: u32_at(bytes, 0)?,
                ext_bytes: u16_at(bytes, 38)?,
                body_crc: u32_at(bytes, 32)?,
            };
            let plausible = bytes.get(37) == Some(&0) && u32::from(header.ext_bytes) <= header.body_bytes;
            (plausible && u32_at(bytes, 4)? == header_crc(bytes, salt)).then_some(header)
        })();
        decoded.ok_or(if bytes.iter().all(|byte| *byte == 0) {
            FrameError::Empty
        } else {
            FrameError::BadHeader
        })
    }

    /// Bytes from the start of this frame to the start of the next.
    pub fn frame_bytes(&self) -> usize {
        frame_bytes(self.body_bytes as usize)
    }
}

/// Bytes that a frame with `body_bytes` of extension and payload takes in a segment.
pub fn frame_bytes(body_bytes: usize) -> usize {
    FRAME_HEADER_BYTES.saturating_add(body_bytes).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
}

fn header_crc(bytes: &[u8; FRAME_HEADER_BYTES], salt: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(salt);
    // All but the checksum itself.
    let [a, b, c, d, _, _, _, _, rest @ ..] = bytes;
    crc.update(&[*a, *b, *c, *d]);
    crc.update(rest);
    crc.finalize()
}

/// The salt under which a frame's header is valid: its checksum run backwards, from the stored value to the seed.
pub fn salt_of(header: &[u8; FRAME_HEADER_BYTES]) -> u32 {
    let stored = u32_at(header, 4).unwrap_or(0);
    let covered = header.get(8..).into_iter().chain(header.get(..4)).flat_map(|part| part.iter().rev());
    // A checksum is stored inverted.
    !covered.fold(!stored, |crc, byte| crc_step_back(crc, *byte))
}

/// The four bytes, as a little-endian number, that take a checksum from `before` to `wanted`.
pub fn crc_suffix(before: crc32fast::Hasher, wanted: u32) -> u32 {
    // Bytes and register enter the checksum alike: four zero bytes backwards, then the difference to the register.
    let back = (0..4).fold(!wanted, |crc, _| crc_step_back(crc, 0));
    back ^ !before.finalize()
}

/// The register of CRC-32 (IEEE 802.3) before it took in a byte.
fn crc_step_back(crc: u32, byte: u8) -> u32 {
    let register = (0..8).fold(crc, |crc, _| match crc >> 31 {
        0 => crc << 1,
        _ => (crc ^ 0xEDB8_8320) << 1 | 1,
    });
    register ^ u32::from(byte)
}

/// Starts the checksum of a frame's extension and payload. The seed is the log and not the segment, so that callers
/// can compute it before they know which segment will hold the frame.
pub fn body_crc(wal_uuid: &[u8; 16]) -> crc32fast::Hasher {
    crc32fast::Hasher::new_with_initial(crc32fast::hash(wal_uuid))
}

/// A frame, borrowed from its segment.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub header: FrameHeader,
    pub ext: &'a [u8],
    pub payload: &'a [u8],
}

/// The frame at `offset` in the bytes of a segment, if it is valid.
pub fn frame_at<'a>(
    segment: &'a [u8],
    offset: usize,
    salt: u32,
    wal_uuid: &[u8; 16],
) -> Result<Frame<'a>, FrameError> {
    let rest = segment.get(offset..).ok_or(FrameError::Empty)?;
    let (head, body) = rest.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(FrameError::Empty)?;
    let header = FrameHeader::decode(head, salt)?;
    let body = body.get(..header.body_bytes as usize).ok_or(FrameError::BadHeader)?;
    check_body(header, body, wal_uuid)
}

/// Checks the extension and the payload against their header.
pub fn check_body<'a>(
    header: FrameHeader,
    body: &'a [u8],
    wal_uuid: &[u8; 16],
) -> Result<Frame<'a>, FrameError> {
    let mut crc = body_crc(wal_uuid);
    crc.update(body);
    match body.split_at_checked(usize::from(header.ext_bytes)) {
        Some((ext, payload)) if crc.finalize() == header.body_crc => Ok(Frame { header, ext, payload }),
        _ => Err(FrameError::BadBody(header)),
    }
}

/// Offsets in `bytes` at which a frame may start, by a cheap check of the kind byte.
pub fn candidates(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (0..bytes.len()).step_by(ALIGN).filter(|at| {
        let kind = bytes.get(at.saturating_add(36)..at.saturating_add(38));
        matches!(kind, Some([1..=3, 0]))
    })
}

/// Payload of the first frame of a segment in use: where its numbers start and what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStart {
    /// The first DATA frame of the segment has this number, and each next one the next.
    pub base: Lsn,
    /// The segment before it, or `None` in the first segment of a log.
    pub predecessor: Option<Predecessor>,
}

/// How the previous segment ended. Its frames past this end, if any, were rewritten into this segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    pub id: SegmentId,
    /// Offset just after its last valid frame.
    pub end_offset: u64,
    /// The last LSN assigned before this segment started.
    pub last: Lsn,
}

impl SegmentStart {
    pub fn encode(&self) -> [u8; SEGSTART_BYTES] {
        // Id 0 is never assigned, so it can mean "no predecessor".
        let before =
            self.predecessor.unwrap_or(Predecessor { id: SegmentId(0), end_offset: 0, last: Lsn::NONE });
        let mut bytes = [0; SEGSTART_BYTES];
        let fields = [self.base.0, before.id.0, before.end_offset, before.last.0];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub fn decode(payload: &[u8]) -> Option<Self> {
        let id = SegmentId(u64_at(payload, 8)?);
        let before = Predecessor { id, end_offset: u64_at(payload, 16)?, last: Lsn(u64_at(payload, 24)?) };
        Some(Self { base: Lsn(u64_at(payload, 0)?), predecessor: (id.0 != 0).then_some(before) })
    }
}

/// Payload of the last frame of a segment that was rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Offset of the SEAL frame itself: just after the last DATA frame.
    pub end_offset: u64,
    /// DATA frames in the segment.
    pub frames: u64,
    /// LSN of the last of them.
    pub last: Lsn,
}

impl Seal {
    pub fn encode(&self) -> [u8; SEAL_BYTES] {
        let mut bytes = [0; SEAL_BYTES];
        for (to, field) in bytes.chunks_exact_mut(8).zip([self.end_offset, self.frames, self.last.0]) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub fn decode(payload: &[u8]) -> Option<Self> {
        Some(Self {
            end_offset: u64_at(payload, 0)?,
            frames: u64_at(payload, 8)?,
            last: Lsn(u64_at(payload, 16)?),
        })
    }
}

/// `0000000000000042.wal`
pub fn segment_name(id: SegmentId) -> String {
    format!("{id}.wal")
}

/// The inverse of [`segment_name`].
pub fn parse_segment_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".wal")?;
    let id = SegmentId(digits.parse().ok()?);
    (segment_name(id) == name).then_some(id)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the numbers of these tests are small")]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader { wal_uuid: [7; 16], id: SegmentId(42), generation: 99, capacity: 1 << 20, created: -5 }
    }

    fn frame(lsn: u64, ext: &[u8], payload: &[u8]) -> (FrameHeader, Vec<u8>) {
        let mut crc = body_crc(&header().wal_uuid);
        crc.update(ext);
        crc.update(payload);
        let frame = FrameHeader {
            kind: FrameKind::Data,
            lsn: Lsn(lsn),
            ts: 1_600_000_000_000_000,
            durable: Lsn(lsn - 1),
            body_bytes: u32::try_from(ext.len() + payload.len()).unwrap(),
            ext_bytes: u16::try_from(ext.len()).unwrap(),
            body_crc: crc.finalize(),
        };
        let mut bytes = frame.encode(header().salt()).to_vec();
        bytes.extend_from_slice(ext);
        bytes.extend_from_slice(payload);
        bytes.resize(frame.frame_bytes(), 0);
        (frame, bytes)
    }

    #[test]
    fn a_segment_header_survives_the_round_trip_and_no_flipped_bit_does() {
        let page = header().encode();
        assert_eq!(page.len(), HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&page), Ok(header()));
        for byte in 0..page.len() {
            let mut bad = page.clone();
            bad[byte] ^= 1;
            assert!(SegmentHeader::decode(&bad).is_err(), "byte {byte}");
        }
        assert_eq!(SegmentHeader::decode(&page[..100]), Err(HeaderError::Damaged));
        assert_eq!(SegmentHeader::decode(b""), Err(HeaderError::NotASegment));
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let mut page = header().encode();
        page[8] = 2;
        assert_eq!(SegmentHeader::decode(&page), Err(HeaderError::Newer(2)));
    }

    #[test]
    fn a_frame_survives_the_round_trip_and_no_flipped_bit_does() {
        let (expected, bytes) = frame(5, b"ext", b"payload");
        let read = frame_at(&bytes, 0, header().salt(), &header().wal_uuid).unwrap();
        assert_eq!((read.header, read.ext, read.payload), (expected, &b"ext"[..], &b"payload"[..]));
        for bit in 0..(FRAME_HEADER_BYTES + 10) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(frame_at(&bad, 0, header().salt(), &header().wal_uuid).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_segment_or_log_is_none() {
        let (_, bytes) = frame(5, b"", b"payload");
        let other = SegmentHeader { generation: 100, ..header() };
        assert_eq!(frame_at(&bytes, 0, other.salt(), &header().wal_uuid).unwrap_err(), FrameError::BadHeader);
        let log = [8; 16];
        assert!(matches!(frame_at(&bytes, 0, header().salt(), &log), Err(FrameError::BadBody(_))));
    }

    #[test]
    fn zeros_and_short_bytes_are_no_frame() {
        for len in 0..100 {
            assert_eq!(frame_at(&vec![0; len], 0, 1, &[0; 16]).unwrap_err(), FrameError::Empty);
        }
        let (_, bytes) = frame(5, b"", b"payload");
        let cut = &bytes[..FRAME_HEADER_BYTES + 3];
        assert_eq!(frame_at(cut, 0, header().salt(), &header().wal_uuid).unwrap_err(), FrameError::BadHeader);
    }

    #[test]
    fn segment_start_and_seal_survive_the_round_trip() {
        let before = Predecessor { id: SegmentId(3), end_offset: 4136, last: Lsn(9) };
        for predecessor in [None, Some(before)] {
            let start = SegmentStart { base: Lsn(10), predecessor };
            assert_eq!(SegmentStart::decode(&start.encode()), Some(start));
        }
        let seal = Seal { end_offset: 5000, frames: 12, last: Lsn(21) };
        assert_eq!(Seal::decode(&seal.encode()), Some(seal));
        assert_eq!(SegmentStart::decode(&[0; 31]), None);
    }

    #[test]
    fn segment_names_are_strict() {
        assert_eq!(segment_name(SegmentId(42)), "0000000000000042.wal");
        assert_eq!(parse_segment_name("0000000000000042.wal"), Some(SegmentId(42)));
        for name in ["42.wal", "0000000000000042.wal.zst", "+000000000000042.wal", "notes.txt", ".wal"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
