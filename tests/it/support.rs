//! The daemon as a child process, a plain HTTP/1.1 client, and a reader of tables.

#[path = "document.rs"]
pub mod document;

use arrow_json::LineDelimitedWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The timeout of every wait, long enough for a slow machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How to start a daemon.
pub struct Setup {
    config: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Setup {
    /// `--dev`, with this configuration file.
    pub fn dev(config: &str) -> Self {
        Self { arguments: vec!["--dev".to_owned()], ..Self::with_config(config) }
    }

    /// Without `--dev`.
    pub fn with_config(config: &str) -> Self {
        Self { config: config.to_owned(), environment: Vec::new(), arguments: Vec::new() }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts in a new directory.
    pub fn start(self) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        self.start_in(Home::Owned(dir))
    }

    /// Starts in `dir`, which is kept after the daemon.
    pub fn start_at(self, dir: &Path) -> Daemon {
        self.start_in(Home::Borrowed(dir.to_owned()))
    }

    pub fn command(&self, dir: &Path) -> Command {
        let config = dir.join("forebay.toml");
        std::fs::write(&config, &self.config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve");
        command.arg("--config").arg(config).arg("--data-dir").arg(dir.join("data"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts in this directory, unless the daemon refuses to: then what it said.
    pub fn try_start_at(self, dir: &Path) -> Result<Daemon, String> {
        let log = File::options().create(true).append(true).open(dir.join("daemon.log")).unwrap();
        let child = self.command(dir).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        Daemon::ready(child, Home::Borrowed(dir.to_owned()))
    }

    fn start_in(self, home: Home) -> Daemon {
        Daemon::spawn(self.command(home.path()), home)
    }
}

/// Parses an address that the daemon prints: `http://127.0.0.1:7171`.
fn address_in(url: &str) -> Option<SocketAddr> {
    url.split_once("://")?.1.parse().ok()
}

enum Home {
    Owned(TempDir),
    Borrowed(PathBuf),
}

impl Home {
    fn path(&self) -> &Path {
        match self {
            Self::Owned(dir) => dir.path(),
            Self::Borrowed(path) => path,
        }
    }
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    home: Home,
    pub ingest: SocketAddr,
    pub admin: SocketAddr,
    /// The admin token, if the start created one.
    pub token: Option<String>,
}

impl Daemon {
    /// Starts with `--dev` and its defaults.
    pub fn dev() -> Self {
        Setup::dev("").start()
    }

    /// Starts `serve` with these arguments, in a new directory.
    pub fn bare(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(arguments).current_dir(dir.path());
        Self::spawn(command, Home::Owned(dir))
    }

    fn spawn(mut command: Command, home: Home) -> Self {
        let log = File::options().create(true).append(true).open(home.path().join("daemon.log")).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        Self::ready(child, home).unwrap_or_else(|said| panic!("the daemon ended: {said}"))
    }

    /// Waits until it listens. An error is what it said before it ended.
    fn ready(mut child: Child, home: Home) -> Result<Self, String> {
        let (mut ingest, mut admin, mut token) = (None, None, None);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap();
                return Err(format!("{:?}\n{log}", child.wait()));
            }
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["events", url] => ingest = address_in(url),
                ["admin", url] => admin = address_in(url),
                ["token", text] => token = Some(text.to_owned()),
                ["try", ..] => break,
                _ => {}
            }
        }
        // Keeps reading, so that the daemon never blocks on its standard output.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Self { child, home, ingest: ingest.unwrap(), admin: admin.unwrap(), token })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory with `data/`, `forebay.toml` and `daemon.log`.
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("daemon.log")).unwrap()
    }

    /// Posts a body to `/v0/events?{query}`.
    pub fn post(&self, query: &str, body: impl AsRef<[u8]>) -> Response {
        self.post_with(query, &[], body)
    }

    pub fn post_with(&self, query: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        request(self.ingest, "POST", &format!("/v0/events?{query}"), headers, body.as_ref())
    }

    /// Sends a `GET` to the admin listener.
    pub fn get(&self, path: &str) -> Response {
        let authorization = format!("Bearer {}", self.token.clone().unwrap_or_default());
        request(self.admin, "GET", path, &[("authorization", &authorization)], b"")
    }

    pub fn admin_post(&self, path: &str) -> Response {
        let authorization = format!("Bearer {}", self.token.clone().unwrap_or_default());
        request(self.admin, "POST", path, &[("authorization", &authorization)], b"")
    }

    /// The value of a metric, summed over its labels; 0 if it does not exist.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let of_name = lines.filter(|line| line.split(['{', ' ']).next() == Some(name));
        of_name.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until everything accepted is published, then reads a table: each row as JSON, nulls left out, in the
    /// order of `_lsn` and `_record`.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        let published = self.admin_post("/admin/v1/publish");
        assert_eq!(published.status, 200, "{}", published.text());
        read_table(&self.data_dir().join("tables").join(table))
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(mut self) -> Stopped {
        signal(self.pid(), "TERM");
        let status = wait_for_exit(&mut self.child);
        Stopped {
            status,
            log: self.log(),
            _home: std::mem::replace(&mut self.home, Home::Borrowed(PathBuf::new())),
        }
    }

    /// Sends SIGKILL and waits for the exit. The directory lives as long as the result.
    pub fn kill(mut self) -> Stopped {
        self.child.kill().unwrap();
        let status = wait_for_exit(&mut self.child);
        Stopped {
            status,
            log: self.log(),
            _home: std::mem::replace(&mut self.home, Home::Borrowed(PathBuf::new())),
        }
    }

    /// Waits until it exits by itself.
    pub fn wait(mut self) -> Stopped {
        let status = wait_for_exit(&mut self.child);
        Stopped {
            status,
            log: self.log(),
            _home: std::mem::replace(&mut self.home, Home::Borrowed(PathBuf::new())),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() && self.home.path().exists() {
            eprintln!("--- the daemon's log:\n{}", self.log());
        }
    }
}

/// A daemon that has exited.
pub struct Stopped {
    pub status: std::process::ExitStatus,
    pub log: String,
    _home: Home,
}

pub fn wait_for_exit(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process did not exit");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Waits until `done` returns a value.
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out after {PATIENCE:?}, waiting for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The log sequence number of an accepted request.
    pub fn receipt(&self) -> u64 {
        self.header("forebay-receipt").expect("a receipt").parse().unwrap()
    }

    /// `(successful_rows, quarantined_rows)`
    pub fn counts(&self) -> (u64, u64) {
        let body = self.json();
        (body["successful_rows"].as_u64().unwrap(), body["quarantined_rows"].as_u64().unwrap())
    }
}

/// Sends one request on a new connection.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "content-length: {}\r\n\r\n", body.len()).unwrap();
    let mut stream = connect(address);
    // The daemon may refuse the request and close before it has read everything, so write errors are ignored.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    let response = read_response(&mut stream);
    document::check(method, path, &response);
    response
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one response, by its length.
pub fn read_response(stream: &mut impl Read) -> Response {
    try_read_response(stream).unwrap()
}

/// Like [`read_response`], but the connection may break.
pub fn try_read_response(stream: &mut impl Read) -> std::io::Result<Response> {
    let mut reader = BufReader::new(stream);
    let line = whole_line(&mut reader)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
    let mut headers = Vec::new();
    loop {
        let line = whole_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Response { status, headers, body })
}

fn whole_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// All Parquet files below a directory.
pub fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The rows of a Parquet file as JSON, nulls left out; `_rescued` is parsed.
pub fn read_parquet(path: &Path) -> Vec<Value> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let mut text = Vec::new();
        let mut writer = LineDelimitedWriter::new(&mut text);
        writer.write(&batch.unwrap()).unwrap();
        writer.finish().unwrap();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut row: Value = serde_json::from_slice(line).unwrap();
            if let Some(Value::String(rescued)) = row.get("_rescued") {
                row["_rescued"] = serde_json::from_str(rescued).unwrap_or(Value::from(rescued.as_str()));
            }
            rows.push(row);
        }
    }
    rows
}

/// All rows of a table, in the order in which they were accepted.
pub fn read_table(dir: &Path) -> Vec<Value> {
    let mut rows: Vec<Value> = parquet_files(dir).iter().flat_map(|file| read_parquet(file)).collect();
    rows.sort_by_key(|row| (row["_lsn"].as_u64(), row["_record"].as_u64()));
    rows
}

/// A row without the system columns.
pub fn fields(row: &Value) -> Value {
    let mut row = row.clone();
    for name in ["_received_at", "_lsn", "_record"] {
        row.as_object_mut().unwrap().remove(name);
    }
    row
}
