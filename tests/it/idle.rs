//! Ten thousand idle clients.

use crate::support::{Daemon, request};
use std::net::TcpStream;

const CONNECTIONS: u64 = 10_000;
/// File descriptors reserved for everything else, here and in the daemon.
const SPARE: u64 = 500;

/// The number of connections that a process may hold, after raising the limit to its maximum as the daemon does.
fn connections_possible() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let possible = limit.maximum.map_or(CONNECTIONS, |most| most.saturating_sub(SPARE).min(CONNECTIONS));
    usize::try_from(possible).unwrap()
}

fn resident_kib(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn idle_connections_do_not_block_others() {
    let daemon = Daemon::dev();
    let before = resident_kib(&daemon);
    let n = connections_possible();
    println!("{n} idle connections");
    let idle: Vec<TcpStream> = (0..n).map(|_| TcpStream::connect(daemon.ingest).unwrap()).collect();
    for _ in 0..100 {
        let response = daemon.post("name=e&wait=true", r#"{"city":"Chicago"}"#);
        assert_eq!((response.status, response.counts()), (200, (1, 0)));
    }
    let grown = resident_kib(&daemon) - before;
    println!("{grown} KiB more, {} bytes a connection", grown * 1024 / n);
    assert!(grown < n * 16 + 64 * 1024, "{n} idle connections take {grown} KiB");
    assert_eq!(request(daemon.admin, "GET", "/healthz", &[], b"").status, 200);
    // No connection was closed: each still serves a request.
    for connection in [&idle[0], &idle[n / 2], &idle[n - 1]] {
        let mut connection = connection;
        let event = crate::wire::event("name=e", r#"{"city":"Madrid"}"#);
        std::io::Write::write_all(&mut connection, event.as_bytes()).unwrap();
        let mut connection = connection.try_clone().unwrap();
        assert_eq!(crate::support::read_response(&mut connection).status, 202);
    }
    drop(idle);
    assert_eq!(daemon.rows("e").len(), 103);
}
