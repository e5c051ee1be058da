//! Reading records by offset from ten million, first from the log, then from the files. One reader, random offsets,
//! over HTTP on one connection.

use crate::Settings;
use crate::process::Server;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const RECORDS: u64 = 10_000_000;
const RECORDS_A_REQUEST: u64 = 10_000;
const PARTITIONS: u64 = 4;
const READS: usize = 2000;

pub fn run(_: &Settings, dir: &Path) {
    let settings = [
        ("FOREBAY_COMPACTOR__MAX_AGE", "1h"),
        ("FOREBAY_COMPACTOR__MAX_ROWS", "100000000"),
        ("FOREBAY_COMPACTOR__MAX_BYTES", "8GiB"),
        ("FOREBAY_WAL__MAX_BYTES", "8GiB"),
    ];
    let server = Server::daemon(dir, &[], &settings);
    let admin = server.admin.expect("an admin address");
    let columns =
        r#"[{"name":"id","type":"string"},{"name":"n","type":"int64"},{"name":"value","type":"float64"}]"#;
    let body = format!(
        "{{\"policy\":\"strict\",\"columns\":{columns},\"settings\":{{\"partitions\":{PARTITIONS},\"key\":[\"id\"]}}}}"
    );
    let made = Connection::to(admin).call("PUT", "/admin/v1/streams/numbered", body.as_bytes());
    let made: serde_json::Value = serde_json::from_slice(&made).expect("a stream");
    let stream = format!(
        "/api/v2/highScale/streams/datasets/ri.foundry.main.dataset.{}/streams/master",
        made["id"].as_str().expect("its id")
    );
    let began = Instant::now();
    let mut sender = Connection::to(server.ingest);
    for first in (0..RECORDS).step_by(usize::try_from(RECORDS_A_REQUEST).unwrap_or(1)) {
        let mut body = String::new();
        for n in first..first + RECORDS_A_REQUEST {
            let line = writeln!(
                body,
                "{{\"id\":\"sensor-{}\",\"n\":{n},\"value\":{}.25}}",
                n * 7919 % 10_007,
                n % 1000
            );
            line.expect("a string takes everything");
        }
        sender.call("POST", "/v0/events?name=numbered", body.as_bytes());
    }
    println!("\n{RECORDS} records in {PARTITIONS} partitions, stored in {:.1?}", began.elapsed());
    println!("{:>8} {:>8} {:>10} {:>10} {:>10}", "where", "records", "p50 ms", "p99 ms", "max ms");
    measure(server.ingest, &stream, "log");
    let began = Instant::now();
    Connection::to(admin).call("POST", "/admin/v1/publish", b"");
    println!("(files published in {:.1?})", began.elapsed());
    measure(server.ingest, &stream, "files");
}

fn measure(ingest: SocketAddr, stream: &str, place: &str) {
    let mut reader = Connection::to(ingest);
    let ends = reader.call("GET", &format!("{stream}/getEndOffsets"), b"");
    let ends: std::collections::BTreeMap<String, u64> = serde_json::from_slice(&ends).expect("ends");
    let mut random = 88_172_645_463_325_252_u64;
    for records in [1, 100, 1000] {
        let mut times: Vec<Duration> = Vec::with_capacity(READS);
        for _ in 0..READS {
            // Xorshift: the same offsets in each run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let partition = random % PARTITIONS;
            let end = ends[&partition.to_string()];
            let from = (random >> 8) % (end - records);
            let path =
                format!("{stream}/getRecords?partitionId={partition}&limit={records}&startOffset={from}");
            let began = Instant::now();
            let answer = reader.call("GET", &path, b"");
            times.push(began.elapsed());
            let first = format!("[{{\"offset\":{from},");
            assert!(answer.starts_with(first.as_bytes()), "{}", String::from_utf8_lossy(&answer));
        }
        times.sort_unstable();
        let ms = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)].as_secs_f64() * 1e3;
        println!("{place:>8} {records:>8} {:>10.2} {:>10.2} {:>10.2}", ms(500), ms(990), ms(1000));
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream: BufReader::new(stream) }
    }

    /// The body of a successful answer.
    fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("a request sent");
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("an answer");
            if status.is_empty() {
                status.clone_from(&line);
            }
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        assert!(status.contains(" 20"), "{status}{}", String::from_utf8_lossy(&body));
        body
    }
}
