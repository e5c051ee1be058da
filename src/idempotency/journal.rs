//! The idempotency keys of trimmed frames, kept in separate files until their window is over.
//!
//! The compactor passes every durable frame. Before it lets the log be trimmed, the keys of all frames that it has
//! passed are appended here and synced ([`Journal::sync`]). So each key of the window is always in the unconsumed part
//! of the log, in the journal, or in both; a start reads both. Only keys of durable frames are written here.
//!
//! `keys/<LSN of its first frame>.keys`: a header of 16 bytes, then records of 48 bytes, each with a checksum
//! (`docs/wal-format.md`). No two starts write the same file. A file is removed when the window of its last key is
//! over.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Fingerprint, KeyHash, KeyIndex, Stored};
use crate::batch::Batch;
use crate::clock::Micros;
use crate::error::{IoContext, IoError};
use crate::wal::Lsn;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"FBAYKEYS";
/// The layout version that this code writes and reads.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = 48;
/// The window is split into this many files, so that expired keys can be removed.
const FILES_PER_WINDOW: u32 = 24;
/// The maximum number of passed keys in memory: beyond it they are written early.
const PENDING_MAX: usize = 100_000;

/// The key files: see the module.
pub struct Journal {
    dir: PathBuf,
    index: Arc<KeyIndex>,
    /// Written files, each with the time of its last key.
    files: Vec<(PathBuf, u32)>,
    current: Option<Current>,
    /// The keys of all frames up to here are on disk, durably.
    written: Lsn,
    pending: Vec<(KeyHash, Stored)>,
}

/// The file being written.
struct Current {
    file: File,
    path: PathBuf,
    first_at: u32,
    last_at: u32,
}

