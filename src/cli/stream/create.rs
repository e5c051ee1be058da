//! `forebay stream create`: creates a stream, with or without columns derived from a file of records.

use crate::cli::client::{Admin, path_segment};
use crate::cli::output::{self, word};
use flate2::read::MultiGzDecoder;
use reqwest::Method;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status if the input cannot be read (`sysexits.h`).
const EX_NOINPUT: u8 = 66;
/// Size limit of the sample that is sent, after decompression.
const SAMPLE_BYTES_MAX: usize = 8 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a file cannot be used as a sample.
#[derive(Debug, thiserror::Error)]
enum SampleFileError {
    #[error("cannot read {}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: the sample has no records", .path.display())]
    Empty { path: PathBuf },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateStreamArgs {
    /// Name of the stream to create.
    name: String,
    /// Derive the columns from the first 8 MiB of a file of records: NDJSON, plain or gzip; `-` is standard input. The
    /// records are not stored; use `forebay load` for that.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// How to handle records that do not fit: evolve, propose, strict or raw. Default: evolve; with --from, propose.
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Contract that gives its streams IDs of their own: amperity. The ID is printed.
    #[arg(long, value_name = "CONTRACT")]
    dialect: Option<String>,
    /// Project (tenant) that the stream belongs to.
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Description of the stream.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl CreateStreamArgs {
    pub(super) async fn run(self, admin: &Admin) -> ExitCode {
        let made = |answer: &Value| {
            let version = &answer["schema"];
            output::print(&format!(
                "{}  {}  policy {}\n\n{}",
                word(&answer["name"]),
                word(&answer["id"]),
                word(&answer["policy"]),
                super::schema::columns(version)
            ));
        };
        let sample = self.from.as_deref().map_or(Ok(Vec::new()), start_of);
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => return output::fail(&error, EX_NOINPUT),
        };
        let mut path = format!("/admin/v1/streams?name={}", path_segment(&self.name));
        if let Some(policy) = &self.policy {
            path = format!("{path}&policy={}", path_segment(policy));
        }
        let more =
            [("dialect", &self.dialect), ("project", &self.project), ("description", &self.description)];
        for (name, value) in more {
            if let Some(value) = value {
                path = format!("{path}&{name}={}", path_segment(value));
            }
        }
        admin.run_with(Method::POST, &path, sample, made).await
    }
}

/// Reads the records at the start of a file, decompressed. A record that the limit cuts off is left out.
fn start_of(file: &Path) -> Result<Vec<u8>, SampleFileError> {
    let sample = read(file).map_err(|source| SampleFileError::Io { path: file.to_owned(), source })?;
    if sample.is_empty() { Err(SampleFileError::Empty { path: file.to_owned() }) } else { Ok(sample) }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(file)?) };
    let mut source = BufReader::new(source);
    let gzip = source.fill_buf()?.starts_with(&GZIP_MAGIC);
    let source: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) };
    let mut sample = Vec::new();
    source.take(SAMPLE_BYTES_MAX as u64).read_to_end(&mut sample)?;
    if sample.len() == SAMPLE_BYTES_MAX {
        let end = sample.iter().rposition(|byte| *byte == b'\n').unwrap_or(sample.len());
        sample.truncate(end);
    }
    Ok(sample)
}
