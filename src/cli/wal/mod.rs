//! `forebay wal`: inspects the write-ahead log of a running or stopped daemon, and repairs one that is not in use.

mod dump;
mod repair;
mod verify;

use super::output;
use crate::catalog::CatalogError;
use crate::error::chain;
use crate::wal::Lsn;
use crate::wal::format::HeaderError;
use crate::wal::inspect::{self, SegmentFile, SegmentSummary};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Inspect a write-ahead log, and repair one that is not in use.
#[derive(Debug, clap::Args)]
pub(super) struct WalArgs {
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Debug, clap::Subcommand)]
enum WalCommand {
    /// List the segments with their contents.
    Inspect(InspectArgs),
    Verify(verify::VerifyArgs),
    Dump(dump::DumpArgs),
    Repair(repair::RepairArgs),
}

/// The log to work on.
#[derive(Debug, Clone, clap::Args)]
struct LogArgs {
    /// Data directory, its wal/ or archive/ directory, or one segment file, archived or not.
    #[arg(value_name = "DIR", default_value = "forebay-data")]
    path: PathBuf,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    #[command(flatten)]
    log: LogArgs,
}

impl WalArgs {
    pub(super) fn run(self) -> ExitCode {
        let done = match self.command {
            WalCommand::Inspect(inspect) => inspect.run(),
            WalCommand::Verify(verify) => verify.run(),
            WalCommand::Dump(dump) => dump.run(),
            WalCommand::Repair(repair) => repair.run(),
        };
        done.unwrap_or_else(|error| output::fail_with(&format!("{error:#}"), 1))
    }
}

impl LogArgs {
    /// The data directory that the path is or lies in, if any.
    fn data_dir(&self) -> Option<&Path> {
        [Some(&*self.path), self.path.parent(), self.path.parent().and_then(Path::parent)]
            .into_iter()
            .flatten()
            .find(|dir| dir.join(crate::catalog::FILE_NAME).is_file())
    }

    /// The directory of the segments.
    fn wal_dir(&self) -> PathBuf {
        let within = self.path.join("wal");
        if within.is_dir() { within } else { self.path.clone() }
    }

    /// The segment files by name, archived ones first.
    fn segments(&self) -> anyhow::Result<Vec<PathBuf>> {
        if self.path.is_file() {
            return Ok(vec![self.path.clone()]);
        }
        let is_data_dir = self.path.join("wal").is_dir();
        let within = |name: &str| if is_data_dir { self.path.join(name) } else { self.path.clone() };
        let (log, archive) = (within("wal"), within("archive"));
        let mut paths = if archive.is_dir() { inspect::list_archived(&archive)? } else { Vec::new() };
        paths.extend(inspect::list(&log)?);
        anyhow::ensure!(!paths.is_empty(), "{} has no log segments", log.display());
        Ok(paths)
    }

    /// Like `segments`, in the order of the frames. A segment that is archived and still in the log is listed once:
    /// a consumed segment stays in the log until its file is reused.
    fn segments_once(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut paths = self.segments()?;
        let in_log = paths.iter().filter(|path| !inspect::is_archived(path));
        let ids: HashSet<_> = in_log.filter_map(|path| inspect::segment_id(path)).collect();
        paths.retain(|path| {
            !inspect::is_archived(path) || inspect::segment_id(path).is_none_or(|id| !ids.contains(&id))
        });
        // An ID only tells when a file was created: frames rewritten after a failed sync have a late one.
        paths.sort_by_cached_key(|path| inspect::base(path).unwrap_or(Lsn(u64::MAX)));
        Ok(paths)
    }
}

/// The file name of a path.
fn name(path: &Path) -> String {
    // A segment has a name; a path without one is shown as it is.
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What the catalog says about its log, if there is a catalog. One that cannot be read is reported, and the log is
/// looked at without it: it is when things are broken that these commands are needed.
fn of_catalog<T>(data_dir: &Path, read: impl Fn(&Path) -> Result<T, CatalogError>) -> Option<T> {
    if !data_dir.join(crate::catalog::FILE_NAME).is_file() {
        return None;
    }
    let told = |error: &CatalogError| eprintln!("forebay: {}; going on without the catalog", chain(error));
    read(data_dir).inspect_err(told).ok()
}

/// The state of a segment, in one word.
fn state(header: Result<(), HeaderError>, summary: &SegmentSummary) -> &'static str {
    match header {
        Err(HeaderError::NotASegment) => "foreign",
        Err(HeaderError::Newer(_)) => "newer",
        Err(HeaderError::Damaged) => "damaged",
        Ok(()) if summary.prepared => "unused",
        Ok(()) if summary.sealed => "sealed",
        Ok(()) => "open",
    }
}

impl InspectArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut table = output::TextTable::new(&[
            "segment", "state", ">first", ">last", ">frames", ">payload", ">used", ">bad", "from", "to",
        ]);
        let mut all: Vec<Value> = Vec::new();
        for path in self.log.segments()? {
            let segment = SegmentFile::read(&path)?;
            let summary = segment.summary();
            let state = match state(segment.header.map(drop), &summary) {
                "sealed" | "open" if inspect::is_archived(&path) => "archived",
                state => state,
            };
            if self.log.json {
                all.push(json!({"file": path.display().to_string(), "state": state, "summary": summary}));
                continue;
            }
            let time = |at: Option<i64>| at.map_or_else(|| "-".to_owned(), output::time);
            table.row([
                name(&path),
                state.to_owned(),
                summary.base.to_string(),
                summary.last.to_string(),
                output::number(summary.data_frames),
                output::bytes(summary.payload_bytes),
                output::bytes(summary.end_offset),
                output::bytes(summary.bad_bytes),
                time(summary.first_ts),
                time(summary.last_ts),
            ]);
        }
        if self.log.json {
            output::json(&json!({"segments": all}));
        } else {
            output::print(&table.to_string());
        }
        Ok(ExitCode::SUCCESS)
    }
}
