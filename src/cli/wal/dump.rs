//! `forebay wal dump`: prints the log, frame by frame or record by record.

use super::LogArgs;
use crate::batch::{Batch, StreamId};
use crate::catalog;
use crate::cli::output;
use crate::wal::format::{Frame, FrameKind};
use crate::wal::inspect::{SegmentEntry, SegmentFile};
use crate::wal::{Lsn, LsnRange};
use anyhow::Context;
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Print the frames of a log or, with --records, their records as they were sent.
///
/// `forebay wal dump DIR --stream visits --records | forebay load - --stream visits` sends them again.
#[derive(Debug, clap::Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    log: LogArgs,
    /// Print only frames from this number on.
    #[arg(long, value_name = "LSN", default_value_t = 0)]
    from: u64,
    /// Print only frames up to this number.
    #[arg(long, value_name = "LSN", default_value_t = u64::MAX)]
    to: u64,
    /// Print only frames of this stream: its name, or its number in the log.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Print only the request bodies.
    #[arg(long)]
    records: bool,
}

impl DumpArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Without a catalog, streams are identified by number.
        let names = self.log.data_dir().and_then(|dir| super::of_catalog(dir, catalog::stream_names));
        let names = names.unwrap_or_default();
        let only = self.stream.as_deref().map(|text| stream_number(text, &names)).transpose()?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut shown: Vec<LsnRange> = Vec::new();
        for path in self.log.segments_once()? {
            let segment = SegmentFile::read(&path)?;
            if let Err(error) = &segment.header {
                eprintln!("forebay: {}: {error}", path.display());
            }
            for entry in segment.entries() {
                if self.records && data_lsn(&entry).is_some_and(|lsn| !is_new(lsn, &mut shown)) {
                    // A duplicate, written again after a failed sync.
                    continue;
                }
                match self.print(&mut out, &path, &entry, &names, only) {
                    Ok(()) => {}
                    // The reader has closed the pipe: it has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                    Err(error) => return Err(error).context("cannot write to standard output"),
                }
            }
        }
        out.flush().context("cannot write to standard output")?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(
        &self,
        out: &mut impl Write,
        path: &Path,
        entry: &SegmentEntry<'_>,
        names: &HashMap<StreamId, String>,
        only: Option<StreamId>,
    ) -> io::Result<()> {
        let file = super::name(path);
        let (offset, frame) = match entry {
            SegmentEntry::Bad { .. } if self.records => return Ok(()),
            SegmentEntry::Bad { offset, bytes } if self.log.json => {
                return writeln!(out, "{}", json!({"file": file, "offset": offset, "bad_bytes": bytes}));
            }
            SegmentEntry::Bad { offset, bytes } => {
                return writeln!(out, "{file} {offset:>10}  BAD    {bytes} bytes");
            }
            SegmentEntry::Frame { offset, frame } => (*offset, frame),
        };
        let lsn = frame.header.lsn.0;
        let batch = (frame.header.kind == FrameKind::Data).then(|| Batch::decode(frame.payload));
        let head = batch.as_ref().and_then(|batch| batch.as_ref().ok()).map(|batch| &batch.head);
        let stream = head.map(|head| head.stream);
        let is_of = |only: StreamId| head.is_some_and(|head| head.share_of(only).is_some());
        if lsn < self.from || lsn > self.to || only.is_some_and(|only| !is_of(only)) {
            return Ok(());
        }
        let named = stream.map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string()));
        if self.records {
            let batch = match batch {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    eprintln!("forebay: {file}: cannot decode the frame with the LSN {lsn}: {error}");
                    return Ok(());
                }
                None => return Ok(()),
            };
            out.write_all(batch.body)?;
            return if batch.body.ends_with(b"\n") { Ok(()) } else { out.write_all(b"\n") };
        }
        if self.log.json {
            json_line(out, &file, offset, frame, named.as_deref())
        } else {
            line(out, &file, offset, frame, named.as_deref())
        }
    }
}

/// Returns whether an LSN is new, and marks it as shown.
fn is_new(lsn: Lsn, shown: &mut Vec<LsnRange>) -> bool {
    if shown.iter().any(|range| (range.first..=range.last).contains(&lsn)) {
        return false;
    }
    match shown.last_mut() {
        Some(range) if range.last.next() == lsn => range.last = lsn,
        _ => shown.push(LsnRange { first: lsn, last: lsn }),
    }
    true
}

fn data_lsn(entry: &SegmentEntry<'_>) -> Option<Lsn> {
    match entry {
        SegmentEntry::Frame { frame, .. } if frame.header.kind == FrameKind::Data => Some(frame.header.lsn),
        _ => None,
    }
}

fn line(
    out: &mut impl Write,
    file: &str,
    offset: u64,
    frame: &Frame<'_>,
    stream: Option<&str>,
) -> io::Result<()> {
    let header = &frame.header;
    let kind = kind_name(header.kind);
    let time = output::time(header.ts);
    write!(out, "{file} {offset:>10}  {kind:<5} {:>12}  {time}  {:>9} bytes", header.lsn, header.body_bytes)?;
    match Batch::decode(frame.payload) {
        Ok(batch) if header.kind == FrameKind::Data => {
            let stream = stream.unwrap_or("");
            writeln!(out, "  {stream}  {} records, {} bad", batch.head.good, batch.head.bad)
        }
        Err(error) if header.kind == FrameKind::Data => writeln!(out, "  {error}"),
        _ => writeln!(out),
    }
}

fn json_line(
    out: &mut impl Write,
    file: &str,
    offset: u64,
    frame: &Frame<'_>,
    stream: Option<&str>,
) -> io::Result<()> {
    let header = &frame.header;
    let batch = (header.kind == FrameKind::Data).then(|| Batch::decode(frame.payload).ok()).flatten();
    let head = batch.as_ref().map(|batch| &batch.head);
    let targets = head.filter(|head| !head.targets.is_empty()).map(|head| {
        let targets = head.targets.iter();
        targets.map(|t| json!({"stream": t.stream, "records": t.good, "bad": t.bad})).collect::<Vec<_>>()
    });
    let value = json!({
        "file": file,
        "offset": offset,
        "kind": kind_name(header.kind),
        "lsn": header.lsn,
        "received_at": output::time(header.ts),
        "durable": header.durable,
        "bytes": header.body_bytes,
        "stream": stream,
        "dialect": head.map(|head| head.contract.name()),
        "records": head.map(|head| head.good),
        "bad": head.map(|head| head.bad),
        "client_ip": head.and_then(|head| head.client_ip),
        "idempotency_key": head.and_then(|head| head.idempotency_key),
        "targets": targets,
    });
    writeln!(out, "{value}")
}

fn kind_name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Start => "START",
        FrameKind::Data => "DATA",
        FrameKind::Seal => "SEAL",
    }
}

fn stream_number(text: &str, names: &HashMap<StreamId, String>) -> anyhow::Result<StreamId> {
    let by_name = names.iter().find(|(_, name)| *name == text).map(|(id, _)| *id);
    let by_number = || text.parse().ok().map(StreamId);
    by_name.or_else(by_number).with_context(|| format!("the catalog next to the log has no stream {text:?}"))
}