impl Journal {
    /// Loads the keys that earlier starts left into the index.
    pub fn open(dir: &Path, index: Arc<KeyIndex>, now: Micros) -> Result<Self, IoError> {
        std::fs::create_dir_all(dir).context("create directory", dir)?;
        let mut journal = Self {
            dir: dir.to_owned(),
            index,
            files: Vec::new(),
            current: None,
            written: Lsn::NONE,
            pending: Vec::new(),
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).context("list directory", dir)? {
            let path = entry.context("list directory", dir)?.path();
            if path.extension().is_some_and(|extension| extension == "keys") {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        for path in paths {
            let last_at = journal.load(&path, now)?;
            journal.files.push((path, last_at));
        }
        journal.expire(now)?;
        Ok(journal)
    }

    /// Loads the keys of one file. Returns the time of the last one.
    fn load(&mut self, path: &Path, now: Micros) -> Result<u32, IoError> {
        let file = File::open(path).context("open key file", path)?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut header = [0; HEADER_BYTES];
        if !read_whole(&mut file, &mut header).context("read key file", path)? || header != self::header() {
            return unreadable(path, &header);
        }
        let (mut last_at, mut damaged) = (0, 0_u64);
        let mut bytes = [0; RECORD_BYTES];
        // An incomplete record was never synced: its frame is still in the log.
        while read_whole(&mut file, &mut bytes).context("read key file", path)? {
            let Some((key, stored)) = decode(&bytes) else {
                damaged = damaged.saturating_add(1);
                continue;
            };
            self.index.learn(key, stored, now);
            last_at = last_at.max(stored.at);
            if damaged == 0 {
                // Power loss may have destroyed a page and left the next: the following keys may have to be rewritten.
                self.written = self.written.max(stored.lsn);
            }
        }
        if damaged > 0 {
            tracing::warn!(file = %path.display(), damaged, "skipped corrupted idempotency keys; a repeat of their requests may be stored twice");
        }
        Ok(last_at)
    }

    /// Loads the key of a frame that an earlier start left in the log.
    pub fn found(&mut self, lsn: Lsn, ts: Micros, batch: &Batch<'_>, now: Micros) {
        if let Some((key, stored)) = Stored::from_batch(lsn, ts, batch) {
            self.index.learn(key, stored, now);
        }
    }

    /// Records that the compactor has read this frame, which is durable.
    pub fn passed(&mut self, lsn: Lsn, ts: Micros, batch: &Batch<'_>, now: Micros) -> Result<(), IoError> {
        let Some((key, stored)) = Stored::from_batch(lsn, ts, batch) else { return Ok(()) };
        self.index.learn(key, stored, now);
        if lsn > self.written && self.index.is_current(stored.at, now) {
            self.pending.push((key, stored));
        }
        if self.pending.len() >= PENDING_MAX { self.sync(now) } else { Ok(()) }
    }

    /// Records that the compactor returns to its last checkpoint and will pass the same frames again.
    pub fn rewind(&mut self) {
        self.pending.clear();
    }

    /// Records that the keys of the whole log are in the index: requests with a key may proceed.
    pub fn complete(&self) {
        if !self.index.is_complete() {
            tracing::debug!(keys = self.index.count(), "loaded the idempotency keys of earlier starts");
            self.index.complete();
        }
    }

    /// Whether [`Journal::complete`] was called.
    pub fn is_complete(&self) -> bool {
        self.index.is_complete()
    }

    /// Makes the keys of all passed frames durable. To be called before any of these frames is trimmed.
    pub fn sync(&mut self, now: Micros) -> Result<(), IoError> {
        self.expire(now)?;
        let (Some(first), Some(last)) = (self.pending.first(), self.pending.last()) else { return Ok(()) };
        let (first_lsn, first_at, last_lsn) = (first.1.lsn, first.1.at, last.1.lsn);
        let last_at = self.pending.iter().map(|(_, stored)| stored.at).max().unwrap_or(first_at);
        // If an operation below fails, later keys go to another file: after a failed sync the contents are unknown.
        let current = self.current.take().filter(|current| {
            let part = self.index.window_seconds() / FILES_PER_WINDOW;
            last_at.saturating_sub(current.first_at) <= part
        });
        let mut current = match current {
            Some(current) => current,
            None => self.begin(first_lsn, first_at)?,
        };
        let mut bytes = Vec::with_capacity(self.pending.len().saturating_mul(RECORD_BYTES));
        for (key, stored) in &self.pending {
            bytes.extend_from_slice(&encode(*key, stored));
        }
        current.file.write_all(&bytes).context("write key file", &current.path)?;
        current.file.sync_data().context("sync key file", &current.path)?;
        current.last_at = current.last_at.max(last_at);
        if let Some((_, at)) = self.files.iter_mut().rfind(|(path, _)| *path == current.path) {
            *at = current.last_at;
        }
        self.current = Some(current);
        self.written = last_lsn;
        self.pending.clear();
        Ok(())
    }

    fn begin(&mut self, first: Lsn, first_at: u32) -> Result<Current, IoError> {
        let path = self.dir.join(format!("{:020}.keys", first.0));
        // An existing file of this name belongs to a failed attempt after the same frame: its contents are not valid.
        let file = File::options().write(true).create(true).truncate(true).open(&path);
        let mut file = file.context("create key file", &path)?;
        file.write_all(&header()).context("write key file", &path)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).context("sync directory", &self.dir)?;
        self.files.retain(|(known, _)| *known != path);
        self.files.push((path.clone(), first_at));
        Ok(Current { file, path, first_at, last_at: first_at })
    }

    /// Removes the files whose keys are all older than the window.
    fn expire(&mut self, now: Micros) -> Result<(), IoError> {
        let current = self.current.as_ref().map(|current| current.path.clone());
        let over = |(path, last_at): &mut (PathBuf, u32)| {
            current.as_ref() != Some(path) && !self.index.is_current(*last_at, now)
        };
        for (path, _) in self.files.extract_if(.., over) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(IoError::new("remove key file", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Handles a file without a valid header. A file truncated by power loss holds no keys that count; a file of a newer
/// version may.
fn unreadable(path: &Path, header: &[u8; HEADER_BYTES]) -> Result<u32, IoError> {
    if header.starts_with(&MAGIC) {
        let reason =
            format!("its format version is not {VERSION}; start the version of Forebay that wrote it");
        return Err(IoError::new("read key file", path, std::io::Error::new(ErrorKind::InvalidData, reason)));
    }
    tracing::warn!(file = %path.display(), "ignoring an idempotency key file that was never synced; its keys are still in the log");
    Ok(0)
}

/// Fills the buffer. Returns false if the file ends before that.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn header() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    put(&mut bytes, 0, &MAGIC);
    put(&mut bytes, 8, &VERSION.to_le_bytes());
    bytes
}

fn encode(key: KeyHash, stored: &Stored) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    put(&mut bytes, 0, &key.0);
    put(&mut bytes, 16, &stored.lsn.0.to_le_bytes());
    for (at, number) in
        [(24, stored.fingerprint.crc), (28, stored.fingerprint.bytes), (32, stored.good), (36, stored.bad)]
    {
        put(&mut bytes, at, &number.to_le_bytes());
    }
    put(&mut bytes, 40, &stored.at.to_le_bytes());
    let crc = crc32fast::hash(bytes.split_at(44).0);
    put(&mut bytes, 44, &crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<(KeyHash, Stored)> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    if number(44)? != crc32fast::hash(bytes.get(..44)?) {
        return None;
    }
    let key = KeyHash(*bytes.first_chunk()?);
    let lsn = Lsn(u64::from_le_bytes(*bytes.get(16..)?.first_chunk()?));
    let fingerprint = Fingerprint { crc: number(24)?, bytes: number(28)? };
    Some((key, Stored { lsn, fingerprint, good: number(32)?, bad: number(36)?, at: number(40)? }))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
        to.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchHead, BodyKind, StreamId, Tag};
    use crate::idempotency::{Claim, seconds};
    use std::time::Duration;

    const NOW: Micros = 1_700_000_000_000_000;
    const HOUR: Micros = 3_600_000_000;

    fn index() -> Arc<KeyIndex> {
        Arc::new(KeyIndex::new(Duration::from_hours(24), 1000))
    }

    fn open(dir: &Path, now: Micros) -> (Journal, Arc<KeyIndex>) {
        let index = index();
        (Journal::open(dir, Arc::clone(&index), now).unwrap(), index)
    }

    fn key(n: u64) -> KeyHash {
        KeyHash::new(StreamId(1), &n.to_string())
    }

    fn stored(lsn: u64, at: Micros) -> Stored {
        let fingerprint = Fingerprint::of([&b"{}"[..]]);
        Stored { lsn: Lsn(lsn), fingerprint, good: 2, bad: 1, at: seconds(at) }
    }

    /// The compactor passes frame `n`, which has the key `n`.
    fn pass(journal: &mut Journal, n: u64, now: Micros) {
        let name = n.to_string();
        let head = BatchHead {
            good: 2,
            bad: 1,
            idempotency_key: Some(&name),
            ..BatchHead::new(StreamId(1), Tag::Tinybird, BodyKind::Lines)
        };
        journal.passed(Lsn(n), now, &Batch { head, body: b"{}", results: b"" }, now).unwrap();
    }

    /// What the index says of frame `n`'s key.
    async fn find(index: &Arc<KeyIndex>, n: u64, now: Micros) -> Option<Stored> {
        index.complete();
        match index.claim(key(n), stored(n, now).fingerprint, now, Duration::ZERO).await {
            Claim::Repeat(stored) => Some(stored),
            _ => None,
        }
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[tokio::test]
    async fn what_was_synced_is_found_again_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path(), NOW);
        pass(&mut journal, 1, NOW);
        pass(&mut journal, 2, NOW);
        journal.sync(NOW).unwrap();
        pass(&mut journal, 3, NOW);
        let (mut again, index) = open(dir.path(), NOW);
        assert_eq!(find(&index, 1, NOW).await, Some(stored(1, NOW)));
        assert_eq!(find(&index, 2, NOW).await, Some(stored(2, NOW)));
        assert_eq!(find(&index, 3, NOW).await, None);
        // What is on disk is not written twice, however often the compactor passes it.
        pass(&mut again, 2, NOW);
        again.sync(NOW).unwrap();
        assert_eq!(files(dir.path()), 1);
        pass(&mut again, 3, NOW);
        again.sync(NOW).unwrap();
        assert_eq!(files(dir.path()), 2, "a start begins a file of its own");
    }

    #[tokio::test]
    async fn files_go_when_the_window_of_all_their_keys_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path(), NOW);
        for hour in 0..30 {
            let now = NOW + hour * HOUR;
            pass(&mut journal, hour.unsigned_abs(), now);
            journal.sync(now).unwrap();
        }
        assert!((12..=26).contains(&files(dir.path())), "{} files", files(dir.path()));
        let (_, index) = open(dir.path(), NOW + 29 * HOUR);
        assert_eq!(find(&index, 29, NOW + 29 * HOUR).await.unwrap().lsn, Lsn(29));
        assert_eq!(find(&index, 6, NOW + 29 * HOUR).await.unwrap().lsn, Lsn(6));
        assert_eq!(find(&index, 5, NOW + 29 * HOUR).await, None);
        open(dir.path(), NOW + 60 * HOUR);
        assert_eq!(files(dir.path()), 0);
    }

