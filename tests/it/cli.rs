//! The commands that query a daemon, load files into it, and inspect its log.

use crate::support::{Daemon, Setup, eventually, fields, read_table};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn forebay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    forebay(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

impl Daemon {
    /// Runs a command against the admin listener.
    fn ask(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.admin);
        let mut command = forebay(arguments);
        command.args(["--admin-url", &url]).env("FOREBAY_TOKEN", self.token.as_deref().unwrap_or(""));
        command.output().unwrap()
    }

    fn load(&self, arguments: &[&str], input: &[u8]) -> Output {
        let url = format!("http://{}", self.ingest);
        let mut command = forebay(&["load"]);
        command.args(arguments).args(["--url", &url, "--json"]).stdin(Stdio::piped());
        command.env("FOREBAY_TOKEN", self.token.as_deref().unwrap_or(""));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command with invalid arguments does not read its input.
        drop(stdin.write_all(input));
        drop(stdin);
        child.wait_with_output().unwrap()
    }
}

#[test]
fn status_and_streams_are_shown_to_people_and_to_programs() {
    let daemon = Setup::with_config("").start();
    let token = format!("Bearer {}", daemon.token.as_deref().unwrap());
    for body in ["{\"city\":\"Chicago\",\"n\":1}\nnope\n", "{\"n\":\"x\"}"] {
        let posted = daemon.post_with("name=visits&wait=table", &[("authorization", &token)], body);
        assert_eq!(posted.status, 200, "{}", posted.text());
    }

    let status = daemon.ask(&["status"]);
    assert!(status.status.success(), "{status:?}");
    for part in ["· ready ·", "accepted     2 rows", "destination  file://", "0 files"] {
        assert!(stdout(&status).contains(part), "{part} in {}", stdout(&status));
    }
    let status = json_of(&daemon.ask(&["status", "--json"]));
    assert_eq!((&status["ready"], &status["streams"]), (&json!(true), &json!(1)));

    let list = daemon.ask(&["stream", "list"]);
    let row: Vec<String> =
        stdout(&list).lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(row[..4], ["visits", "evolve", "2", "1"]);
    assert_eq!(json_of(&daemon.ask(&["stream", "list", "--json"]))["streams"][0]["name"], "visits");
    let show = stdout(&daemon.ask(&["stream", "show", "visits"]));
    for part in [
        "city",
        "published  rows ",
        "published  quarantine  ",
        "rescued         1",
        "values that did not fit",
    ] {
        assert!(show.contains(part), "{part} in {show}");
    }
    let columns = &json_of(&daemon.ask(&["stream", "show", "visits", "--json"]))["schema"]["columns"];
    assert_eq!(columns[0]["name"], "city");
    let missing = daemon.ask(&["stream", "show", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("404: no stream has the name or id \"nobody\""), "{missing:?}");
}

#[test]
fn status_reports_unreachable_and_refusing_daemons() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = run(&["status", "--admin-url", &format!("http://{closed}")]);
    assert_eq!(nobody.status.code(), Some(69));
    assert!(stderr(&nobody).contains("cannot reach the daemon at http://127.0.0.1"), "{nobody:?}");
    let daemon = Setup::with_config("").start();
    let stranger = run(&["status", "--admin-url", &format!("http://{}", daemon.admin)]);
    assert_eq!(stranger.status.code(), Some(1));
    assert!(stderr(&stranger).contains("answered 401"), "{stranger:?}");
    let wrong_port = run(&["status", "--admin-url", &format!("http://{}", daemon.ingest)]);
    assert_eq!(wrong_port.status.code(), Some(1), "{wrong_port:?}");
}

