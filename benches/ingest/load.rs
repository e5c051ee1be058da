//! The load generator: closed loop, keep-alive, one thread, numbered events.

use crate::common::{Random, Spots, push_event};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A workload.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub what: &'static str,
    pub events: u64,
    pub connections: usize,
    /// The number of different requests that a connection cycles through.
    pub templates: u64,
}

/// The path for events that are answered after the append.
pub const EVENTS: &str = "/v0/events?name=bench";
/// The path for events that are answered after the sync.
pub const EVENTS_SYNCED: &str = "/v0/events?name=bench&wait=true";

pub const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "A",
        what: "1 event of ~200 B a request, 64 connections",
        events: 1,
        connections: 64,
        templates: 16,
    },
    Workload {
        name: "B",
        what: "60 events (~12 KB) a request, 64 connections",
        events: 60,
        connections: 64,
        templates: 8,
    },
    Workload {
        name: "C",
        what: "1 MB of NDJSON a request, 8 connections",
        events: 4800,
        connections: 8,
        templates: 2,
    },
];

/// The request head, except for the length of the body.
#[derive(Debug, Clone)]
pub struct Head {
    pub path: String,
    /// Additional header lines, each with its line end.
    pub headers: String,
    pub content_type: &'static str,
    /// How the events form one document; `None`: they are lines.
    pub around: Option<Around>,
}

/// The text before and after the events, which are separated by commas.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    pub before: &'static str,
    pub after: &'static str,
}

impl Head {
    pub fn of(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            headers: String::new(),
            content_type: "application/x-ndjson",
            around: None,
        }
    }
}

/// In a header line, a placeholder for sixteen digits that differ in each request.
pub const NUMBER: &str = "0123456789abcdef";

/// The results.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    pub requests: u64,
    pub events: u64,
    pub bytes: u64,
    /// The number of answers other than 2xx, and the first of them.
    pub refused: u64,
    pub first_refusal: Option<String>,
    /// Latencies of answered requests, in microseconds.
    pub latencies: Vec<u32>,
    pub elapsed: Duration,
}

impl Answers {
    pub fn percentile_ms(&mut self, part: f64) -> f64 {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        let at = (last * part) as usize;
        self.latencies.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

struct Template {
    request: Vec<u8>,
    body_bytes: u64,
    spots: Vec<Spots>,
    /// The position of the number in the head.
    number: Option<usize>,
}

fn template(workload: &Workload, random: &mut Random, head: &Head) -> Template {
    let Head { path, headers, content_type, around } = head;
    let mut body = around.map_or(String::new(), |around| around.before.to_owned());
    let spots: Vec<Spots> = (0..workload.events).map(|n| push_event(&mut body, random, n)).collect();
    if let Some(around) = around {
        body = body.trim_end().replace('\n', ",") + around.after;
    }
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    let shift = |spots: Spots| Spots { second: spots.second + head.len(), number: spots.number + head.len() };
    Template {
        number: head.find(NUMBER),
        spots: spots.into_iter().map(shift).collect(),
        body_bytes: body.len() as u64,
        request: [head.into_bytes(), body.into_bytes()].concat(),
    }
}

impl Template {
    /// Gives each event its own number and time.
    fn renew(&mut self, first: u64) {
        if let Some(at) = self.number {
            write_digits(&mut self.request[at..at + NUMBER.len()], first, 16);
        }
        for (n, spots) in (first..).zip(&self.spots) {
            write_digits(&mut self.request[spots.second..spots.second + 2], n / 4000 % 60, 10);
            write_digits(&mut self.request[spots.second + 3..spots.second + 6], n / 4 % 1000, 10);
            write_digits(&mut self.request[spots.number..spots.number + 12], n, 16);
        }
    }
}

fn write_digits(to: &mut [u8], mut value: u64, base: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::try_from(value % base).unwrap_or(0)];
        value /= base;
    }
}

/// Sends for `warm_up`, then counts for `time`, between calls of `start` and `end`. `head` returns the heads of the
/// workload's different requests.
pub fn run(
    address: SocketAddr,
    workload: &Workload,
    head: &dyn Fn(u64) -> Head,
    warm_up: Duration,
    time: Duration,
    mut start: impl FnMut(),
    mut end: impl FnMut(),
) -> Answers {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let from = Instant::now() + warm_up;
        let until = from + time;
        let mut connections = Vec::new();
        for index in 0..workload.connections {
            let mut random = Random(index as u64);
            let templates: Vec<Template> = (0..workload.templates)
                .map(|n| {
                    template(workload, &mut random, &head(n * workload.connections as u64 + index as u64))
                })
                .collect();
            let first = (index as u64) << 36;
            connections.push(tokio::task::spawn_local(connection(address, templates, first, from, until)));
        }
        tokio::time::sleep_until(from.into()).await;
        start();
        tokio::time::sleep_until(until.into()).await;
        end();
        let mut all = Answers { elapsed: time, ..Answers::default() };
        for connection in connections {
            let answers = connection.await.expect("a connection's task");
            all.requests += answers.requests;
            all.events += answers.events;
            all.bytes += answers.bytes;
            all.refused += answers.refused;
            all.latencies.extend(answers.latencies);
            all.first_refusal = all.first_refusal.or(answers.first_refusal);
        }
        all
    })
}

async fn connection(
    address: SocketAddr,
    mut templates: Vec<Template>,
    mut number: u64,
    from: Instant,
    until: Instant,
) -> Answers {
    let mut answers = Answers::default();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let mut buffer = vec![0; 16 * 1024];
    let count = templates.len();
    let mut turn = 0;
    loop {
        let template = &mut templates[turn % count];
        turn += 1;
        template.renew(number);
        number += template.spots.len() as u64;
        let sent = Instant::now();
        if sent >= until {
            return answers;
        }
        stream.write_all(&template.request).await.expect("a request sent");
        let ok = read_answer(&mut stream, &mut buffer).await;
        let now = Instant::now();
        match ok {
            Ok(()) if sent >= from && now < until => {
                answers.requests += 1;
                answers.events += template.spots.len() as u64;
                answers.bytes += template.body_bytes;
                answers.latencies.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
            }
            Ok(()) => {}
            Err(refusal) => {
                answers.refused += 1;
                answers.first_refusal.get_or_insert(refusal);
            }
        }
    }
}

/// Reads one answer. Returns its text as the error if the status is not 2xx.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), String> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("an answer");
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).expect("a head of text").to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = head + 4 + length.unwrap_or(0);
        while filled < end {
            filled += stream.read(&mut buffer[filled..]).await.expect("an answer");
        }
        let ok = buffer.get(9) == Some(&b'2');
        return if ok { Ok(()) } else { Err(String::from_utf8_lossy(&buffer[..end]).into_owned()) };
    }
}
