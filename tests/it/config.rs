//! Settings from file, environment and flags, and errors that prevent a start.

use crate::support::{Daemon, Setup, fields, wait_for_exit};
use crate::tls::Pki;
use serde_json::json;
use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const BAD_USAGE: i32 = 64;

/// The output and the status of a command that ends by itself.
struct Ended {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Ended {
    fn of(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (out, error) = (dir.path().join("out"), dir.path().join("error"));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&error).unwrap());
        let code = wait_for_exit(&mut command.spawn().unwrap()).code();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        Self { code, out: read(&out), error: read(&error) }
    }

    fn assert_failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.error);
        for part in parts {
            assert!(self.error.contains(part), "{part:?} is missing in: {}", self.error);
        }
        // The error is one line for people, not a backtrace.
        let message = self.error.lines().find(|line| line.starts_with("forebay: "));
        assert!(message.is_some() && !self.error.contains("panicked"), "{}", self.error);
    }
}

fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments);
    command
}

/// A directory with this configuration file.
fn file_with(config: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    std::fs::write(&path, config).unwrap();
    (dir, path)
}

fn check(config: &str, environment: &[(&str, &str)]) -> Ended {
    let (_dir, path) = file_with(config);
    let mut command = forebay(&["check", "--config", path.to_str().unwrap()]);
    Ended::of(command.envs(environment.iter().copied()))
}

#[test]
fn the_printed_default_configuration_is_valid() {
    let printed = Ended::of(&mut forebay(&["serve", "--print-default-config"]));
    assert_eq!(printed.code, Some(0));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/forebay.toml");
    assert_eq!(printed.out, std::fs::read_to_string(example).unwrap());
    let checked = check(&printed.out, &[]);
    assert_eq!((checked.code, checked.error.as_str()), (Some(0), ""));
    let empty = check("", &[]);
    assert_eq!((empty.code, &empty.out), (Some(0), &checked.out));
    assert!(checked.out.contains("configuration is valid"), "{}", checked.out);
    // Comments have lines of their own, above their settings.
    for setting in printed.out.lines().filter(|line| line.contains(" = ")) {
        assert!(!setting.starts_with(' ') && !setting.contains('#'), "{setting}");
    }
}

