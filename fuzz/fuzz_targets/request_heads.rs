//! Request heads with any bytes that the HTTP layer accepts: every contract parses or refuses them, and can word its
//! refusal.
#![no_main]

use forebay::auth::Auth;
use forebay::catalog::Catalog;
use forebay::clock;
use forebay::compactor::sink::{Destination, Sink};
use forebay::config::{Config, Flags};
use forebay::contracts::shared::control::{Control, ControlParts};
use forebay::contracts::{self, Contracts, AnswerContext, RequestHead};
use forebay::mapping::Evaluator;
use forebay::offsets::OffsetCounters;
use forebay::progress::Progress;
use forebay::read::preview::Preview;
use forebay::read::RecordReader;
use forebay::storage::sim::SimDisk;
use forebay::wal::{self, Floor};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

/// The headers that contracts use.
const HEADERS: [&str; 8] = [
    "authorization", "content-type", "content-length", "content-encoding", "x-storageapi-token", "x-amperity-tenant",
    "x-request-id", "origin",
];

/// The contracts of a new daemon, with its log on a simulated disk.
static CONTRACTS: LazyLock<Contracts> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("forebay-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let flags = Flags { dev: true, data_dir: Some(dir.clone()), ..Flags::default() };
    let config = Config::load(None, std::iter::empty(), &flags).unwrap();
    let catalog = Arc::new(Catalog::open(&dir, clock::system()).unwrap());
    let disk = Arc::new(SimDisk::default());
    let log = wal::open(disk, clock::system(), config.wal(), &Floor::default(), Arc::default()).unwrap();
    let wal = log.handle.clone();
    // Dropping the log would close it.
    std::mem::forget(log);
    let sink = Sink::open(&Destination::Directory(dir.join("tables"))).unwrap();
    let vocabulary = contracts::vocabulary();
    let auth = Auth::open(config.auth("fuzz".into()), vocabulary, Arc::clone(&catalog), clock::system()).unwrap();
    let progress = Arc::new(Progress::default());
    let preview = Preview { wal, catalog: Arc::clone(&catalog), sink, staged_dir: dir.join("staged") };
    let offsets = Arc::new(OffsetCounters::new(&[]));
    let control = Control::new(ControlParts {
        auth: Arc::new(auth),
        clock: clock::system(),
        instance: "fuzz".into(),
        public_url: None,
        secure: false,
        newest: preview.clone().recent_records(),
        requests: preview.clone().recent_requests(),
        errors: preview.clone().recent_errors(&progress),
        records: RecordReader::new(offsets, preview),
        evaluator: Arc::new(Evaluator::new(config.mapping.settings())),
        progress,
        catalog,
    });
    Contracts::open(&config.contracts, &Arc::new(control)).unwrap()
});

fuzz_target!(|input: (u8, String, Vec<(u8, Vec<u8>)>)| {
    let (method, target, fields) = input;
    let methods = [Method::POST, Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::HEAD];
    let method = &methods[usize::from(method) % methods.len()];
    let Ok(uri) = target.parse::<http::Uri>() else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in &fields {
        let name = HeaderName::from_static(HEADERS[usize::from(*name) % HEADERS.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let head = RequestHead { method, path: uri.path(), query: uri.query().unwrap_or_default(), headers: &headers, named: AnswerContext::default() };
    // A contract gets only requests for its own paths.
    for made in CONTRACTS.all().iter().filter(|made| (made.entry.takes)(head.path)) {
        if let Err(reject) = made.contract.parse(head) {
            let status = made.contract.rejected(&head, &reject).status;
            assert!(status.is_client_error(), "{status}: {reject:?}");
        }
    }
});
