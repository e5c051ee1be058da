//! Settings: defaults, configuration file, environment, flags; each later source overrides the earlier ones.
//!
//! Only this module reads the environment and the configuration file. It is strict: an unknown key is an error that
//! names the source, the key and what is allowed. Everything is validated before a port is bound.

mod limits;
mod mapping;
mod transport;

pub use crate::contracts::shared::units::{ByteSize, OptionalSpan, TimeSpan, UnitError};
pub use limits::LimitsSection;
pub use mapping::MappingSection;

use crate::batch::Tag;
use crate::compactor::partition::PartitionBy;
use crate::compactor::sink::Destination;
use crate::contracts;
use crate::contracts::shared::sections::Sections;
use crate::schema::system;
use crate::{auth, compactor, wal};
use object_store::ClientConfigKey;
use object_store::aws::AmazonS3ConfigKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::{Table, Value};

/// The documented defaults, which also serve as the example file.
pub const DEFAULTS: &str = include_str!("../../deploy/forebay.toml");

/// Prefix of environment variables.
const ENV_PREFIX: &str = "FOREBAY_";
/// The most that a request adds to its body in the log: frame and batch header.
const FRAME_OVERHEAD_BYTES: u64 = 64 * 1024;
/// How long a request that waits for its file gathers other requests.
const LINGER: Duration = Duration::from_millis(250);
/// Unsynced bytes that start a sync at once, and unsynced bytes at which requests are refused.
const SYNC_BYTES: u64 = 8 << 20;
const UNSYNCED_MAX: u64 = 64 << 20;
/// Size of the segment that `--dev` prepares before it listens.
const DEV_FIRST_SEGMENT_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: {message}", .path.display())]
    File { path: PathBuf, message: String },
    #[error("environment variable {name}: {message}")]
    Environment { name: String, message: String },
    #[error("{0}")]
    Invalid(String),
}

