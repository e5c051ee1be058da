//! Records what was sent and acknowledged, and checks that the tables agree.

use crate::support::{parquet_files, read_parquet};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

pub const STREAMS: [&str; 4] = ["visits", "clicks", "orders", "errors"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The connection broke before an answer.
    None,
    /// 200 or 202, with this receipt.
    Accepted(u64),
    /// 503: no row of it may be stored.
    Refused,
}

struct Request {
    stream: usize,
    good: u32,
    bad: u32,
    /// Sent with an idempotency key, and repeated until it was answered.
    keyed: bool,
    answer: Answer,
}

/// A request with an idempotency key that may be repeated.
#[derive(Clone)]
pub struct Keyed {
    pub number: u64,
    pub stream: usize,
    pub body: Arc<[u8]>,
    pub counts: (u64, u64),
    /// The receipt, if it was answered.
    pub receipt: Option<u64>,
}

/// Every request, by number.
#[derive(Default)]
pub struct Oracle {
    requests: Mutex<Vec<Request>>,
    /// Requests with a key whose outcome is unknown.
    open: Mutex<VecDeque<Keyed>>,
    /// Some answered requests with a key, to be repeated needlessly.
    closed: Mutex<Vec<Keyed>>,
}

/// The number of answered requests that are kept to be repeated.
const CLOSED_MAX: usize = 64;

/// The rows of one request in the tables.
#[derive(Default)]
struct Stored {
    stream: usize,
    lsn: u64,
    rows: Vec<u64>,
    quarantined: u32,
}

impl Oracle {
    /// Records that a request is about to be sent. Returns its number.
    pub fn send(&self, stream: usize, good: u32, bad: u32, keyed: bool) -> u64 {
        let mut requests = self.requests.lock();
        requests.push(Request { stream, good, bad, keyed, answer: Answer::None });
        requests.len() as u64 - 1
    }

    pub fn acknowledge(&self, number: u64, receipt: u64) {
        self.answer(number, Answer::Accepted(receipt));
    }

    pub fn refuse(&self, number: u64) {
        self.answer(number, Answer::Refused);
    }

    fn answer(&self, number: u64, answer: Answer) {
        self.requests.lock()[usize::try_from(number).unwrap()].answer = answer;
    }

    pub fn sent(&self) -> usize {
        self.requests.lock().len()
    }

    /// Records that a request with a key was not answered, or not conclusively.
    pub fn to_be_repeated(&self, request: Keyed) {
        self.open.lock().push_back(request);
    }

    /// Takes one of those requests.
    pub fn repeat(&self) -> Option<Keyed> {
        self.open.lock().pop_front()
    }

    /// Records that a request with a key was answered conclusively.
    pub fn answered(&self, request: Keyed, random: &mut fastrand::Rng) {
        let mut closed = self.closed.lock();
        if closed.len() < CLOSED_MAX {
            closed.push(request);
        } else {
            let at = random.usize(..CLOSED_MAX);
            closed[at] = request;
        }
    }

    /// Takes a request that was already answered, perhaps rounds ago.
    pub fn repeat_needlessly(&self, random: &mut fastrand::Rng) -> Option<Keyed> {
        random.choice(&*self.closed.lock()).cloned()
    }

    /// Compares the records with everything that is published.
    pub fn compare(&self, tables: &Path) {
        let requests = self.requests.lock();
        let stored = read(tables);
        assert!(self.open.lock().is_empty(), "some requests with a key were never answered");
        for (number, found) in &stored {
            let request = &requests[usize::try_from(*number).unwrap()];
            assert_eq!(found.stream, request.stream, "request {number} is in another stream's table");
            let all: Vec<u64> = (0..u64::from(request.good)).collect();
            assert_eq!(found.rows, all, "request {number} must be stored completely, each row once");
            assert_eq!(
                found.quarantined, request.bad,
                "request {number}: its bad rows must be in quarantine"
            );
            if let Answer::Accepted(receipt) = request.answer {
                assert_eq!(found.lsn, receipt, "request {number} must have the LSN of its receipt");
            }
            assert_ne!(request.answer, Answer::Refused, "request {number} was refused, but is stored");
        }
        let mut acknowledged = 0;
        let mut lost = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            if let Answer::Accepted(receipt) = request.answer {
                acknowledged += 1;
                if !stored.contains_key(&(number as u64)) {
                    lost.push((number, STREAMS[request.stream], receipt));
                }
            }
        }
        let keyed = requests.iter().filter(|request| request.keyed);
        let unanswered = keyed.clone().filter(|request| !matches!(request.answer, Answer::Accepted(_)));
        assert_eq!(
            unanswered.count(),
            0,
            "requests that are repeated until they are answered must be accepted"
        );
        println!("{} requests with a key, each stored once", keyed.count());
        assert!(lost.is_empty(), "acknowledged and lost (request, stream, receipt): {lost:?}");
        println!("{} requests, {acknowledged} acknowledged, {} stored", requests.len(), stored.len());
        assert!(acknowledged > 0, "nothing was tested");
    }
}

/// The stored rows by request number.
fn read(tables: &Path) -> HashMap<u64, Stored> {
    let mut stored: HashMap<u64, Stored> = HashMap::new();
    for (stream, name) in STREAMS.iter().enumerate() {
        for row in parquet_files(&tables.join(name)).iter().flat_map(|file| read_parquet(file)) {
            let number = |column: &str| row[column].as_u64().unwrap();
            let found = stored.entry(number("request")).or_default();
            assert!(
                found.rows.is_empty() || found.lsn == number("_lsn"),
                "stored twice under two LSNs: {row}"
            );
            (found.stream, found.lsn) = (stream, number("_lsn"));
            found.rows.push(number("row"));
        }
        for row in parquet_files(&tables.join(format!("{name}_quarantine")))
            .iter()
            .flat_map(|file| read_parquet(file))
        {
            stored.entry(request_of(&row)).or_default().quarantined += 1;
        }
    }
    for found in stored.values_mut() {
        found.rows.sort_unstable();
    }
    stored
}

/// The request number in a quarantined line. Binary columns are shown as hexadecimal digits.
fn request_of(row: &Value) -> u64 {
    let raw = row["raw"].as_str().unwrap();
    let digits: Vec<u8> =
        raw.bytes().map(|digit| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap()).collect();
    let text: Vec<u8> = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect();
    String::from_utf8(text).unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}
