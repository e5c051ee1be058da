//! The server under test as a child process, and its resource use as reported by the kernel.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Clock ticks per second in `/proc/<pid>/stat`, the same on every current Linux.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Server {
    child: Child,
    pub ingest: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub started_in: Duration,
    /// The admin token, if the start created one.
    pub token: Option<String>,
}

/// A reading of the kernel's counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub written_bytes: u64,
    pub peak_rss_bytes: u64,
    pub rss_bytes: u64,
}

impl Usage {
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
            peak_rss_bytes: self.peak_rss_bytes,
            rss_bytes: self.rss_bytes,
        }
    }
}

impl Server {
    /// A null server, which is this program started again.
    pub fn null(mode: &str, dir: &Path) -> Self {
        let mut command =
            pinned(std::env::current_exe().expect("this program").to_str().expect("a UTF-8 path"));
        command.args(["--null-server", mode]).arg(dir.join("null.log"));
        Self::start(command, false)
    }

    /// The daemon under `--dev`, with settings from the environment.
    pub fn daemon(dir: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::guarded(dir, &[&["--dev"], arguments].concat(), settings)
    }

    /// The daemon as in production, with tokens.
    pub fn guarded(dir: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::of_binary(env!("CARGO_BIN_EXE_forebay"), dir, arguments, settings)
    }

    /// A daemon from any binary.
    pub fn of_binary(binary: &str, dir: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = pinned(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(dir.join("data")).args(arguments);
        command.env("FOREBAY_TELEMETRY__LOG", "warn").envs(settings.iter().copied());
        // The defaults of production, not those of `--dev`.
        command.env("FOREBAY_WAL__PREPARED_SEGMENTS", "3").env("FOREBAY_COMPACTOR__MAX_IDLE", "off");
        Self::start(command, true)
    }

    fn start(mut command: Command, admin_follows: bool) -> Self {
        let began = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a server");
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let (mut ingest, mut admin, mut token) = (None, None, None);
        let mut done = false;
        while !done {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).expect("its output") > 0, "the server ended");
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["events", url] => {
                    ingest = url.strip_prefix("http://").and_then(|address| address.parse().ok());
                }
                ["admin", url] => {
                    admin = url.strip_prefix("http://").and_then(|address| address.parse().ok());
                }
                ["token", text] => token = Some(text.to_owned()),
                ["try", ..] => done = true,
                _ => {}
            }
            done |= ingest.is_some() && !admin_follows;
        }
        let started_in = began.elapsed();
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, ingest: ingest.expect("an address"), admin, started_in, token }
    }

    pub fn usage(&self) -> Usage {
        let pid = self.child.id().to_string();
        let read = |name: &str| read(&pid, name);
        let number = |text: String, key: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned)).unwrap_or_default();
            line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
        };
        Usage {
            cpu_seconds: cpu_seconds(&pid),
            written_bytes: number(read("io"), "write_bytes:"),
            peak_rss_bytes: number(read("status"), "VmHWM:") * 1024,
            rss_bytes: number(read("status"), "VmRSS:") * 1024,
        }
    }

    pub fn kill(mut self) {
        self.child.kill().expect("a running server");
        self.child.wait().expect("its end");
    }
}

/// The user and system time of this process so far.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds("self")
}

/// What the kernel tells about a process; nothing, with a message, if it does not.
fn read(pid: &str, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_else(|error| {
        eprintln!("cannot read {name} of process {pid}: {error}");
        String::new()
    })
}

fn cpu_seconds(pid: &str) -> f64 {
    let stat = read(pid, "stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs on its own core, if there are two and `taskset` is installed.
fn pinned(program: &str) -> Command {
    let taskset = Command::new("taskset").args(["-c", "0", "true"]).stderr(Stdio::null()).status();
    if taskset.is_ok_and(|status| status.success()) {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", program]);
        return command;
    }
    Command::new(program)
}
