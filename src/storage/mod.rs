//! What the log asks of a disk, as traits, so that the same log runs on the operating system ([`real`]) and on a
//! simulated disk that loses power ([`sim`]).
//!
//! A log file is appended to by many tasks at once and read by others meanwhile. Who may touch which bytes is
//! decided here and nowhere else: an [`Appender`] (one per file, not cloneable) hands out disjoint
//! [`Reservation`]s, only a reservation writes, and only bytes that no live reservation covers can be
//! [published](Appender::publish) to readers. That is what makes the shared mapping in [`mmap`] sound.

mod log_file;
pub(crate) mod mmap;
pub mod real;
pub mod sim;

pub use log_file::{Appender, LogFile, Reservation, ReserveError};

use crate::error::IoError;
use std::path::Path;
use std::sync::Arc;

/// Directory and file operations with the durability each one promises.
pub trait Storage: Send + Sync {
    /// Creates `dir` and its parents, durably. Fine if it exists.
    fn create_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// The names in `dir`, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>, IoError>;

    /// Creates a file of `len` bytes that starts with `head` and is zero after it, with all its blocks allocated
    /// and its content synced. Its name is durable after [`Storage::sync_dir`].
    fn allocate(&self, path: &Path, len: u64, head: &[u8]) -> Result<(), IoError>;

    /// Writes `bytes` at `offset` of an allocated file and syncs it, even if they stand there already: what a file
    /// shows after a failed sync may be nowhere but in memory.
    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), IoError>;

    /// Opens an allocated file as a log file. All of it is readable until [`LogFile::appender`] is called.
    fn open_log(&self, path: &Path) -> Result<Arc<LogFile>, IoError>;

    /// Whether most of the file's pages are in memory: only then is it cheaper to write it again than to
    /// allocate another one.
    fn is_resident(&self, path: &Path) -> bool;

    /// Writes a new small file and syncs its content. Fails if it exists.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError>;

    /// Creates a file to be written from front to back, and never again. Fails if it exists.
    fn create(&self, path: &Path) -> Result<Box<dyn NewFile>, IoError>;

    /// Opens a file that nobody writes any more. It can be read to its end even if its name goes meanwhile.
    fn open(&self, path: &Path) -> Result<Box<dyn StoredFile>, IoError>;

    /// Renames within one file system. Durable after [`Storage::sync_dir`] of the directories.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file. Durable after [`Storage::sync_dir`].
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// Bytes that an unprivileged process may still write to the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> Result<u64, IoError>;

    /// How log files are written, for the start-up log line: `"mmap"`, `"pwrite"`, `"simulated"`.
    fn backend(&self, dir: &Path) -> &'static str;
}

/// A file being written. It counts once it is synced and has its final name.
pub trait NewFile: Send {
    fn write(&mut self, bytes: &[u8]) -> Result<(), IoError>;

    /// Makes its content durable. It is not soon read again, so its memory is given back.
    fn sync(&mut self) -> Result<(), IoError>;
}

/// A file that is read.
pub trait StoredFile: Send + Sync {
    /// Its size.
    fn bytes(&self) -> Result<u64, IoError>;

    /// The bytes `[offset, offset + len)`; an error if the file ends before.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, IoError>;
}

/// The bytes behind a [`LogFile`]. Private to this module: its contract is kept by `log_file.rs` alone.
trait Region: Send + Sync {
    fn len(&self) -> u64;

    /// Copies `bytes` to `offset`. The caller has checked the bounds and owns the range: nobody else reads or
    /// writes it meanwhile.
    fn copy_in(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// The bytes `[offset, offset + len)`. The caller has checked the bounds; nobody writes them from now on.
    fn slice(&self, offset: u64, len: usize) -> std::borrow::Cow<'_, [u8]>;

    /// Makes everything copied in so far durable (`fdatasync`).
    fn sync(&self) -> std::io::Result<()>;

    /// Tells the kernel that this process will not soon touch `[0, upto)`. The bytes stay.
    fn release(&self, upto: u64);
}
