//! Ten thousand streams with a row a minute each, under the default conditions for files: memory, and the number of
//! files. `--seconds` sets the duration; files are written every five minutes.

use crate::Settings;
use crate::call::metric;
use crate::process::Server;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const STREAMS: u32 = 10_000;
const MINUTE: Duration = Duration::from_mins(1);
const CONNECTIONS: u32 = 8;

pub fn run(settings: &Settings, dir: &Path) {
    let server = Server::daemon(dir, &[], &[]);
    let admin = server.admin.expect("an admin address");
    let began = Instant::now();
    // The first rows create the streams, as fast as the catalog allows.
    send_to_all(server.ingest, Duration::ZERO, 0);
    println!("\n{STREAMS} streams created in {:.1?}; now each gets a row a minute", began.elapsed());
    println!(
        "{:>6} {:>8} {:>8} {:>10} {:>10} {:>8} {:>12} {:>10}",
        "minute", "RSS MB", "peak MB", "rows MB", "open files", "files", "CPU s so far", "log MB"
    );
    let began = Instant::now();
    for minute in 1.. {
        send_to_all(server.ingest, MINUTE, minute);
        let usage = server.usage();
        println!(
            "{minute:>6} {:>8.0} {:>8.0} {:>10.1} {:>10.0} {:>8.0} {:>12.1} {:>10.0}",
            usage.rss_bytes as f64 / 1e6,
            usage.peak_rss_bytes as f64 / 1e6,
            metric(admin, "forebay_compactor_memory_bytes") / 1e6,
            metric(admin, "forebay_compactor_open_files"),
            metric(admin, "forebay_compactor_published_files_total"),
            usage.cpu_seconds,
            metric(admin, "forebay_wal_bytes") / 1e6,
        );
        if began.elapsed() >= settings.time {
            return;
        }
    }
}

/// Sends a row to each stream, evenly over `time`.
fn send_to_all(ingest: SocketAddr, time: Duration, minute: u32) {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut connection = TcpStream::connect(ingest).expect("a connection");
                connection.set_nodelay(true).expect("nodelay");
                for stream in (part..STREAMS).step_by(CONNECTIONS as usize) {
                    let due = began + time * stream / STREAMS;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    send(&mut connection, stream, minute);
                }
            });
        }
    });
}

fn send(connection: &mut TcpStream, stream: u32, minute: u32) {
    let body = format!(
        "{{\"device\":\"sensor-{stream}\",\"minute\":{minute},\"temperature\":{}.5,\"ok\":true,\"note\":\"as ever\"}}",
        stream % 40
    );
    let request = format!(
        "POST /v0/events?name=stream_{stream} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).expect("a request sent");
    let mut answer = [0; 4096];
    // It is small and arrives in one piece.
    let read = connection.read(&mut answer).expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer[..read]));
}
