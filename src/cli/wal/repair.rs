//! `forebay wal repair`: rebuilds damaged segment headers, and moves segments aside that keep the daemon from starting.

use crate::catalog;
use crate::cli::output;
use crate::daemon;
use crate::storage::Storage;
use crate::storage::real::{RealStorage, read_whole};
use crate::wal::format::{self, HeaderError};
use crate::wal::inspect::{self, SegmentFile};
use anyhow::Context;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Repair the log of a daemon that is not running.
///
/// A damaged header page of a segment is rebuilt from the frames where possible, as at a start of the daemon; the old
/// page is kept in wal/quarantine. With --put-aside, segments that keep the daemon from starting (of a newer format, of
/// another log) are moved to wal/quarantine. Nothing is deleted. Torn tails and damaged frames need no repair: the
/// daemon skips them.
#[derive(Debug, clap::Args)]
pub(super) struct RepairArgs {
    /// Data directory.
    #[arg(value_name = "DIR", default_value = "forebay-data")]
    data_dir: PathBuf,
    /// Move segments that keep the daemon from starting to wal/quarantine.
    #[arg(long)]
    put_aside: bool,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// The repair of one file.
enum Mend {
    /// Replaces the header page.
    Header(Vec<u8>),
    PutAside,
}

impl RepairArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let wal = self.data_dir.join("wal");
        anyhow::ensure!(
            wal.is_dir(),
            "{} is not a data directory: it has no wal/ directory",
            self.data_dir.display()
        );
        // The daemon holds the same lock while it runs.
        let _lock = daemon::lock(&self.data_dir)?;
        let ours = super::of_catalog(&self.data_dir, catalog::wal_uuid).flatten();
        let mut done = Vec::new();
        let mut left = 0;
        for path in inspect::list(&wal)? {
            let segment = SegmentFile::read(&path)?;
            let (what, mend) = self.judge(&segment, ours);
            let Some(what) = what else { continue };
            left += usize::from(mend.is_none());
            done.push(json!({"file": path.display().to_string(), "what": what, "mended": mend.is_some() && !self.dry_run}));
            if let Some(mend) = mend.filter(|_| !self.dry_run) {
                apply(&wal, &path, mend).with_context(|| format!("cannot repair {}", path.display()))?;
            }
        }
        if self.json {
            output::json(&json!({"files": done}));
        } else {
            for file in &done {
                output::print(&format!("{}: {}\n", output::word(&file["file"]), output::word(&file["what"])));
            }
            let mended = if self.dry_run { 0 } else { done.len() - left };
            let nothing = if self.dry_run { "; nothing was changed" } else { "" };
            output::print(&format!("{} files need repair, {mended} were repaired{nothing}\n", done.len()));
        }
        Ok(ExitCode::from(u8::from(left > 0)))
    }

    /// Returns the problem of a segment, if it has one, and the repair, if one is possible.
    fn judge(&self, segment: &SegmentFile, ours: Option<[u8; 16]>) -> (Option<String>, Option<Mend>) {
        let put_aside = |what: String| {
            let (advice, mend) = if self.put_aside {
                ("moved to wal/quarantine", Some(Mend::PutAside))
            } else {
                ("use --put-aside to move it to wal/quarantine", None)
            };
            (Some(format!("{what}; {advice}")), mend)
        };
        match &segment.header {
            Err(error @ (HeaderError::Damaged | HeaderError::NotASegment)) => match segment.salvaged(ours) {
                Some(header) => {
                    let frames = "the header was damaged; the frames are readable with a new one";
                    (Some(frames.to_owned()), Some(Mend::Header(header.encode())))
                }
                None if *error == HeaderError::NotASegment => (None, None),
                None => {
                    (Some("the header is damaged, and no frame of this log is readable".to_owned()), None)
                }
            },
            Err(error @ HeaderError::Newer(_)) => put_aside(error.to_string()),
            Ok(header) if ours.is_some_and(|ours| ours != header.wal_uuid) => {
                put_aside("belongs to another log".to_owned())
            }
            Ok(_) => (None, None),
        }
    }
}

fn apply(wal: &Path, path: &Path, mend: Mend) -> anyhow::Result<()> {
    let storage = RealStorage;
    let quarantine = wal.join("quarantine");
    storage.create_dir(&quarantine)?;
    let name = super::name(path);
    match mend {
        Mend::Header(page) => {
            let (old, _) = read_whole(path)?;
            let old = old.get(..format::HEADER_BYTES).unwrap_or(&old);
            storage.write_new(&quarantine.join(format!("{name}.header")), old)?;
            storage.rewrite(path, 0, &page)?;
        }
        Mend::PutAside => storage.rename(path, &quarantine.join(&name))?,
    }
    storage.sync_dir(&quarantine)?;
    storage.sync_dir(wal)?;
    Ok(())
}
