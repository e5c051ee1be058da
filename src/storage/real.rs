//! Storage on the file system of the operating system.

use super::log_file::read_blocks;
use super::mmap::{MmapRegion, PwriteRegion, resident_part};
use super::{LogFile, NewFile, Region, Storage, StoredFile};
use crate::error::{IoContext, IoError};
use rustix::fs::{Advice, FallocateFlags};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A new log file is filled with zeros in writes of this size. It determines the size of the page cache's folios, and
/// so how much a later store dirties: a lone sync writes one folio, and a burst takes a page fault per folio. With 1
/// MiB, every lone sync would write 1 MiB.
const ZERO_CHUNK_BYTES: usize = 32 * 1024;

/// File systems whose blocks stay in place once written, so that a store into a mapped, allocated page cannot fail:
/// ext2/3/4, XFS, tmpfs (`statfs(2)`).
const MMAP_FILE_SYSTEMS: [i64; 3] = [0xEF53, 0x5846_5342, 0x0102_1994];

#[derive(Debug, Default, Clone, Copy)]
pub struct RealStorage;

impl RealStorage {
    fn uses_mmap(dir: &Path) -> bool {
        // An unknown file system gets the back end that works everywhere.
        rustix::fs::statfs(dir).is_ok_and(|fs| MMAP_FILE_SYSTEMS.contains(&fs.f_type))
    }
}

impl Storage for RealStorage {
    fn create_dir(&self, dir: &Path) -> Result<(), IoError> {
        if dir.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(dir).context("create directory", dir)?;
        match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, IoError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).context("list directory", dir)? {
            let entry = entry.context("list directory", dir)?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn allocate(&self, path: &Path, len: u64, head: &[u8]) -> Result<(), IoError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .context("create log segment", path)?;
        let filled = reserve_blocks(&file, len)
            .and_then(|()| fill(&file, len, head))
            .and_then(|()| file.sync_all())
            .context("allocate log segment", path);
        if filled.is_err() {
            // The error is returned; an incomplete file must not keep the space that ran out.
            let removed = std::fs::remove_file(path);
            debug_assert!(removed.is_ok(), "{removed:?}");
        }
        filled
    }

    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let file = OpenOptions::new().write(true).open(path).context("open log segment", path)?;
        let mut at = offset;
        let mut copy = Vec::with_capacity(ZERO_CHUNK_BYTES.min(bytes.len()));
        for chunk in bytes.chunks(ZERO_CHUNK_BYTES) {
            // `bytes` may be a mapping of this file.
            copy.clear();
            copy.extend_from_slice(chunk);
            file.write_all_at(&copy, at).context("rewrite log segment", path)?;
            at += chunk.len() as u64;
        }
        file.sync_data().context("sync log segment", path)
    }

    fn open_log(&self, path: &Path) -> Result<Arc<LogFile>, IoError> {
        let file = OpenOptions::new().read(true).write(true).open(path).context("open log segment", path)?;
        let region: Box<dyn Region> = if Self::uses_mmap(path) {
            Box::new(MmapRegion::new(file).context("map log segment", path)?)
        } else {
            Box::new(PwriteRegion::new(file).context("map log segment", path)?)
        };
        Ok(LogFile::new(path, region))
    }

    fn is_resident(&self, path: &Path) -> bool {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .and_then(|file| resident_part(&file))
            .is_ok_and(|part| part >= 0.9)
    }

    fn read_back(&self, path: &Path) -> Result<(), IoError> {
        let file = File::open(path).context("open log segment", path)?;
        // Read-ahead would bring the missing pages in as large folios.
        rustix::fs::fadvise(&file, 0, None, Advice::Random)
            .map_err(io::Error::from)
            .and_then(|()| read_all(&file))
            .context("read back log segment", path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).context("create file", path)?;
        file.write_all_at(bytes, 0).and_then(|()| file.sync_all()).context("write file", path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn NewFile>, IoError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).context("create file", path)?;
        Ok(Box::new(RealFile { file, path: path.to_owned(), end: 0 }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn StoredFile>, IoError> {
        let file = File::open(path).context("open file", path)?;
        Ok(Box::new(RealFile { file, path: path.to_owned(), end: 0 }))
    }

    #[expect(clippy::disallowed_methods, reason = "this is storage")]
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        std::fs::rename(from, to).context("rename file", from)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        std::fs::remove_file(path).context("remove file", path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, IoError> {
        let fs = rustix::fs::statvfs(dir).context("determine the free space of", dir)?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    fn backend(&self, dir: &Path) -> &'static str {
        if Self::uses_mmap(dir) { "mmap" } else { "pwrite" }
    }
}

/// A whole file, without opening it for writing. Blocks that the medium cannot return are zeros; their offsets come
/// with the bytes.
pub fn read_whole(path: &Path) -> Result<(Vec<u8>, BTreeSet<u64>), IoError> {
    let file = File::open(path).context("open file", path)?;
    let len = file.metadata().context("read the size of file", path)?.len();
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let len = usize::try_from(len).map_err(too_large).context("read file", path)?;
    let mut bytes = vec![0; len];
    let mut unreadable = BTreeSet::new();
    if file.read_exact_at(&mut bytes, 0).is_err() {
        read_blocks(0, &mut bytes, &mut unreadable, |at, part| file.read_exact_at(part, at));
    }
    Ok((bytes, unreadable))
}

/// A file that is written once or read.
struct RealFile {
    file: File,
    path: PathBuf,
    /// The number of bytes written so far.
    end: u64,
}

impl NewFile for RealFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        self.file.write_all_at(bytes, self.end).context("write file", &self.path)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        self.file.sync_all().context("sync file", &self.path)?;
        // The page cache is reserved for the log.
        let forgotten = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        debug_assert!(forgotten.is_ok(), "{forgotten:?}");
        Ok(())
    }
}

impl StoredFile for RealFile {
    fn bytes(&self) -> Result<u64, IoError> {
        self.file.metadata().map(|metadata| metadata.len()).context("read the size of file", &self.path)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, IoError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).context("read file", &self.path)?;
        Ok(bytes)
    }
}

/// Reserves blocks, so that a full disk is an error here and not a signal during a store.
fn reserve_blocks(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        // Not every file system supports this; the zeros that follow reserve the blocks as well.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

fn read_all(file: &File) -> io::Result<()> {
    let mut chunk = vec![0_u8; ZERO_CHUNK_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(&mut chunk, at)? {
            0 => return Ok(()),
            len => at += len as u64,
        }
    }
}

fn fill(file: &File, len: u64, head: &[u8]) -> io::Result<()> {
    let mut chunk = vec![0_u8; ZERO_CHUNK_BYTES];
    chunk[..head.len()].copy_from_slice(head);
    let mut at = 0;
    while at < len {
        let left = usize::try_from(len - at).unwrap_or(usize::MAX);
        let part = &chunk[..left.min(ZERO_CHUNK_BYTES)];
        file.write_all_at(part, at)?;
        at += part.len() as u64;
        if at == part.len() as u64 {
            chunk.fill(0);
        }
    }
    Ok(())
}
