//! One append-only file: its reservations, and the bytes that readers may see.

use super::Region;
use crate::error::{IoContext, IoError, chain};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of live reservations of one file. A reservation lives for one memory copy and never across an await,
/// so the number of threads bounds them; past the limit a caller yields and retries.
const LIVE_MAX: usize = 64;

/// An open log file, shared by its appender, its reservations and its readers.
pub struct LogFile {
    path: PathBuf,
    region: Box<dyn Region>,
    /// Readers may see `[0, readable)`. Never shrinks.
    readable: AtomicU64,
    live: LiveReservations,
    /// Offsets of the blocks that the medium could not return.
    unreadable: Mutex<BTreeSet<u64>>,
}

/// A failed read is repeated in blocks of this size, a page, so that it costs no more bytes than the medium lost.
/// (The simulated disk loses sectors.)
pub const BLOCK_BYTES: u64 = if cfg!(test) { 512 } else { 4096 };

/// The live reservations: a bit per free slot, and the start and tag of each slot in use.
struct LiveReservations {
    free: AtomicU64,
    start: [AtomicU64; LIVE_MAX],
    tag: [AtomicU64; LIVE_MAX],
}

impl LogFile {
    pub(super) fn new(path: &Path, region: Box<dyn Region>) -> Arc<Self> {
        let len = region.len();
        Arc::new(Self {
            path: path.to_owned(),
            region,
            readable: AtomicU64::new(len),
            live: LiveReservations {
                free: AtomicU64::new(u64::MAX),
                start: [const { AtomicU64::new(0) }; LIVE_MAX],
                tag: [const { AtomicU64::new(0) }; LIVE_MAX],
            },
            unreadable: Mutex::default(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file in bytes, fixed at allocation.
    pub fn capacity(&self) -> u64 {
        self.region.len()
    }

    /// The bytes `[offset, offset + len)`, or `None` if not all of them are readable yet. See [`LogFile::read_into`].
    pub fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(offset, len, &mut bytes)?;
        Some(bytes)
    }

    /// Replaces `into` with the bytes `[offset, offset + len)`; `None` if not all of them are readable yet.
    ///
    /// Bytes that the medium cannot return are zeros in it. That is safe because every frame has a checksum: a frame
    /// that reads as valid is valid. [`LogFile::unreadable`] lists them.
    pub fn read_into(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> Option<()> {
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        if end > self.readable() {
            return None;
        }
        into.resize(len, 0);
        if let Err(error) = self.region.read(offset, into) {
            self.read_blocks(offset, into, &error);
        }
        Some(())
    }

    /// Reads block by block what could not be read at once.
    fn read_blocks(&self, offset: u64, into: &mut [u8], error: &std::io::Error) {
        let mut unreadable = self.unreadable.lock();
        let known = unreadable.len();
        read_blocks(offset, into, &mut unreadable, |at, part| self.region.read(at, part));
        if unreadable.len() > known {
            let (path, blocks) = (self.path.display(), unreadable.len() - known);
            tracing::error!(file = %path, offset, blocks, error = %chain(error), "the disk cannot return a part of a log segment; what it held is reported as lost");
        }
    }

    /// Offsets of the blocks of [`BLOCK_BYTES`] that could not be read so far.
    pub fn unreadable(&self) -> Vec<u64> {
        self.unreadable.lock().iter().copied().collect()
    }

    /// The end of the readable bytes.
    pub fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    /// Makes everything written so far durable. After an error, the state of every byte since the last success is
    /// unknown, and the result of a second attempt cannot be trusted.
    pub fn sync(&self) -> Result<(), IoError> {
        self.region.sync().context("sync log segment", &self.path)
    }

    /// Releases the memory of `[0, upto)` to the page cache, so that the log does not count towards the memory of a
    /// process that only passes through it.
    pub fn release(&self, upto: u64) {
        self.region.release(upto.min(self.readable()));
    }

    /// The only appender of a file that was just opened. From now on readers see only what it publishes; it starts at
    /// `head`, and everything before `head` stays readable.
    pub fn appender(self: &Arc<Self>, head: u64) -> Appender {
        assert!(head <= self.capacity(), "an appender starts inside its file");
        let before = self.readable.swap(head, Ordering::AcqRel);
        assert!(before == self.capacity(), "a file has one appender");
        Appender { file: Arc::clone(self), head }
    }
}

/// Fills `into` block by block. What `read` cannot return, and the blocks that are in `unreadable` already, becomes
/// zeros; their offsets are added.
pub(super) fn read_blocks(
    offset: u64,
    into: &mut [u8],
    unreadable: &mut BTreeSet<u64>,
    mut read: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
) {
    let mut at = offset;
    let mut rest = into;
    while !rest.is_empty() {
        let block = at - at % BLOCK_BYTES;
        let len = usize::try_from(block + BLOCK_BYTES - at).map_or(rest.len(), |len| len.min(rest.len()));
        let (part, tail) = rest.split_at_mut(len);
        if unreadable.contains(&block) || read(at, part).is_err() {
            part.fill(0);
            unreadable.insert(block);
        }
        at += len as u64;
        rest = tail;
    }
}

/// Why a reservation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveError {
    /// The file does not have enough room left.
    NoRoom,
    /// Too many reservations are alive; one of them ends within the time of a memory copy.
    Busy,
}

/// The right to reserve the rest of one file, in order. Each file has one.
pub struct Appender {
    file: Arc<LogFile>,
    head: u64,
}

impl Appender {
    pub fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    /// The start of the next reservation.
    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn room(&self) -> u64 {
        self.file.capacity() - self.head
    }

    /// Reserves the next `len` bytes. `tag` is the caller's label for them, see [`Appender::oldest_live`].
    pub fn reserve(&mut self, len: usize, tag: u64) -> Result<Reservation, ReserveError> {
        let end = u64::try_from(len).ok().and_then(|len| self.head.checked_add(len));
        let end = end.filter(|end| *end <= self.file.capacity()).ok_or(ReserveError::NoRoom)?;
        let live = &self.file.live;
        let free = live.free.load(Ordering::Acquire);
        if free == 0 {
            return Err(ReserveError::Busy);
        }
        let slot = free.trailing_zeros() as usize;
        live.start[slot].store(self.head, Ordering::Relaxed);
        live.tag[slot].store(tag, Ordering::Relaxed);
        live.free.fetch_and(!(1 << slot), Ordering::Release);
        let (file, start) = (Arc::clone(&self.file), self.head);
        let reservation = Reservation { file, start, at: start, end, slot };
        self.head = end;
        Ok(reservation)
    }

    /// Offset and tag of the oldest reservation that is still being written, if any.
    pub fn oldest_live(&self) -> Option<(u64, u64)> {
        let live = &self.file.live;
        let mut used = !live.free.load(Ordering::Acquire);
        let mut oldest: Option<(u64, u64)> = None;
        while used != 0 {
            let slot = used.trailing_zeros() as usize;
            used &= used - 1;
            let start = live.start[slot].load(Ordering::Relaxed);
            if oldest.is_none_or(|(least, _)| start < least) {
                oldest = Some((start, live.tag[slot].load(Ordering::Relaxed)));
            }
        }
        oldest
    }

    /// Makes `[0, upto)` visible to readers: at most everything below the oldest live reservation.
    pub fn publish(&self, upto: u64) {
        let settled = self.oldest_live().map_or(self.head, |(start, _)| start);
        assert!(upto <= settled, "published bytes are never written again");
        self.file.readable.fetch_max(upto, Ordering::AcqRel);
    }
}

/// A range of a file that only its owner may write, front to back, after a head that is written last. Dropping it ends
/// the writing.
pub struct Reservation {
    file: Arc<LogFile>,
    start: u64,
    at: u64,
    end: u64,
    slot: usize,
}

impl Reservation {
    /// Leaves room for a head at the start of the range: the first thing to do.
    pub fn leave_head(&mut self, len: usize) {
        assert!(
            self.at == self.start && len as u64 <= self.end - self.at,
            "the head is the start of the range"
        );
        self.at += len as u64;
    }

    /// Writes the head: the last thing to do. A process that dies before it leaves nothing that looks like a frame.
    pub fn write_head(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        assert!(bytes.len() as u64 <= self.at - self.start, "the head is before what was written");
        self.file.region.copy_in(self.start, bytes).context("append to log segment", &self.file.path)
    }

    /// Copies `bytes` to the front of the unwritten rest of the range.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        assert!(len <= self.end - self.at, "a reservation is not written past its end");
        self.file.region.copy_in(self.at, bytes).context("append to log segment", &self.file.path)?;
        self.at += len;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Release: a thread that sees the slot free (Acquire, in `oldest_live`) also sees the bytes.
        self.file.live.free.fetch_or(1 << self.slot, Ordering::Release);
    }
}