/// The settings of the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub dev: bool,
    pub data_dir: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub admin_listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub tls: TlsSection,
    pub auth: AuthSection,
    pub limits: LimitsSection,
    pub wal: WalSection,
    pub compactor: CompactorSection,
    pub staging: Staging,
    pub mapping: MappingSection,
    pub destination: DestinationConfig,
    pub telemetry: Telemetry,
    /// The sections that contracts are created from.
    #[serde(skip)]
    pub contracts: Sections,
    /// Set only by the flag.
    #[serde(skip)]
    pub dev: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub public_url: String,
    pub node: String,
    pub workers: usize,
    pub connections_max: usize,
    pub header_timeout: TimeSpan,
    pub body_timeout: TimeSpan,
    pub idle_timeout: TimeSpan,
    pub drain_timeout: TimeSpan,
    pub streams_max: u32,
    pub trusted_proxies: Vec<String>,
    pub proxy_protocol: bool,
    pub allowed_origins: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub admin: bool,
    pub handshake_timeout: TimeSpan,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSection {
    pub jwt_grace: TimeSpan,
    pub client_secret_grace: TimeSpan,
    pub client_token_lifetime: TimeSpan,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalSection {
    pub segment_bytes: ByteSize,
    pub prepared_segments: usize,
    pub sync_interval: TimeSpan,
    pub max_bytes: ByteSize,
    pub disk_reserve: ByteSize,
    pub archive_retention: TimeSpan,
    pub archive_bytes_max: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactorSection {
    pub max_age: TimeSpan,
    pub max_idle: OptionalSpan,
    pub max_bytes: ByteSize,
    pub max_rows: u64,
    pub memory_max: ByteSize,
    pub partition_by: String,
    pub system_columns: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staging {
    pub retention: TimeSpan,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationConfig {
    pub url: String,
    pub s3: S3,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub endpoint: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub allow_http: bool,
    pub virtual_hosted_style: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub log: String,
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

impl Config {
    /// Reads and validates all sources. `environment` is that of the process, or of a test.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let mut settings: Table = DEFAULTS.parse().map_err(|error| invalid(format!("defaults: {error}")))?;
        if flags.dev {
            merge(&mut settings, dev());
            limits::lift(&mut settings);
        }
        if let Some(path) = file {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            let error = |message| ConfigError::File { path: path.to_owned(), message };
            let table: Table = text.parse().map_err(|e: toml::de::Error| error(e.to_string()))?;
            apply(&mut settings, table).map_err(error)?;
        }
        let mut variables: Vec<_> = environment.filter(|(name, _)| is_setting(name)).collect();
        variables.sort_unstable();
        for (name, text) in variables {
            let table = of_variable(&name, &text, &settings);
            let table = table.and_then(|table| apply(&mut settings, table));
            table.map_err(|message| ConfigError::Environment { name, message })?;
        }
        let mut config = deserialize(settings).map_err(ConfigError::Invalid)?;
        config.dev = flags.dev;
        let server = &mut config.server;
        let data_dir = flags.data_dir.as_ref().unwrap_or(&server.data_dir);
        // Staged files are published by their absolute paths.
        let full = std::path::absolute(data_dir);
        server.data_dir =
            full.map_err(|error| invalid(format!("server.data_dir {}: {error}", data_dir.display())))?;
        server.listen = flags.listen.unwrap_or(server.listen);
        server.admin_listen = flags.admin_listen.unwrap_or(server.admin_listen);
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value >= least {
                Ok(())
            } else {
                Err(invalid(format!("{key} must be at least {}", ByteSize(least))))
            }
        };
        let positive = |key: &str, span: TimeSpan| {
            if span.0.is_zero() { Err(invalid(format!("{key} must be greater than zero"))) } else { Ok(()) }
        };
        at_least("wal.segment_bytes", self.wal.segment_bytes.0, 1 << 20)?;
        at_least("limits.body_max", self.limits.body_max.0, 1)?;
        at_least("compactor.memory_max", self.compactor.memory_max.0, 16 << 20)?;
        at_least("limits.in_flight_max", self.limits.in_flight_max.0, self.limits.body_max.0)?;
        for contract in Tag::ALL {
            let key = format!("limits.{}.body_max", contract.name());
            at_least(&key, self.limits.body_max(contract), 1)?;
        }
        at_least("limits.decoded_max", self.limits.decoded_max.0, self.limits.body_max.0)?;
        let needed = self.limits.decoded_max.0 + FRAME_OVERHEAD_BYTES;
        if self.wal.segment_bytes.0 < needed {
            return Err(invalid(format!(
                "wal.segment_bytes ({}) is too small for a request of limits.decoded_max ({}) with its header",
                self.wal.segment_bytes, self.limits.decoded_max
            )));
        }
        let segments = self.wal.prepared_segments as u64 + 2;
        at_least("wal.max_bytes", self.wal.max_bytes.0, self.wal.segment_bytes.0 * segments)?;
        for (key, number) in [
            ("wal.prepared_segments", self.wal.prepared_segments),
            ("server.connections_max", self.server.connections_max),
            ("limits.columns_max", self.limits.columns_max),
            ("limits.idempotency_keys_max", self.limits.idempotency_keys_max),
        ] {
            if number == 0 {
                return Err(invalid(format!("{key} must be at least 1")));
            }
        }
        for (key, span) in [
            ("auth.client_token_lifetime", self.auth.client_token_lifetime),
            ("wal.sync_interval", self.wal.sync_interval),
            ("compactor.max_age", self.compactor.max_age),
            ("server.header_timeout", self.server.header_timeout),
            ("server.body_timeout", self.server.body_timeout),
            ("server.idle_timeout", self.server.idle_timeout),
            ("limits.idempotency_window", self.limits.idempotency_window),
        ] {
            positive(key, span)?;
        }
        for column in &self.compactor.system_columns {
            if ![system::RECEIVED_AT, system::LSN, system::RECORD].contains(&column.as_str()) {
                let allowed = [system::RECEIVED_AT, system::LSN, system::RECORD].join(", ");
                return Err(invalid(format!("compactor.system_columns: {column:?} is not one of {allowed}")));
            }
        }
        let url = &self.server.public_url;
        let is_http =
            |url: &str| url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !url.is_empty() && !is_http(url) {
            return Err(invalid("server.public_url must be an http:// or https:// URL, or empty".to_owned()));
        }
        if !self.server.node.bytes().all(|byte| byte.is_ascii_alphanumeric()) || self.server.node.len() > 32 {
            return Err(invalid("server.node must be at most 32 letters and digits".to_owned()));
        }
        self.mapping.check()?;
        self.check_transport()?;
        self.destination().map(drop)
    }

    /// The destination of tables.
    pub fn destination(&self) -> Result<Destination, ConfigError> {
        let DestinationConfig { url, s3 } = &self.destination;
        if url.is_empty() {
            return Ok(Destination::Directory(self.server.data_dir.join("tables")));
        }
        let parsed =
            url::Url::parse(url).map_err(|error| invalid(format!("destination.url {url:?}: {error}")))?;
        match parsed.scheme() {
            "file" => {
                let path = parsed.to_file_path();
                let path = path.map_err(|()| {
                    invalid(format!("destination.url {url:?} is not the path of a local directory"))
                })?;
                Ok(Destination::Directory(path))
            }
            "s3" => {
                let bucket = parsed.host_str().filter(|bucket| !bucket.is_empty());
                let bucket =
                    bucket.ok_or_else(|| invalid(format!("destination.url {url:?} has no bucket")))?;
                let prefix = parsed.path().trim_matches('/').to_owned();
                Ok(Destination::S3 { bucket: bucket.to_owned(), prefix, options: s3.options() })
            }
            other => Err(invalid(format!("destination.url: unknown scheme {other:?}; use file:// or s3://"))),
        }
    }

    pub fn auth(&self, instance: String) -> auth::AuthConfig {
        auth::AuthConfig {
            instance,
            open: self.dev,
            jwt_grace: self.auth.jwt_grace.0,
            client_secret_grace: self.auth.client_secret_grace.0,
            client_token_lifetime: self.auth.client_token_lifetime.0,
        }
    }

    pub fn wal(&self) -> wal::WalConfig {
        let segment_bytes = self.wal.segment_bytes.0;
        wal::WalConfig {
            dir: self.server.data_dir.join("wal"),
            segment_bytes,
            first_segment_bytes: if self.dev {
                segment_bytes.min(DEV_FIRST_SEGMENT_BYTES)
            } else {
                segment_bytes
            },
            prepared: self.wal.prepared_segments,
            sync_interval: self.wal.sync_interval.0,
            sync_bytes: SYNC_BYTES,
            unsynced_max: UNSYNCED_MAX,
            max_bytes: self.wal.max_bytes.0,
            disk_reserve: self.wal.disk_reserve.0,
            archive: (!self.wal.archive_retention.0.is_zero()).then(|| wal::archive::ArchiveConfig {
                dir: self.server.data_dir.join("archive"),
                retention: self.wal.archive_retention.0,
                bytes_max: self.wal.archive_bytes_max.0,
            }),
        }
    }

    pub fn compactor(&self, node: String, discard: bool) -> compactor::CompactorConfig {
        let settings = &self.compactor;
        let has = |column: &str| settings.system_columns.iter().any(|name| name == column);
        compactor::CompactorConfig {
            staged_dir: self.server.data_dir.join("staged"),
            node,
            max_age: settings.max_age.0,
            max_idle: settings.max_idle.0,
            max_bytes: settings.max_bytes.0,
            max_rows: settings.max_rows,
            memory_max: usize::try_from(settings.memory_max.0).unwrap_or(usize::MAX),
            limits: crate::columns::RowLimits {
                columns_max: self.limits.columns_max,
                received_at_column: has(system::RECEIVED_AT),
                lsn_column: has(system::LSN),
                record_column: has(system::RECORD),
            },
            partition_by: match settings.partition_by.as_str() {
                "none" => PartitionBy::Nothing,
                system::RECEIVED_AT => PartitionBy::ReceivedAt,
                column => PartitionBy::Column(column.to_owned()),
            },
            linger: LINGER,
            retention: self.staging.retention.0,
            discard,
        }
    }
}

impl S3 {
    fn options(&self) -> Vec<(AmazonS3ConfigKey, String)> {
        let texts = [
            (AmazonS3ConfigKey::Endpoint, &self.endpoint),
            (AmazonS3ConfigKey::Region, &self.region),
            (AmazonS3ConfigKey::AccessKeyId, &self.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, &self.secret_access_key),
        ];
        let set = texts.into_iter().filter(|(_, value)| !value.is_empty());
        let mut options: Vec<_> = set.map(|(key, value)| (key, value.clone())).collect();
        if self.allow_http {
            options.push((AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true".to_owned()));
        }
        if self.virtual_hosted_style {
            options.push((AmazonS3ConfigKey::VirtualHostedStyleRequest, "true".to_owned()));
        }
        options
    }
}

/// The settings that `--dev` changes in addition to limits: files are written sooner, and less log is prepared.
fn dev() -> Table {
    let text = "[wal]\nprepared_segments = 1\ndisk_reserve = \"64MiB\"\n[compactor]\nmax_idle = \"1s\"";
    text.parse().expect("it is valid TOML: the tests start daemons with it")
}

fn invalid(message: String) -> ConfigError {
    ConfigError::Invalid(message)
}

fn is_setting(name: &str) -> bool {
    name.strip_prefix(ENV_PREFIX).is_some_and(|rest| rest.contains("__"))
}

/// Turns `FOREBAY_WAL__MAX_BYTES=2GiB` into a table. The value has the type of the default: string, number or boolean.
fn of_variable(name: &str, text: &str, settings: &Table) -> Result<Table, String> {
    let path = name.strip_prefix(ENV_PREFIX).unwrap_or(name).to_ascii_lowercase();
    let keys: Vec<&str> = path.split("__").collect();
    let mut default = None;
    let mut within = Some(settings);
    for key in &keys {
        default = within.and_then(|table| table.get(*key));
        within = default.and_then(Value::as_table);
    }
    let value = match default {
        // An unknown key is refused when it is applied, with an error that lists the known keys.
        Some(Value::String(_)) | None => Value::String(text.to_owned()),
        _ => format!("value = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .ok_or_else(|| format!("{text:?} is not a valid value for {}", keys.join(".")))?,
    };
    let (last, sections) = keys.split_last().ok_or("does not name a setting")?;
    let innermost = Table::from_iter([((*last).to_owned(), value)]);
    Ok(sections
        .iter()
        .rev()
        .fold(innermost, |table, key| Table::from_iter([((*key).to_owned(), Value::Table(table))])))
}

/// Merges a source into the settings so far, and checks that the result is still valid.
fn apply(settings: &mut Table, source: Table) -> Result<(), String> {
    let mut merged = settings.clone();
    merge(&mut merged, source);
    deserialize(merged.clone())?;
    *settings = merged;
    Ok(())
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn deserialize(mut settings: Table) -> Result<Config, String> {
    let sections = Sections::take(&mut settings, contracts::TABLE.iter().filter_map(|entry| entry.section));
    contracts::check(&sections).map_err(|error| error.to_string())?;
    let profiles = limits::profiles(&mut settings)?;
    let config: Config = of_table(settings, "")?;
    let limits = LimitsSection { profiles, ..config.limits };
    Ok(Config { contracts: sections, limits, ..config })
}

/// Deserializes a table that is at `place` in the settings. Errors name the full path of the key.
fn of_table<T: DeserializeOwned>(table: Table, place: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let message = message.trim_end();
        let path = if path == "." { "" } else { &path };
        let place = format!("{place}{path}");
        let place = place.trim_end_matches('.');
        if place.is_empty() { message.to_owned() } else { format!("{place}: {message}") }
    })
}

#[cfg(test)]
mod tests;
