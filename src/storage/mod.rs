//! The storage traits of the log, so that the same log runs on the operating system ([`real`]) and on a simulated disk
//! that loses power ([`sim`]).
//!
//! Many tasks append to a log file concurrently while others read it. Only this module decides who may touch which
//! bytes: an [`Appender`] (one per file, not cloneable) hands out disjoint [`Reservation`]s, only a reservation writes,
//! and only bytes that no live reservation covers can be [published](Appender::publish) to readers. This makes the
//! shared mapping in [`mmap`] sound.

mod log_file;
pub(crate) mod mmap;
pub mod real;
pub mod sim;

pub use log_file::{Appender, BLOCK_BYTES, LogFile, Reservation, ReserveError};

use crate::error::IoError;
use std::path::Path;
use std::sync::Arc;

/// Directory and file operations, each with its durability guarantee.
pub trait Storage: Send + Sync {
    /// Creates `dir` and its parents, durably. Succeeds if it exists.
    fn create_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// The names in `dir`, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>, IoError>;

    /// Creates a file of `len` bytes that starts with `head` followed by zeros, with all blocks allocated and the
    /// content synced. Its name is durable after [`Storage::sync_dir`].
    fn allocate(&self, path: &Path, len: u64, head: &[u8]) -> Result<(), IoError>;

    /// Writes `bytes` at `offset` of an allocated file and syncs it, even if the file already shows these bytes:
    /// after a failed sync they may exist only in memory.
    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), IoError>;

    /// Opens an allocated file as a log file. All of it is readable until [`LogFile::appender`] is called.
    fn open_log(&self, path: &Path) -> Result<Arc<LogFile>, IoError>;

    /// Whether most of the file's pages are in memory: only then is rewriting it cheaper than allocating another one.
    fn is_resident(&self, path: &Path) -> bool;

    /// Reads a whole file, which brings its pages into memory: a store into a mapped page that is not there and cannot
    /// be read kills the process.
    fn read_back(&self, path: &Path) -> Result<(), IoError>;

    /// Writes a new small file and syncs its content. Fails if it exists.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError>;

    /// Creates a file to be written once, from front to back. Fails if it exists.
    fn create(&self, path: &Path) -> Result<Box<dyn NewFile>, IoError>;

    /// Opens a file that is no longer written. It can be read to its end even if its name is removed meanwhile.
    fn open(&self, path: &Path) -> Result<Box<dyn StoredFile>, IoError>;

    /// Renames within one file system. Durable after [`Storage::sync_dir`] of the directories.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Removes a file. Durable after [`Storage::sync_dir`].
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), IoError>;

    /// Free bytes on the file system of `dir` for an unprivileged process.
    fn free_bytes(&self, dir: &Path) -> Result<u64, IoError>;

    /// How log files are written, for the start-up log line: `"mmap"`, `"pwrite"`, `"simulated"`.
    fn backend(&self, dir: &Path) -> &'static str;
}

/// A file being written. It is valid once it is synced and has its final name.
pub trait NewFile: Send {
    fn write(&mut self, bytes: &[u8]) -> Result<(), IoError>;

    /// Makes its content durable and releases its memory, since it will not be read soon.
    fn sync(&mut self) -> Result<(), IoError>;
}

/// A file opened for reading.
pub trait StoredFile: Send + Sync {
    /// The size of the file.
    fn bytes(&self) -> Result<u64, IoError>;

    /// The bytes `[offset, offset + len)`; an error if the file ends before that.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, IoError>;
}

/// The bytes of a [`LogFile`]. Private to this module: only `log_file.rs` upholds its contract.
trait Region: Send + Sync {
    fn len(&self) -> u64;

    /// Copies `bytes` to `offset`. The caller has checked the bounds and owns the range: no one else reads or writes it
    /// meanwhile.
    fn copy_in(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// Fills `into` with the bytes from `offset` on. The caller has checked the bounds. An error says that the medium
    /// cannot return all of them; what `into` holds then is unspecified.
    fn read(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()>;

    /// Makes everything copied in so far durable (`fdatasync`).
    fn sync(&self) -> std::io::Result<()>;

    /// Tells the kernel that this process will not touch `[0, upto)` soon. The bytes are kept.
    fn release(&self, upto: u64);
}
