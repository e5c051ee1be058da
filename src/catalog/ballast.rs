//! A file that exists only to be removed: on a full disk the catalog must still be able to commit, or no checkpoint
//! could be written and the log would never shrink.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

const BYTES: u64 = 64 << 20;
/// It is recreated once this much more than its size is free.
const ROOM_BYTES: u64 = 512 << 20;

pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("ballast") }
    }

    /// Removes the file to free its space. Returns false if it did not exist.
    pub(super) fn give_up(&self) -> bool {
        let given = std::fs::remove_file(&self.path).is_ok();
        if given {
            tracing::warn!(
                "the disk is full: removed the ballast file so that the catalog can commit; free disk space"
            );
        }
        given
    }

    /// Allocates the file if it does not exist and there is plenty of room.
    pub(super) fn restore(&self, free_bytes: u64) {
        if self.path.is_file() || free_bytes < BYTES + ROOM_BYTES {
            return;
        }
        let made = OpenOptions::new().write(true).create_new(true).open(&self.path).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, flags, 0, BYTES).map_err(std::io::Error::from)
        });
        if let Err(error) = made {
            tracing::debug!(%error, "cannot create the ballast file");
        }
    }
}
