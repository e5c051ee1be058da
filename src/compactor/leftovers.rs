//! Staged files that the register does not know.
//!
//! Their rows are in the log above the checkpoint and are written again. But what an earlier process left is removed
//! only when that has happened: the register must cover, in a synced transaction, everything that was durable when the
//! files were found. If frames turn out to be lost in the meantime, the files may be the last place that has them, and
//! are put aside in `staged/aside/`, where Forebay never removes anything.

use super::name;
use super::run::scratch_dir;
use crate::catalog::{Catalog, CatalogError};
use crate::error::{IoContext, IoError};
use crate::storage::Storage;
use crate::storage::real::RealStorage;
use crate::wal::Lsn;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What is removed at each restart of the compactor, and what is kept for now.
pub(super) struct Leftovers {
    staged_dir: PathBuf,
    /// `None` before the first look.
    kept: Option<Vec<OsString>>,
    /// Their rows have LSNs up to here.
    until: Lsn,
    frames_lost: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LeftoverError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Leftovers {
    /// `frames_lost`: the start of the log found that frames are lost.
    pub(super) fn new(staged_dir: PathBuf, frames_lost: bool) -> Self {
        Self { staged_dir, kept: None, until: Lsn::NONE, frames_lost }
    }

    /// Removes unfinished files, and finished ones that this process staged but did not register. Keeps those of an
    /// earlier process. `durable`: how far the log can be read.
    pub(super) fn look(&mut self, catalog: &Catalog, durable: Lsn) -> Result<(), LeftoverError> {
        let unknown = self.unknown(catalog)?;
        for path in files(&scratch_dir(&self.staged_dir))? {
            remove(&path)?;
        }
        let Some(kept) = &self.kept else {
            if !unknown.is_empty() {
                tracing::warn!(
                    files = unknown.len(),
                    until = %durable,
                    "the register does not list some staged files as waiting; keeping them until everything in the log is registered"
                );
            }
            (self.kept, self.until) = (Some(unknown), durable);
            return Ok(());
        };
        // The catalog was read again after whatever failed, so it is certain that it does not know them, and the log
        // is trimmed only by what it knows.
        for name in unknown.iter().filter(|name| !kept.contains(name)) {
            remove(&self.staged_dir.join(name))?;
        }
        Ok(())
    }

    /// Notes that frames of the log are lost.
    pub(super) fn frames_lost(&mut self) {
        self.frames_lost = true;
    }

    /// Settles the kept files once the register covers their rows.
    pub(super) fn registered(&mut self, catalog: &Catalog, consumed: Lsn) -> Result<(), LeftoverError> {
        if consumed < self.until || self.kept.as_ref().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let unknown = self.unknown(catalog)?;
        for name in self.kept.replace(Vec::new()).iter().flatten().filter(|name| unknown.contains(name)) {
            let path = self.staged_dir.join(name);
            if self.frames_lost { put_aside(&path, &self.staged_dir)? } else { remove(&path)? }
        }
        Ok(())
    }

    /// The names of finished files that are not registered as staged.
    fn unknown(&self, catalog: &Catalog) -> Result<Vec<OsString>, LeftoverError> {
        let registered: HashSet<OsString> =
            catalog.staged()?.iter().map(|file| name::staged(&file.object).into()).collect();
        let found =
            files(&self.staged_dir)?.into_iter().filter_map(|path| Some(path.file_name()?.to_owned()));
        Ok(found.filter(|name| !registered.contains(name)).collect())
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, IoError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).context("list directory", dir)? {
        let entry = entry.context("list directory", dir)?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn remove(path: &Path) -> Result<(), IoError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("remove unregistered file", path)
        }
        _ => Ok(()),
    }
}

fn put_aside(path: &Path, staged_dir: &Path) -> Result<(), IoError> {
    let aside = staged_dir.join("aside");
    RealStorage.create_dir(&aside)?;
    let to = aside.join(path.file_name().unwrap_or(path.as_os_str()));
    RealStorage.rename(path, &to)?;
    tracing::error!(
        file = %to.display(),
        "frames of the log are lost, and this staged file is not in the register; it may hold rows of lost frames: compare it with the table, then remove it"
    );
    Ok(())
}
