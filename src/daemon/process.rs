//! Process resources taken at the start: the lock of the data directory, and the limit of open files.

use super::DaemonError;
use crate::error::{IoContext, IoError};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Locks the data directory for this process. The lock ends with the process.
pub fn lock(data_dir: &Path) -> Result<File, DaemonError> {
    let path = data_dir.join("LOCK");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.context("open lock file", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The content is used only for the message.
            drop(file.read_to_string(&mut holder));
            return Err(DaemonError::Locked { path: data_dir.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(IoError::new("lock", &path, source).into()),
    }
    let process = std::process::id().to_string();
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(process.as_bytes()));
    if let Err(error) = written {
        // The content only names the holder in a message. A full disk must not keep the daemon from starting.
        tracing::warn!(%error, "cannot write the process id to the lock file; the daemon starts anyway");
    }
    Ok(file)
}

/// Raises the limit of open files: thousands of connections need as many descriptors, and the soft limit is usually
/// 1024.
pub(super) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "cannot raise the limit of open files; many connections may exhaust it");
    }
}
