//! A file that is there to be removed: on a full disk the catalog must still be able to commit, or nothing could
//! be checkpointed and the log would never shrink.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

const BYTES: u64 = 64 << 20;
/// It is put back when this much more than its size is free.
const ROOM_BYTES: u64 = 512 << 20;

pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("ballast") }
    }

    /// Frees its space. False if it was gone already.
    pub(super) fn give_up(&self) -> bool {
        let given = std::fs::remove_file(&self.path).is_ok();
        if given {
            tracing::warn!("the disk is full: the ballast file is given up so that the catalog can commit");
        }
        given
    }

    /// Allocates it if it is not there and there is plenty of room.
    pub(super) fn restore(&self, free_bytes: u64) {
        if self.path.is_file() || free_bytes < BYTES + ROOM_BYTES {
            return;
        }
        let made = OpenOptions::new().write(true).create_new(true).open(&self.path).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, flags, 0, BYTES).map_err(std::io::Error::from)
        });
        if let Err(error) = made {
            tracing::debug!(%error, "no ballast file");
        }
    }
}
