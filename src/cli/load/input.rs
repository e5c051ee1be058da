//! Reads records from a file or standard input, in batches.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks read ahead.
const CHUNKS_AHEAD: usize = 8;

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) rows: u64,
    pub(super) bytes: usize,
    pub(super) wait: Duration,
}

/// A batch of whole lines.
#[derive(Debug)]
pub(super) struct LineBatch {
    pub(super) body: Vec<u8>,
    /// Number of the first line in the input, starting at 1.
    pub(super) first_line: u64,
    /// Bytes of the file read so far, before decompression.
    pub(super) read_bytes: u64,
}

/// An open file, decompressed if it is gzip.
pub(super) struct InputFile {
    reader: Box<dyn Read + Send>,
    read_bytes: Arc<AtomicU64>,
}

/// A reader that counts its bytes.
struct Counted<R> {
    inner: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl InputFile {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        if path == Path::new("-") { Self::new(std::io::stdin()) } else { Self::new(File::open(path)?) }
    }

    fn new(inner: impl Read + Send + 'static) -> std::io::Result<Self> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let mut reader =
            BufReader::with_capacity(CHUNK_BYTES, Counted { inner, read_bytes: Arc::clone(&read_bytes) });
        let gzip = reader.fill_buf()?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn Read + Send> =
            if gzip { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
        Ok(Self { reader, read_bytes })
    }

    /// Reads on a separate thread, because a terminal or a pipe may block.
    fn read_on_a_thread(mut self) -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match self.reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(read) => Ok(read),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                let chunk = read.map(|read| {
                    chunk.truncate(read);
                    chunk
                });
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        receiver
    }
}

/// Cuts the input into batches.
pub(super) struct Batches {
    chunks: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    read_bytes: Arc<AtomicU64>,
    limits: BatchLimits,
    pending: Vec<u8>,
    /// Where the next batch ends in `pending`, as far as it was searched: after a line feed.
    cut: usize,
    /// Lines before the cut.
    lines: u64,
    /// How far `pending` was searched for line feeds.
    searched: usize,
    next_line: u64,
    /// The deadline for sending the oldest line in `pending`.
    due: Option<Instant>,
    ended: bool,
}

impl Batches {
    pub(super) fn new(source: InputFile, limits: BatchLimits) -> Self {
        Self {
            read_bytes: Arc::clone(&source.read_bytes),
            chunks: source.read_on_a_thread(),
            limits,
            pending: Vec::new(),
            cut: 0,
            lines: 0,
            searched: 0,
            next_line: 1,
            due: None,
            ended: false,
        }
    }

    /// The next batch: a full one, one whose wait is over, or the rest at the end of the input.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<LineBatch>> {
        loop {
            if self.is_full() || (self.ended && self.cut > 0) {
                return Ok(Some(self.take()));
            }
            if self.ended {
                return Ok(None);
            }
            let chunk = match self.due.filter(|_| self.cut > 0) {
                Some(due) => match tokio::time::timeout_at(due, self.chunks.recv()).await {
                    Ok(chunk) => chunk,
                    Err(_) => return Ok(Some(self.take())),
                },
                None => self.chunks.recv().await,
            };
            if let Some(chunk) = chunk {
                self.pending.extend_from_slice(&chunk?);
                continue;
            }
            self.ended = true;
            if self.pending.last().is_some_and(|last| *last != b'\n') {
                self.pending.push(b'\n');
            }
        }
    }

    /// Moves the cut forward, line by line, while the batch may grow. Returns whether the batch is full.
    fn is_full(&mut self) -> bool {
        while let Some(at) = memchr::memchr(b'\n', &self.pending[self.searched..]) {
            let end = self.searched + at + 1;
            if self.lines > 0 && end > self.limits.bytes {
                return true;
            }
            (self.cut, self.searched) = (end, end);
            self.lines += 1;
            if self.lines >= self.limits.rows || end >= self.limits.bytes {
                return true;
            }
        }
        self.searched = self.pending.len();
        if self.cut > 0 && self.due.is_none() {
            self.due = Some(Instant::now() + self.limits.wait);
        }
        false
    }

    fn take(&mut self) -> LineBatch {
        let rest = self.pending.split_off(self.cut);
        let body = std::mem::replace(&mut self.pending, rest);
        let first_line = self.next_line;
        self.next_line += self.lines;
        (self.cut, self.lines, self.searched, self.due) = (0, 0, 0, None);
        LineBatch { body, first_line, read_bytes: self.read_bytes.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::{Cursor, Write};

    async fn batches(input: impl Read + Send + 'static, rows: u64, bytes: usize) -> Vec<(u64, String)> {
        let limits = BatchLimits { rows, bytes, wait: Duration::from_hours(1) };
        let mut batches = Batches::new(InputFile::new(input).unwrap(), limits);
        let mut all = Vec::new();
        while let Some(batch) = batches.next().await.unwrap() {
            all.push((batch.first_line, String::from_utf8(batch.body).unwrap()));
        }
        all
    }

    fn expected(batches: &[(u64, &str)]) -> Vec<(u64, String)> {
        batches.iter().map(|(line, body)| (*line, (*body).to_owned())).collect()
    }

    #[tokio::test]
    async fn batches_end_at_rows_at_bytes_and_at_the_end() {
        let input = "1\n2\n3\n44444444\n5";
        let by_rows = batches(Cursor::new(input), 2, 1000).await;
        assert_eq!(by_rows, expected(&[(1, "1\n2\n"), (3, "3\n44444444\n"), (5, "5\n")]));
        let by_bytes = batches(Cursor::new(input), 100, 5).await;
        assert_eq!(by_bytes, expected(&[(1, "1\n2\n"), (3, "3\n"), (4, "44444444\n"), (5, "5\n")]));
        assert_eq!(batches(Cursor::new(""), 2, 1000).await, expected(&[]));
    }

    #[tokio::test]
    async fn gzip_of_many_members_is_read_to_its_end() {
        let mut bytes = Vec::new();
        for text in ["1\n2\n", "3\n"] {
            let mut encoder = GzEncoder::new(&mut bytes, flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        assert_eq!(batches(Cursor::new(bytes.clone()), 100, 1000).await, expected(&[(1, "1\n2\n3\n")]));
        bytes.truncate(bytes.len() - 4);
        let limits = BatchLimits { rows: 100, bytes: 1000, wait: Duration::from_hours(1) };
        let mut cut_short = Batches::new(InputFile::new(Cursor::new(bytes)).unwrap(), limits);
        assert!(cut_short.next().await.is_err());
    }

    #[tokio::test]
    async fn a_batch_that_is_not_full_is_sent_after_its_wait() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"1\n2").unwrap();
        let limits = BatchLimits { rows: 100, bytes: 1000, wait: Duration::from_millis(10) };
        let source = tokio::task::spawn_blocking(move || InputFile::new(reader)).await.unwrap().unwrap();
        let mut batches = Batches::new(source, limits);
        assert_eq!(batches.next().await.unwrap().unwrap().body, b"1\n");
        drop(writer);
        assert_eq!(batches.next().await.unwrap().unwrap().body, b"2\n");
        assert!(batches.next().await.unwrap().is_none());
    }
}
