//! Reads the frames of one segment through a buffer, so that a small frame costs no system call of its own.
//!
//! A block that the medium cannot return counts as zeros (see [`LogFile::read_into`]), which no checksum accepts, so an
//! unreadable frame is an invalid frame.

use super::format::{self, FRAME_HEADER_BYTES, FrameError, FrameHeader, SegmentHeader};
use crate::storage::LogFile;
use std::sync::Arc;

/// How much is read at a time.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct FrameReader {
    file: Arc<LogFile>,
    salt: u32,
    wal_uuid: [u8; 16],
    /// Bytes of the file, from offset `at` on.
    buffer: Vec<u8>,
    at: u64,
}

impl FrameReader {
    pub(super) fn new(file: Arc<LogFile>, segment: &SegmentHeader) -> Self {
        Self { file, salt: segment.salt(), wal_uuid: segment.wal_uuid, buffer: Vec::new(), at: 0 }
    }

    /// The header of the frame at `offset`. Its body is not checked.
    pub(super) fn header(&mut self, offset: u64) -> Result<FrameHeader, FrameError> {
        let salt = self.salt;
        let head = self.bytes(offset, FRAME_HEADER_BYTES).and_then(<[u8]>::first_chunk);
        FrameHeader::decode(head.ok_or(FrameError::Empty)?, salt)
    }

    /// The header of the frame at `offset`, whose body matches its checksum and can be taken with
    /// [`FrameReader::body`].
    pub(super) fn frame(&mut self, offset: u64) -> Result<FrameHeader, FrameError> {
        let header = self.header(offset)?;
        let wal_uuid = self.wal_uuid;
        let frame = self.bytes(offset, FRAME_HEADER_BYTES + header.body_bytes as usize);
        let body = frame.and_then(|frame| frame.get(FRAME_HEADER_BYTES..)).ok_or(FrameError::BadHeader)?;
        format::check_body(header, body, &wal_uuid).map(|frame| frame.header)
    }

    /// The extension and the payload of the frame that was just read at `offset`.
    pub(super) fn body(&self, offset: u64, header: &FrameHeader) -> Option<(&[u8], &[u8])> {
        let from = usize::try_from(offset.checked_sub(self.at)?).ok()? + FRAME_HEADER_BYTES;
        let body = self.buffer.get(from..from + header.body_bytes as usize)?;
        body.split_at_checked(usize::from(header.ext_bytes))
    }

    /// Appends the whole frame that was just read at `offset`, as it is in the file, to `to`.
    pub(super) fn copy(&self, offset: u64, header: &FrameHeader, to: &mut Vec<u8>) {
        if let Some((ext, payload)) = self.body(offset, header) {
            to.extend_from_slice(&header.encode(self.salt));
            to.extend_from_slice(ext);
            to.extend_from_slice(payload);
            to.resize(to.len().next_multiple_of(format::ALIGN), 0);
        }
    }

    /// The first valid frame that starts in `[from, until)`, where `from` is a multiple of [`format::ALIGN`].
    pub(super) fn next(&mut self, from: u64, until: u64) -> Option<(u64, FrameHeader)> {
        self.find(from, until, |_| true)
    }

    /// The first valid frame that starts in `[from, until)` and whose header `wanted` accepts.
    pub(super) fn find(
        &mut self,
        from: u64,
        until: u64,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Option<(u64, FrameHeader)> {
        let mut at = from;
        while let Some((found, header)) = self.next_header(at, until) {
            if wanted(&header) && self.frame(found).is_ok() {
                return Some((found, header));
            }
            at = found + format::ALIGN as u64;
        }
        None
    }

    /// The first valid header in `[from, until)`.
    pub(super) fn next_header(&mut self, from: u64, until: u64) -> Option<(u64, FrameHeader)> {
        let mut at = from;
        while at < until {
            let salt = self.salt;
            let bytes = self.some_bytes(at, FRAME_HEADER_BYTES)?;
            let found = format::candidates(bytes).find_map(|candidate| {
                let head = bytes.get(candidate..)?.first_chunk()?;
                Some((candidate, FrameHeader::decode(head, salt).ok()?))
            });
            if let Some((candidate, header)) = found {
                let found = at + candidate as u64;
                return (found < until).then_some((found, header));
            }
            // Up to the first offset whose header is not wholly in the buffer.
            let searched = (bytes.len() - FRAME_HEADER_BYTES) / format::ALIGN * format::ALIGN + format::ALIGN;
            at += searched as u64;
        }
        None
    }

    /// `len` bytes from `offset` on; `None` if they are not all readable yet.
    fn bytes(&mut self, offset: u64, len: usize) -> Option<&[u8]> {
        self.some_bytes(offset, len)?.get(..len)
    }

    /// At least `len` bytes from `offset` on, and whatever follows them in the buffer.
    fn some_bytes(&mut self, offset: u64, len: usize) -> Option<&[u8]> {
        let held = |reader: &Self| {
            let from = usize::try_from(offset.checked_sub(reader.at)?).ok()?;
            (reader.buffer.len() >= from.checked_add(len)?).then_some(from)
        };
        if let Some(from) = held(self) {
            return self.buffer.get(from..);
        }
        self.fill(offset, len)?;
        Some(&self.buffer)
    }

    fn fill(&mut self, offset: u64, len: usize) -> Option<()> {
        let readable = usize::try_from(self.file.readable().checked_sub(offset)?).ok()?;
        if readable < len {
            return None;
        }
        let wanted = len.max(BUFFER_BYTES.min(readable));
        if self.buffer.capacity() > 2 * BUFFER_BYTES.max(wanted) {
            // It held a large frame.
            self.buffer = Vec::new();
        }
        self.at = offset;
        self.file.read_into(offset, wanted, &mut self.buffer)
    }
}
