//! Frame and segment headers from any bytes: no panic, and an accepted header is exactly the one that would be written.
#![no_main]

use forebay::wal::format::{self, FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, Seal, SegmentHeader, SegmentStart};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let salt = data.first().map_or(1, |byte| u32::from(*byte) | 1);
    for at in 0..data.len() {
        // As a frame anywhere in a segment.
        if let Ok(frame) = format::frame_at(data, at, salt, &[7; 16]) {
            assert_eq!(frame.ext.len() + frame.payload.len(), frame.header.body_bytes as usize);
        }
    }
    if let Some(bytes) = data.first_chunk::<FRAME_HEADER_BYTES>() {
        // As a header with a corrected checksum, so that its fields are tested as well.
        let mut bytes = *bytes;
        let crc = header_crc(&bytes, salt).to_le_bytes();
        bytes[4..8].copy_from_slice(&crc);
        if let Ok(header) = FrameHeader::decode(&bytes, salt) {
            assert_eq!(header.encode(salt), bytes);
            assert!(header.frame_bytes() >= FRAME_HEADER_BYTES);
        }
    }
    if let Ok(header) = SegmentHeader::decode(data) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        assert!(data.len() >= HEADER_BYTES);
    }
    if let Some(start) = SegmentStart::decode(data) {
        assert_eq!(SegmentStart::decode(&start.encode()), Some(start));
    }
    if let Some(seal) = Seal::decode(data) {
        assert_eq!(seal.encode()[..], data[..format::SEAL_BYTES]);
    }
    assert!(format::candidates(data).all(|at| at % format::ALIGN == 0 && at < data.len()));
});

/// CRC-32 with an initial value, as defined in `docs/wal-format.md`, bit by bit: independent of the code under test.
fn header_crc(bytes: &[u8; FRAME_HEADER_BYTES], initial: u32) -> u32 {
    let covered = bytes[..4].iter().chain(&bytes[8..]);
    let mut crc = !initial;
    for byte in covered {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