    #[tokio::test]
    async fn a_torn_end_and_a_damaged_record_cost_themselves_only() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path(), NOW);
        for n in 1..=3 {
            pass(&mut journal, n, NOW);
        }
        journal.sync(NOW).unwrap();
        let path = dir.path().join(format!("{:020}.keys", 1));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER_BYTES + RECORD_BYTES + 3] ^= 1;
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, &bytes).unwrap();
        let (_, index) = open(dir.path(), NOW);
        assert_eq!(find(&index, 1, NOW).await, Some(stored(1, NOW)));
        assert_eq!(find(&index, 2, NOW).await, None);
        assert_eq!(find(&index, 3, NOW).await, None);
    }

    #[tokio::test]
    async fn keys_behind_a_page_that_power_loss_took_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path(), NOW);
        for n in 1..=3 {
            pass(&mut journal, n, NOW);
        }
        journal.sync(NOW).unwrap();
        let path = dir.path().join(format!("{:020}.keys", 1));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER_BYTES + RECORD_BYTES..][..RECORD_BYTES].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let (mut journal, _) = open(dir.path(), NOW);
        for n in 1..=3 {
            pass(&mut journal, n, NOW);
        }
        journal.sync(NOW).unwrap();
        let (_, index) = open(dir.path(), NOW);
        for n in 1..=3 {
            assert_eq!(find(&index, n, NOW).await, Some(stored(n, NOW)));
        }
    }

    #[test]
    fn a_newer_file_stops_the_start_and_an_empty_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.keys");
        let mut newer = header();
        newer[8] = 9;
        std::fs::write(&path, newer).unwrap();
        let error = Journal::open(dir.path(), index(), NOW).err().unwrap();
        assert!(crate::error::chain(&error).contains("format version"), "{error}");
        for blank in [&b""[..], &[0; 64]] {
            std::fs::write(&path, blank).unwrap();
            Journal::open(dir.path(), index(), NOW).unwrap();
            assert!(!path.exists(), "nothing in it counts");
        }
    }
}