#[test]
fn later_sources_win() {
    let file =
        "[server]\ndata_dir = \"/srv/file\"\nlisten = \"127.0.0.1:1001\"\nadmin_listen = \"127.0.0.1:1002\"";
    let environment = [
        ("FOREBAY_SERVER__ADMIN_LISTEN", "127.0.0.1:2002"),
        ("FOREBAY_DESTINATION__URL", "s3://bucket/prefix"),
    ];
    let checked = check(file, &environment);
    assert_eq!(checked.code, Some(0), "{}", checked.error);
    for part in ["/srv/file", "127.0.0.1:1001", "127.0.0.1:2002", "s3://bucket/prefix"] {
        assert!(checked.out.contains(part), "{part:?} is missing in: {}", checked.out);
    }
    assert!(!checked.out.contains("1002"), "{}", checked.out);
    // The environment may name the file.
    let (_dir, path) = file_with(file);
    let checked = Ended::of(forebay(&["check"]).env("FOREBAY_CONFIG", &path));
    assert!(checked.out.contains("/srv/file"), "{}", checked.out);

    // Port 1 is not used: the test's flags override the addresses. Settings without a flag come from the environment.
    let daemon = Setup::dev("[server]\nlisten = \"127.0.0.1:1\"\n[limits]\ncolumns_max = 1")
        .env("FOREBAY_SERVER__ADMIN_LISTEN", "127.0.0.1:1")
        .env("FOREBAY_SERVER__DATA_DIR", "/proc/nowhere")
        .env("FOREBAY_LIMITS__COLUMNS_MAX", "2")
        .start();
    daemon.post("name=e", r#"{"a":1,"b":2,"c":3}"#);
    assert_eq!(fields(&daemon.rows("e")[0]), json!({"a": 1, "b": 2, "_rescued": {"c": 3}}));
}

#[test]
fn an_invalid_setting_is_named_with_the_allowed_values() {
    let files: [(&str, &[&str]); 14] = [
        (
            "[server]\nlitsen = \"127.0.0.1:1\"",
            &["server", "litsen", "`listen`", "`admin_listen`", "`data_dir`"],
        ),
        ("[sever]\nlisten = \"127.0.0.1:1\"", &["sever", "`server`", "`compactor`"]),
        ("listen = \"127.0.0.1:1\"", &["listen", "`server`"]),
        ("[server]\nlisten = \"7171\"", &["server.listen", "socket address"]),
        ("[server]\nworkers = -1", &["server.workers", "-1"]),
        ("[wal]\nmax_bytes = \"lots\"", &["wal.max_bytes", "lots", "64MiB"]),
        ("[wal]\nsync_interval = \"fast\"", &["wal.sync_interval", "fast", "50ms"]),
        ("[wal]\nsync_interval = \"0s\"", &["wal.sync_interval", "greater than zero"]),
        ("[wal]\nsegment_bytes = \"1MiB\"", &["wal.segment_bytes", "limits.decoded_max"]),
        ("[limits]\nin_flight_max = \"1MiB\"", &["limits.in_flight_max", "at least 10MiB"]),
        ("[telemetry]\nlog_format = \"xml\"", &["telemetry.log_format", "xml", "`auto`", "`text`", "`json`"]),
        ("[destination]\nurl = \"ftp://x\"", &["destination.url", "ftp", "file://", "s3://"]),
        ("[compactor]\nsystem_columns = [\"lsn\"]", &["compactor.system_columns", "lsn", "_received_at"]),
        ("[server\n", &["line 1"]),
    ];
    for (config, parts) in files {
        let (dir, path) = file_with(config);
        let path = path.to_str().unwrap();
        let data_dir = dir.path().join("data");
        let checked = Ended::of(&mut forebay(&["check", "--config", path]));
        checked.assert_failed(BAD_USAGE, parts);
        let served = Ended::of(forebay(&["serve", "--config", path, "--data-dir"]).arg(&data_dir));
        served.assert_failed(BAD_USAGE, parts);
        assert_eq!(served.error, checked.error);
        assert!(!data_dir.exists(), "invalid settings must not create the data directory");
    }
    let checked = check("[server]\nlitsen = 1", &[]);
    checked.assert_failed(BAD_USAGE, &["settings.toml"]);
    let variables = [
        ("FOREBAY_WAL__MAX_BITES", "1GiB", "`max_bytes`"),
        ("FOREBAY_SERVER__WORKERS", "many", "server.workers"),
        ("FOREBAY_NOTHING__AT_ALL", "1", "`server`"),
        ("FOREBAY_SERVER__BODY_TIMEOUT", "30", "such as 50ms, 10s"),
    ];
    for (name, value, part) in variables {
        check("", &[(name, value)]).assert_failed(BAD_USAGE, &["environment variable", name, part]);
    }
    let missing = Ended::of(&mut forebay(&["check", "--config", "/nowhere/forebay.toml"]));
    missing.assert_failed(BAD_USAGE, &["/nowhere/forebay.toml", "No such file"]);
    let world = Ended::of(&mut forebay(&["serve", "--dev", "--listen", "0.0.0.0:0"]));
    world.assert_failed(BAD_USAGE, &["--dev", "loopback"]);
}

#[test]
fn a_data_directory_allows_one_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let first = Setup::dev("").start_at(dir.path());
    let second = Ended::of(&mut Setup::dev("").command(dir.path()));
    let holder = format!("(process {})", first.pid());
    second.assert_failed(1, &[first.data_dir().to_str().unwrap(), "in use by another forebay", &holder]);
    assert_eq!(first.post("name=e&wait=true", "{\"n\":1}").status, 200);
    // The lock ends with the process, however that ends.
    drop(first.kill());
    let third = Setup::dev("").start_at(dir.path());
    assert_eq!(third.rows("e").len(), 1);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let impossible = [
        (file.join("data"), "Not a directory"),
        (file.clone(), "File exists"),
        (PathBuf::from("/proc/forebay"), "No such file or directory"),
    ];
    for (path, reason) in impossible {
        let mut command =
            forebay(&["serve", "--dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let ended = Ended::of(command.arg("--data-dir").arg(&path));
        ended.assert_failed(1, &["cannot create directory", path.to_str().unwrap(), reason]);
    }
}

#[test]
fn a_read_only_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // Other users may not be able to reach the binary's directory, so they get a copy. Another process creates it:
    // processes that other tests start could inherit a descriptor opened here, and a file open for writing cannot run.
    let binary = dir.path().join("forebay");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_forebay")).arg(&binary).status().unwrap();
    assert!(copied.success());
    let data_dir = dir.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&data_dir, Permissions::from_mode(0o555)).unwrap();
    // Root ignores permissions, so the daemon runs as another user.
    let root = dir.path().metadata().unwrap().uid() == 0;
    let mut command = if root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    command.args([
        "serve",
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    let ended = Ended::of(command.arg(&data_dir));
    ended.assert_failed(1, &["cannot open lock file", data_dir.to_str().unwrap(), "Permission denied"]);
    std::fs::set_permissions(&data_dir, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(data_dir.read_dir().unwrap().count(), 0);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, admin) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", &address)] {
        let dir = tempfile::tempdir().unwrap();
        let mut command =
            forebay(&["serve", "--dev", "--listen", listen, "--admin-listen", admin, "--data-dir"]);
        let ended = Ended::of(command.arg(dir.path().join("data")));
        ended.assert_failed(1, &["listen on", &address, "Address already in use"]);
    }
    let daemon = Daemon::dev();
    assert_eq!(daemon.get("/readyz").status, 200);
}

#[test]
fn the_example_configurations_are_valid() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut checked = 0;
    let (pki, _) = Pki::new();
    for entry in std::fs::read_dir(deploy).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let mut check = Command::new(env!("CARGO_BIN_EXE_forebay"));
            if std::fs::read_to_string(&path).unwrap().contains("\ncert = \"/") {
                // This machine does not have the certificate that the example names.
                check.env("FOREBAY_TLS__CERT", pki.cert()).env("FOREBAY_TLS__KEY", pki.key());
            }
            let ended = Ended::of(check.arg("check").arg("--config").arg(&path));
            assert_eq!(ended.code, Some(0), "{}: {}", path.display(), ended.error);
            checked += 1;
        }
    }
    assert!(checked >= 4);
}
