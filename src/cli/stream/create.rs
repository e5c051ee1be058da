//! `forebay stream create`: a stream, with or without columns from a file of records.

use crate::cli::client::{Admin, path_segment};
use crate::cli::output::{self, word};
use flate2::read::MultiGzDecoder;
use reqwest::Method;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status for what cannot be read (`sysexits.h`).
const EX_NOINPUT: u8 = 66;
/// What is sent of a file, decompressed.
const SAMPLE_BYTES_MAX: usize = 8 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a file is no sample.
#[derive(Debug, thiserror::Error)]
enum SampleError {
    #[error("{} cannot be read", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: the sample has no records", .path.display())]
    Empty { path: PathBuf },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Name of the stream.
    name: String,
    /// Take the columns from a file of records: NDJSON, or gzip of it; its first 8 MiB. `-` is standard input. The
    /// records are not stored; `forebay load` does that.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// What becomes of records that do not fit: evolve, propose, strict or raw. By default evolve, with a sample propose.
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Of a contract whose streams have ids of their own: amperity. The id is printed.
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<String>,
    /// The project, or tenant, it belongs to.
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Create {
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

/// The records at the start of a file, decompressed. One that is cut off is left out.
fn start_of(file: &Path) -> Result<Vec<u8>, SampleError> {
    let sample = read(file).map_err(|source| SampleError::Io { path: file.to_owned(), source })?;
    if sample.is_empty() { Err(SampleError::Empty { path: file.to_owned() }) } else { Ok(sample) }
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
