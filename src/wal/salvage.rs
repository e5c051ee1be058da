//! Reconstructs a damaged segment header from the known fields and proves it by the frame after it.

use super::format::{self, FrameKind, HEADER_BYTES, SegmentHeader, SegmentStart};
use super::lsn::SegmentId;

/// Bytes at the start of a segment that are examined.
pub const PROOF_BYTES: usize = HEADER_BYTES + format::FRAME_HEADER_BYTES + format::SEGSTART_BYTES;

/// The original header of a segment with a damaged header page, if its first frame proves it. The name and the length
/// of the file give its id and capacity, and the catalog may give the identity of the log; of the generation, which
/// is stored nowhere else, one byte may be wrong. `start` is the first [`PROOF_BYTES`] of the file or more.
pub fn header(
    start: &[u8],
    id: SegmentId,
    capacity: u64,
    wal_uuid: Option<[u8; 16]>,
) -> Option<SegmentHeader> {
    let field = |at: usize| Some(u64::from_le_bytes(*start.get(at..)?.first_chunk()?));
    let header = SegmentHeader {
        wal_uuid: wal_uuid.or_else(|| start.get(16..32)?.try_into().ok())?,
        id,
        generation: field(40)?,
        capacity,
        created: field(56)?.cast_signed(),
    };
    let generations = (0..8_u32).flat_map(|byte| (0..=u8::MAX).map(move |value| (byte * 8, value)));
    generations
        .map(|(shift, value)| {
            let cleared = header.generation & !(0xff << shift);
            SegmentHeader { generation: cleared | u64::from(value) << shift, ..header }
        })
        .find(|header| proved(start, header))
}

/// Whether the first frame is valid under this header, which seeds its checksums.
fn proved(start: &[u8], header: &SegmentHeader) -> bool {
    let first = format::frame_at(start, HEADER_BYTES, header.salt(), &header.wal_uuid);
    first.is_ok_and(|first| {
        first.header.kind == FrameKind::Start && SegmentStart::decode(first.payload).is_some()
    })
}
