//! A staged file on its way to the destination, as the register knows it.
//!
//! It is read with ordinary reads, never through a mapping: a block that the disk cannot read is an error and not a
//! signal. What is read is summed up and compared with the register, so that nothing else is ever published.

use super::checksum::{Sum, Summing};
use crate::error::{IoContext, IoError};
use bytes::Bytes;
use md5::{Digest, Md5};
use object_store::PutPayload;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files are read in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// A file to publish.
#[derive(Debug, Clone)]
pub struct OutgoingFile {
    path: PathBuf,
    bytes: u64,
    /// `None` if it was registered before checksums were.
    checksum: Option<u64>,
}

/// Why a staged file cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum StagedError {
    #[error(transparent)]
    Unreadable(#[from] IoError),
    #[error("{} has {found} bytes instead of {expected}", .path.display())]
    Length { path: PathBuf, found: u64, expected: u64 },
    #[error("{} has the checksum {found:016x} instead of {expected:016x}", .path.display())]
    Checksum { path: PathBuf, found: u64, expected: u64 },
}

impl StagedError {
    /// Whether the file is certainly not what was registered. A disk that cannot read it now may do so later.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Unreadable(error) => error.source.kind() == std::io::ErrorKind::NotFound,
            Self::Length { .. } | Self::Checksum { .. } => true,
        }
    }
}

/// A verified file in memory.
pub(super) struct Loaded {
    pub(super) payload: PutPayload,
    /// As servers write it in the `ETag` of an object that was put in one piece and is not encrypted with a key of its
    /// own.
    pub(super) md5: String,
}

impl OutgoingFile {
    pub fn new(path: PathBuf, bytes: u64, checksum: Option<u64>) -> Self {
        Self { path, bytes, checksum }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the file and compares it with the register. Holds one piece in memory.
    pub(super) fn verify(&self) -> Result<(), StagedError> {
        self.each_piece(|_| {})
    }

    /// Reads the whole file into memory, verified.
    pub(super) fn load(&self) -> Result<Loaded, StagedError> {
        let (mut pieces, mut md5) = (Vec::new(), Md5::new());
        self.each_piece(|piece| {
            md5.update(piece);
            pieces.push(Bytes::copy_from_slice(piece));
        })?;
        let md5 = md5.finalize().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            write!(text, "{byte:02x}").ok();
            text
        });
        Ok(Loaded { payload: pieces.into_iter().collect(), md5 })
    }

    /// Opens the file to compare it with an object: see [`Opened::has`].
    pub(super) fn open(&self) -> Result<Opened, StagedError> {
        let file = File::open(&self.path).context("open staged file", &self.path)?;
        Ok(Opened { file, path: self.path.clone() })
    }

    fn each_piece(&self, mut each: impl FnMut(&[u8])) -> Result<(), StagedError> {
        let path = &self.path;
        let file = File::open(path).context("open staged file", path)?;
        let length = |found| StagedError::Length { path: path.clone(), found, expected: self.bytes };
        let found = file.metadata().context("read the size of staged file", path)?.len();
        if found != self.bytes {
            return Err(length(found));
        }
        let mut summing = Summing::new();
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(self.bytes).unwrap_or(PIECE_BYTES)).max(1)];
        loop {
            let Sum { bytes: at, .. } = summing.sum();
            let read = file.read_at(&mut piece, at);
            let read = match read {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.context("read staged file", path)?,
            };
            if read == 0 {
                break;
            }
            let read = piece.get(..read).unwrap_or(&piece);
            summing.add(read);
            each(read);
            if at + read.len() as u64 > self.bytes {
                break;
            }
        }
        let sum = summing.sum();
        if sum.bytes != self.bytes {
            return Err(length(sum.bytes));
        }
        match self.checksum {
            Some(expected) if expected != sum.checksum => {
                Err(StagedError::Checksum { path: path.clone(), found: sum.checksum, expected })
            }
            _ => Ok(()),
        }
    }
}

/// An open staged file.
pub(super) struct Opened {
    file: File,
    path: PathBuf,
}

impl Opened {
    /// Whether the file has these bytes at an offset.
    pub(super) fn has(&self, bytes: &[u8], at: u64) -> Result<bool, StagedError> {
        let mut ours = vec![0; bytes.len()];
        match self.file.read_exact_at(&mut ours, at) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            read => {
                read.context("read staged file", &self.path)?;
                Ok(ours == bytes)
            }
        }
    }
}
