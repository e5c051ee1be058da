//! Kills while a receiver's events become rows of several exports.

use super::support::{Daemon, Setup, eventually, read_table, request, try_read_response};
use super::{CONFIG, rounds, setting};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const EXPORTS: [&str; 3] = ["one", "two", "three"];
const CLIENTS: usize = 4;

fn call(daemon: &Daemon, method: &str, path: &str, body: &str) -> Value {
    let answer = request(daemon.ingest, method, path, &[("x-storageapi-token", "any")], body.as_bytes());
    assert!(answer.status < 300, "{}", answer.text());
    answer.json()
}

/// Creates the receiver and returns the path of its import route.
fn make(daemon: &Daemon) -> String {
    let export = |name: &&str| {
        let columns = json!([
            {"type": "id", "name": "id"},
            {"type": "body", "name": "body"},
            {"type": "template", "name": "n", "template": {"language": "jsonnet", "content": "Body(\"n\")"}},
        ]);
        json!({"name": name, "mapping": {"tableId": format!("in.c-b.{name}"), "columns": columns}})
    };
    let exports: Vec<Value> = EXPORTS.iter().map(export).collect();
    let body = json!({"name": "r", "exports": exports}).to_string();
    let task = call(daemon, "POST", "/v1/receivers", &body)["id"].as_str().unwrap().to_owned();
    let ended = eventually("the task's end", || {
        let task = call(daemon, "GET", &format!("/v1/tasks/{task}"), "");
        (task["isFinished"] == true).then_some(task)
    });
    assert_eq!(ended["status"], "success", "{ended}");
    let shown = call(daemon, "GET", "/v1/receivers/r", "");
    let url = shown["url"].as_str().unwrap();
    url[url.find("/v1/import/").unwrap()..].to_owned()
}

/// Sends events until the daemon is gone.
fn send(
    daemon: SocketAddr,
    path: &str,
    next: &AtomicU64,
    acknowledged: &Mutex<BTreeSet<u64>>,
) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(daemon)?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let body = format!("{{\"n\":{number}}}");
        write!(
            connection,
            "POST {path} HTTP/1.1\r\nhost: forebay\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let answer = try_read_response(&mut connection)?;
        match answer.status {
            200 => drop(acknowledged.lock().insert(number)),
            503 => {}
            _ => panic!("{answer:?}"),
        }
    }
}

/// Each acknowledged event is in the table of each export, once; every other event is in all of them or in none. The
/// row numbers of each table have no gaps.
#[test]
fn an_acknowledged_event_is_in_every_exports_table_once() {
    let home = tempfile::tempdir().unwrap();
    let setup = || Setup::dev(CONFIG);
    let daemon = setup().start_at(home.path());
    let path = make(&daemon);
    daemon.kill();
    let mut random = fastrand::Rng::with_seed(setting("FOREBAY_CRASH_SEED", fastrand::u64(..)));
    let (next, acknowledged) = (AtomicU64::new(0), Mutex::default());
    for _ in 0..rounds().div_ceil(2) {
        let daemon = setup().start_at(home.path());
        let (address, pause) = (daemon.ingest, Duration::from_millis(random.u64(50..600)));
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                // An error means that the daemon is gone.
                scope.spawn(|| send(address, &path, &next, &acknowledged).ok());
            }
            std::thread::sleep(pause);
            daemon.kill();
        });
    }
    let daemon = setup().start_at(home.path());
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
    assert!(daemon.metric("forebay_compactor_verdict_mismatches_total") < 1.0);
    let acknowledged = acknowledged.into_inner();
    assert!(!acknowledged.is_empty(), "nothing was tested");
    let mut tables = Vec::new();
    for name in EXPORTS {
        let rows = read_table(&home.path().join(format!("data/tables/in.c-b.{name}/export=r.{name}")));
        let mut events: BTreeMap<u64, u64> = BTreeMap::new();
        for row in &rows {
            let number: u64 = row["n"].as_str().unwrap().parse().unwrap();
            assert_eq!(row["body"], format!("{{\"n\":{number}}}"));
            *events.entry(number).or_default() += 1;
        }
        let twice: Vec<_> = events.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{name}: stored twice: {twice:?}");
        let lost: Vec<_> = acknowledged.iter().filter(|number| !events.contains_key(number)).collect();
        assert!(lost.is_empty(), "{name}: acknowledged and lost: {lost:?}");
        let mut ids: Vec<u64> = rows.iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=rows.len() as u64).collect::<Vec<_>>(), "{name}");
        tables.push(events);
    }
    assert!(tables.iter().all(|table| table == &tables[0]), "an event must be in all tables or in none");
    println!("{} events sent, {} acknowledged", next.into_inner(), acknowledged.len());
}
