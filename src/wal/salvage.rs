//! Reconstructs what is damaged from what its checksums prove.
//!
//! The body checksum of a frame knows the log and not the segment, so the frames of a segment whose header page is lost
//! are found by themselves. Their header checksums are seeded with the segment's salt, and a CRC can be run backwards:
//! one frame gives the salt, and the salt gives a generation that yields it.

use super::format::{self, ALIGN, FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, SegmentHeader};
use super::lsn::SegmentId;

/// How far into a segment its first frame is searched at a time.
const SEARCH_BYTES: usize = 1 << 20;
/// The bodies that are checked have at most this many times the size of the file.
const BODIES_TIMES: u64 = 4;

/// A header under which the frames of a segment with a damaged header page are valid. The name and the length of the
/// file give its id and capacity, and the catalog gives the identity of the log; without a catalog the page does.
/// `None` if no frame of the log is in the file. `read` returns up to that many bytes from an offset on.
pub fn header(
    read: impl Fn(u64, usize) -> Option<Vec<u8>>,
    id: SegmentId,
    capacity: u64,
    wal_uuid: Option<[u8; 16]>,
) -> Option<SegmentHeader> {
    let page = read(0, HEADER_BYTES)?;
    let created = format::u64_at(&page, 56)?.cast_signed();
    let wal_uuid = wal_uuid.or_else(|| page.get(16..32)?.try_into().ok())?;
    let mut at = HEADER_BYTES as u64;
    // What looks like a header by chance claims a body of any length.
    let mut budget = capacity.saturating_mul(BODIES_TIMES);
    while at < capacity {
        let bytes = read(at, SEARCH_BYTES)?;
        let found = format::candidates(&bytes).find_map(|candidate| {
            let head = bytes.get(candidate..)?.first_chunk::<FRAME_HEADER_BYTES>()?;
            let salt = format::salt_of(head);
            let header = FrameHeader::decode(head, salt).ok()?;
            let body_at = at + (candidate + FRAME_HEADER_BYTES) as u64;
            let len = header.body_bytes as usize;
            let end = body_at.checked_add(u64::from(header.body_bytes)).filter(|end| *end <= capacity)?;
            budget = budget.checked_sub(end - body_at)?;
            let body = read(body_at, len).filter(|body| body.len() == len)?;
            format::check_body(header, &body, &wal_uuid).ok()?;
            generation(&wal_uuid, id, salt)
        });
        if let Some(generation) = found {
            return Some(SegmentHeader { wal_uuid, id, generation, capacity, created });
        }
        // A header at the end of the chunk is found in the next one.
        at += (bytes.len().max(2 * FRAME_HEADER_BYTES) - FRAME_HEADER_BYTES).next_multiple_of(ALIGN) as u64;
    }
    None
}

/// A generation with which a segment has this salt. The salt has its lowest bit set, whatever the checksum had.
fn generation(wal_uuid: &[u8; 16], id: SegmentId, salt: u32) -> Option<u64> {
    let mut before = crc32fast::Hasher::new();
    before.update(wal_uuid);
    before.update(&id.0.to_le_bytes());
    before.update(&[0; 4]);
    let header = |generation| SegmentHeader { wal_uuid: *wal_uuid, id, generation, capacity: 0, created: 0 };
    [salt, salt ^ 1].into_iter().find_map(|crc| {
        // The last four bytes of the generation take the checksum to any value.
        let found = u64::from(format::crc_suffix(before.clone(), crc)) << 32;
        (header(found).salt() == salt).then_some(found)
    })
}

/// The header of a frame of which one byte is damaged. `bytes` begins with it.
pub fn frame_header(bytes: &[u8], salt: u32) -> Option<FrameHeader> {
    let head: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
    if head.iter().all(|byte| *byte == 0) {
        return None;
    }
    (0..FRAME_HEADER_BYTES).find_map(|at| {
        (0..=u8::MAX).find_map(|value| {
            let mut tried = *head;
            *tried.get_mut(at)? = value;
            FrameHeader::decode(&tried, salt).ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::format::{FrameKind, body_crc};
    use crate::wal::lsn::Lsn;

    fn segment(generation: u64) -> (SegmentHeader, Vec<u8>) {
        let header =
            SegmentHeader { wal_uuid: [9; 16], id: SegmentId(77), generation, capacity: 1 << 20, created: 5 };
        let mut bytes = header.encode();
        for lsn in 1..4 {
            let body = [7_u8; 100];
            let mut crc = body_crc(&header.wal_uuid);
            crc.update(&body);
            let frame = FrameHeader {
                kind: FrameKind::Data,
                lsn: Lsn(lsn),
                ts: 5,
                durable: Lsn(0),
                body_bytes: 100,
                ext_bytes: 0,
                body_crc: crc.finalize(),
            };
            bytes.extend_from_slice(&frame.encode(header.salt()));
            bytes.extend_from_slice(&body);
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        }
        bytes.resize(1 << 20, 0);
        (header, bytes)
    }

    fn salvaged(bytes: &[u8]) -> Option<SegmentHeader> {
        let read = |at: u64, len: usize| {
            let from = usize::try_from(at).ok()?.min(bytes.len());
            Some(bytes[from..(from + len).min(bytes.len())].to_vec())
        };
        header(read, SegmentId(77), 1 << 20, Some([9; 16]))
    }

    #[test]
    fn any_readable_frame_gives_back_the_header() {
        for generation in [1, 99, 0xDEAD_BEEF_0000_0000, u64::MAX] {
            let (header, mut bytes) = segment(generation);
            bytes[..HEADER_BYTES].fill(0);
            let found = salvaged(&bytes).unwrap();
            assert_eq!(found.salt(), header.salt(), "all its frames are valid");
            // The first frame is damaged too.
            bytes[HEADER_BYTES + 60] ^= 1;
            assert_eq!(salvaged(&bytes).unwrap().salt(), header.salt());
        }
        assert_eq!(salvaged(&vec![0; 1 << 20]), None);
        assert_eq!(salvaged(&vec![1; 1 << 20]), None);
    }

    #[test]
    fn a_frame_header_with_one_damaged_byte_is_read() {
        let (header, bytes) = segment(3);
        let frame = &bytes[HEADER_BYTES..HEADER_BYTES + FRAME_HEADER_BYTES];
        let expected = FrameHeader::decode(frame.first_chunk().unwrap(), header.salt()).unwrap();
        for at in 0..FRAME_HEADER_BYTES {
            let mut damaged = frame.to_vec();
            damaged[at] ^= 0x55;
            assert_eq!(frame_header(&damaged, header.salt()), Some(expected), "byte {at}");
        }
        assert_eq!(frame_header(&[0; FRAME_HEADER_BYTES], header.salt()), None);
    }
}