#[test]
fn status_can_be_watched() {
    let daemon = Daemon::dev();
    let url = format!("http://{}", daemon.admin);
    let mut command = forebay(&["status", "--watch", "1", "--admin-url", &url]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let rates = lines.find(|line| line.as_ref().unwrap().contains("rows/s"));
    assert!(rates.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn tokens_are_created_listed_refreshed_and_revoked() {
    let daemon = Setup::with_config("").start();
    let create =
        ["token", "create", "page", "--scope", "ingest:visits", "--scope", "create", "--expires", "30d"];
    let made = daemon.ask(&[&create[..], &["--origin", "https://www.example.com", "--rps", "10"]].concat());
    assert!(made.status.success(), "{made:?}");
    let value = stdout(&made).trim_end().to_owned();
    assert!(
        value.starts_with("fb_") && !value.contains(char::is_whitespace),
        "not the token alone: {value:?}"
    );
    assert!(stderr(&made).contains("Shown only once"), "{made:?}");
    let send = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), ("origin", "https://www.example.com")];
        daemon.post_with("name=visits", &headers, "{}").status
    };
    assert_eq!(send(&value), 202);

    let list = stdout(&daemon.ask(&["token", "list"]));
    for part in ["admin", "page", "ingest:visits create", "https://www.example.com", "fb_…"] {
        assert!(list.contains(part), "{part} in {list}");
    }
    assert!(!list.contains(&value));
    assert_eq!(json_of(&daemon.ask(&["token", "list", "--json"]))["tokens"][1]["rps"], 10);
    let refreshed = daemon.ask(&["token", "refresh", "page"]);
    assert!(refreshed.status.success(), "{refreshed:?}");
    let refreshed = stdout(&refreshed).trim_end().to_owned();
    assert_eq!((send(&value), send(&refreshed)), (403, 202));
    let revoked = daemon.ask(&["token", "revoke", "page"]);
    assert!(revoked.status.success() && revoked.stdout.is_empty(), "{revoked:?}");
    assert_eq!(send(&refreshed), 403);
    let again = daemon.ask(&["token", "revoke", "page"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("404: no token has the id or name \"page\""), "{again:?}");

    let key = daemon.ask(&["token", "create", "k", "--kind", "api-key", "--scope", "ingest:*", "--json"]);
    assert!(json_of(&key)["token"].as_str().unwrap().starts_with("fbk_"), "{key:?}");
    let jwt =
        daemon.ask(&["token", "create", "j", "--kind", "jwt", "--scope", "ingest:*", "--expires", "1h"]);
    assert!(stdout(&jwt).starts_with("eyJ"), "{jwt:?}");
    for (wrong, code, says) in [
        (&["token", "create", "x"][..], 2, "--scope"),
        (&["token", "create", "x", "--scope", "all"], 1, "\"all\" is not a valid scope"),
        (
            &["token", "create", "x", "--scope", "admin", "--expires", "soon"],
            2,
            "expected a duration such as",
        ),
        (&["token", "create", "k", "--scope", "admin"], 1, "already exists"),
    ] {
        let refused = daemon.ask(wrong);
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
        assert!(stderr(&refused).contains(says), "{says:?}: {refused:?}");
    }
}

#[test]
fn clients_and_keys_are_created_listed_and_deleted() {
    let daemon = Setup::with_config("").start();
    let made = daemon.ask(&["client", "create", "collector", "--role", "ManageStreams", "--project", "p"]);
    assert!(made.status.success(), "{made:?}");
    assert!(stdout(&made).starts_with("fbc_") && stderr(&made).contains("The secret of client "), "{made:?}");
    let list = stdout(&daemon.ask(&["client", "list"]));
    for part in ["collector", "ManageStreams", "ingest:*"] {
        assert!(list.contains(part), "{part} in {list}");
    }
    assert!(daemon.ask(&["client", "delete", "collector"]).status.success());
    assert_eq!(json_of(&daemon.ask(&["client", "list", "--json"])), json!({"clients": []}));
    assert_eq!(daemon.ask(&["client", "delete", "collector"]).status.code(), Some(1));

    let first = stdout(&daemon.ask(&["key", "rotate"])).trim_end().to_owned();
    let second = stdout(&daemon.ask(&["key", "rotate", "--grace", "1h"])).trim_end().to_owned();
    let keys = json_of(&daemon.ask(&["key", "list", "--json"]))["keys"].clone();
    assert_eq!((&keys[0]["kid"], &keys[1]["kid"]), (&json!(second), &json!(first)));
    let list = stdout(&daemon.ask(&["key", "list"]));
    assert!(list.contains(&first) && list.contains("HS256"), "{list}");
    assert_eq!(daemon.ask(&["key", "delete", &second]).status.code(), Some(1));
    assert!(daemon.ask(&["key", "delete", &first]).status.success());
}

fn numbered(rows: u64) -> String {
    (0..rows).fold(String::new(), |text, n| text + &format!("{{\"n\":{n}}}\n"))
}

#[test]
fn load_sends_a_file_plain_or_gzip_and_standard_input() {
    let daemon = Daemon::dev();
    let rows = 10_000;
    let text = numbered(rows);
    let plain = daemon.dir().join("events.ndjson");
    std::fs::write(&plain, &text).unwrap();
    let gzip = daemon.dir().join("events.ndjson.gz");
    let mut encoder = GzEncoder::new(std::fs::File::create(&gzip).unwrap(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    for file in [plain.to_str().unwrap(), gzip.to_str().unwrap(), "-"] {
        let loaded = daemon.load(&[file, "--stream", "numbers"], text.as_bytes());
        assert!(loaded.status.success(), "{loaded:?}");
        let summary = json_of(&loaded);
        assert_eq!((&summary["stored"], &summary["quarantined"]), (&json!(rows), &json!(0)));
        assert_eq!(summary["batches"], json!(rows / 60 + 1));
    }
    let mut numbers: Vec<u64> = daemon.rows("numbers").iter().map(|row| row["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..rows).flat_map(|n| [n; 3]).collect::<Vec<_>>());
}

#[test]
fn load_with_one_connection_keeps_the_order() {
    let daemon = Daemon::dev();
    let text = numbered(300);
    let arguments = ["-", "-s", "n", "--connections", "1", "--batch-rows", "7", "--wait", "append"];
    let loaded = daemon.load(&arguments, text.as_bytes());
    assert!(loaded.status.success(), "{loaded:?}");
    let numbers: Vec<u64> = daemon.rows("n").iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
}

#[test]
fn load_reports_records_that_were_not_accepted() {
    let daemon = Daemon::dev();
    let quarantined = daemon.load(&["-", "-s", "q"], b"{\"a\":1}\nnope\n");
    assert_eq!(quarantined.status.code(), Some(3), "{quarantined:?}");
    assert_eq!(json_of(&quarantined)["quarantined"], 1);
    let mut text = "{\"a\":1}\n".repeat(60);
    text = [text, "{\"a\":\"".to_owned(), "x".repeat(11 << 20), "\"}\n".to_owned()].concat();
    let huge = daemon.load(&["-", "-s", "h", "--connections", "1"], text.as_bytes());
    assert_eq!(huge.status.code(), Some(1), "{}", stderr(&huge));
    assert!(
        stderr(&huge).contains("-: the daemon refused the batch that starts at line 61: 413"),
        "{}",
        stderr(&huge)
    );
    let bad_name = daemon.load(&["-", "-s", "a/b"], b"{}\n");
    assert_eq!(bad_name.status.code(), Some(1));
    assert!(stderr(&bad_name).contains("400"), "{bad_name:?}");
    let no_file = daemon.load(&["/nowhere/at-all", "-s", "a"], b"");
    assert_eq!(no_file.status.code(), Some(1));
    assert!(stderr(&no_file).contains("/nowhere/at-all: No such file"), "{no_file:?}");
    let no_daemon = daemon.load(&["-", "-s", "a", "--url", "nonsense"], b"");
    assert!(!no_daemon.status.success());
}

/// A server that answers with each status in turn and closes the connection at 0.
fn answering(statuses: &'static [u16]) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = std::thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let body = r#"{"successful_rows":2,"quarantined_rows":0}"#;
            let answer = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if *status > 0 {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (url, serve)
}

#[test]
fn load_retries_after_429_5xx_and_broken_connections() {
    let (url, server) = answering(&[503, 429, 0, 500, 202]);
    let mut child = forebay(&["load", "-", "-s", "a", "--json", "--url", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{}\n{}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let summary = json_of(&output);
    assert_eq!((&summary["stored"], &summary["retries"]), (&json!(2), &json!(4)));
    server.join().unwrap();
}

#[test]
fn load_gives_up_eventually() {
    let (url, server) = answering(&[503]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{}\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["load", path, "-s", "a", "--retry-for", "0", "--url", &url]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("gave up after 1 tries: 503"), "{output:?}");
    server.join().unwrap();
}

/// A log with three requests to two streams, left by a daemon that was killed before it wrote a file.
fn killed_log(home: &Path) {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"").start_at(home);
    for (stream, body) in [("a", r#"{"n":1}"#), ("b", r#"{"n":2}"#), ("a", r#"{"n":3}"#)] {
        assert_eq!(daemon.post(&format!("name={stream}&wait=true"), body).status, 200);
    }
    daemon.kill();
}

#[test]
fn a_log_is_inspected_verified_and_dumped() {
    let home = tempfile::tempdir().unwrap();
    killed_log(home.path());
    let data = home.path().join("data");
    let data = data.to_str().unwrap();

    let inspected = json_of(&run(&["wal", "inspect", data, "--json"]));
    let summary = &inspected["segments"][0]["summary"];
    assert_eq!((&inspected["segments"][0]["state"], &summary["data_frames"]), (&json!("open"), &json!(3)));
    assert!(stdout(&run(&["wal", "inspect", data])).contains(" open "));
    let verified = run(&["wal", "verify", data]);
    assert!(verified.status.success() && stdout(&verified).contains("all durable data is readable"));

    let dumped = stdout(&run(&["wal", "dump", data, "--json"]));
    let frames: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_data: Vec<&Value> = frames.iter().filter(|frame| frame["kind"] == "DATA").collect();
    let streams: Vec<&str> = of_data.iter().map(|frame| frame["stream"].as_str().unwrap()).collect();
    assert_eq!(streams, ["a", "b", "a"]);
    let records = stdout(&run(&["wal", "dump", data, "--stream", "a", "--records"]));
    assert_eq!(records, "{\"n\":1}\n{\"n\":3}\n");
    let last = of_data[2]["lsn"].to_string();
    let records = stdout(&run(&["wal", "dump", data, "--from", &last, "--records"]));
    assert_eq!(records, "{\"n\":3}\n");
    let unknown = run(&["wal", "dump", data, "--stream", "z"]);
    assert!(stderr(&unknown).contains("has no stream \"z\""), "{unknown:?}");
    let nothing = run(&["wal", "inspect", home.path().to_str().unwrap()]);
    assert!(stderr(&nothing).contains("has no log segments"), "{nothing:?}");
}

/// Segments of every released format stay readable.
#[test]
fn segments_of_old_formats_are_readable() {
    for format in 1..=1 {
        let path = format!("{}/tests/data/format-{format}.wal.gz", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = Vec::new();
        GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let segment = dir.path().join("0000000000000001.wal");
        std::fs::write(&segment, bytes).unwrap();
        let segment = segment.to_str().unwrap();
        assert!(run(&["wal", "verify", segment]).status.success());
        let records = stdout(&run(&["wal", "dump", segment, "--records"]));
        assert_eq!(records, "{\"n\":1}\n{\"n\":2}\nnope\n[{\"n\":3},{\"n\":4}]\n");
        let frames = stdout(&run(&["wal", "dump", segment, "--json"]));
        let data: Vec<Value> = frames.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let lsns: Vec<&Value> = data.iter().map(|frame| &frame["lsn"]).collect();
        assert_eq!(lsns, [16_777_217, 16_777_217, 16_777_218, 16_777_219]);
        assert_eq!((&data[2]["records"], &data[2]["bad"]), (&json!(1), &json!(1)));
        assert_eq!(data[1]["received_at"], "2026-11-21T07:22:05.285349Z");
    }
}

fn only_segment(data: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).min().unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_in_the_middle_is_found() {
    let home = tempfile::tempdir().unwrap();
    killed_log(home.path());
    let data = home.path().join("data");
    let dumped = stdout(&run(&["wal", "dump", data.to_str().unwrap(), "--json"]));
    let second: Value = serde_json::from_str(dumped.lines().nth(2).unwrap()).unwrap();
    let offset = usize::try_from(second["offset"].as_u64().unwrap()).unwrap();
    flip(&only_segment(&data), offset + 50);
    let verified = run(&["wal", "verify", data.to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(1));
    let lost = format!("are damaged: 1 frames missing, from {} on", second["lsn"]);
    assert!(stdout(&verified).contains(&lost), "{}", stdout(&verified));
}

#[test]
fn repairing_a_damaged_header_recovers_its_rows() {
    for offset in [20, 34, 44, 50, 60, 4095] {
        let home = tempfile::tempdir().unwrap();
        killed_log(home.path());
        let data = home.path().join("data");
        flip(&only_segment(&data), offset);
        let data_arg = data.to_str().unwrap();
        assert_eq!(run(&["wal", "verify", data_arg]).status.code(), Some(1));
        let dry = run(&["wal", "repair", data_arg, "--dry-run"]);
        assert!(stdout(&dry).contains("nothing was changed"), "{dry:?}");
        let repaired = run(&["wal", "repair", data_arg]);
        assert!(repaired.status.success(), "{offset}: {repaired:?}");
        assert!(stdout(&repaired).contains("readable with a new one"), "{repaired:?}");
        assert!(run(&["wal", "verify", data_arg]).status.success());
        let daemon = Setup::dev("").start_at(home.path());
        let numbers: Vec<Value> = daemon.rows("a").iter().map(fields).collect();
        assert_eq!(numbers, [json!({"n": 1}), json!({"n": 3})], "{offset}");
    }
}

#[test]
fn a_start_repairs_a_damaged_header_or_quarantines_the_segment() {
    // The header in part, all of the header, and all of the file.
    for (damaged, numbers) in [(4095..4096, &[1, 3][..]), (0..4096, &[1, 3]), (0..usize::MAX, &[])] {
        let home = tempfile::tempdir().unwrap();
        killed_log(home.path());
        let data = home.path().join("data");
        let segment = only_segment(&data);
        let mut bytes = std::fs::read(&segment).unwrap();
        let damaged = damaged.start..damaged.end.min(bytes.len());
        for byte in &mut bytes[damaged] {
            *byte ^= 0x55;
        }
        std::fs::write(&segment, bytes).unwrap();
        let daemon = Setup::dev("").start_at(home.path());
        let held = run(&["wal", "repair", data.to_str().unwrap()]);
        assert!(stderr(&held).contains("is in use by another forebay"), "{held:?}");
        let recovery = &daemon.get("/admin/v1/wal").json()["recovery"];
        let name = segment.file_name().unwrap().to_str().unwrap();
        let list = if numbers.is_empty() { "quarantined" } else { "mended" };
        assert_eq!(recovery[list], json!([name]));
        let lsn = daemon.post("name=a&wait=true", r#"{"n":4}"#).receipt();
        assert!(numbers.len() == 2 || lsn > 1 << 40, "LSN {lsn} may have been assigned before");
        let found: Vec<u64> = daemon.rows("a").iter().map(|row| row["n"].as_u64().unwrap()).collect();
        assert_eq!(found, [numbers, &[4]].concat());
        assert!(daemon.log().contains("\"segment\":\"0000000000000001\""), "the log must report it");
    }
}

#[test]
fn a_segment_that_blocks_the_start_is_put_aside_on_request() {
    let home = tempfile::tempdir().unwrap();
    killed_log(home.path());
    let data = home.path().join("data");
    let segment = only_segment(&data);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8] = 2;
    std::fs::write(&segment, bytes).unwrap();
    let data_arg = data.to_str().unwrap();
    let named = run(&["wal", "repair", data_arg]);
    assert_eq!(named.status.code(), Some(1));
    assert!(stdout(&named).contains("newer than 1") && stdout(&named).contains("--put-aside"), "{named:?}");
    assert!(run(&["wal", "repair", data_arg, "--put-aside"]).status.success());
    assert!(data.join("wal/quarantine").join(segment.file_name().unwrap()).is_file());
    let daemon = Setup::dev("").start_at(home.path());
    assert_eq!(daemon.post("name=a&wait=table", r#"{"n":4}"#).status, 200);
}

#[test]
fn dumped_records_can_be_loaded_again() {
    let home = tempfile::tempdir().unwrap();
    killed_log(home.path());
    let data = home.path().join("data");
    let records = run(&["wal", "dump", data.to_str().unwrap(), "--stream", "a", "--records"]).stdout;
    let daemon = Daemon::dev();
    assert!(daemon.load(&["-", "-s", "again"], &records).status.success());
    let tables = daemon.data_dir().join("tables/again");
    let rows = eventually("the loaded records", || Some(read_table(&tables)).filter(|rows| rows.len() == 2));
    assert_eq!(rows.iter().map(fields).collect::<Vec<_>>(), [json!({"n": 1}), json!({"n": 3})]);
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for (shell, word) in [("bash", "_forebay"), ("zsh", "#compdef forebay"), ("fish", "complete -c forebay")]
    {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains(word), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["man", dir.path().to_str().unwrap()]).status.success());
    for page in ["forebay.1", "forebay-serve.1", "forebay-load.1", "forebay-wal-verify.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let daemon = Daemon::dev();
    let url = format!("http://{}", daemon.admin);
    for arguments in [&["completions", "bash"][..], &["status", "--watch", "1", "--admin-url", &url]] {
        let mut child = forebay(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The reader closes the pipe before the first byte.
        drop(child.stdout.take());
        let status = crate::support::wait_for_exit(&mut child);
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(status.success() && error.is_empty(), "{arguments:?}: {error}");
    }
}
