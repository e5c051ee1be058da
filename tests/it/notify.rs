//! Notifications to the service manager, and signals to the daemon.

use crate::support::{Daemon, PATIENCE, Setup, eventually, signal};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// The service manager's end of `sd_notify(3)`.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(dir: &Path) -> (Self, String) {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self { socket, heard: Vec::new() }, path.to_str().unwrap().to_owned())
    }

    /// Reads until a message with this word arrives.
    fn wait_for(&mut self, word: &str) -> String {
        loop {
            let mut buffer = [0; 4096];
            let read = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("{error} while waiting for {word}; received {:?}", self.heard);
            });
            let message = String::from_utf8(buffer[..read].to_vec()).unwrap();
            self.heard.push(message.clone());
            if message.contains(word) {
                return message;
            }
        }
    }
}

fn watched(config: &str) -> (Daemon, Manager, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let (manager, path) = Manager::new(home.path());
    let daemon =
        Setup::dev(config).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000").start_at(home.path());
    (daemon, manager, home)
}

#[test]
fn the_service_manager_is_notified_of_every_phase() {
    let (daemon, mut manager, _home) = watched("");
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    signal(daemon.pid(), "HUP");
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    manager.wait_for("STOPPING=1");
}

#[test]
fn sighup_reloads_the_log_filter_and_survives_an_invalid_file() {
    let daemon = Setup::dev("[telemetry]\nlog = \"info\"").start();
    let config = daemon.dir().join("forebay.toml");
    std::fs::write(&config, "[telemetry]\nlog = 5").unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the refusal", || {
        daemon.log().contains("the daemon keeps its current settings").then_some(())
    });
    std::fs::write(&config, "[telemetry]\nlog = \"warn\"").unwrap();
    signal(daemon.pid(), "HUP");
    eventually("quiet", || {
        let before = daemon.log().len();
        assert_eq!(daemon.post("name=t&wait=table", "{\"n\":1}").status, 200);
        (daemon.log().len() == before).then_some(())
    });
}

#[test]
fn sighup_reloads_body_limits() {
    let daemon = Setup::dev("").start();
    let body = "{\"n\":1}\n".repeat(100);
    assert_eq!(daemon.post("name=t", &body).status, 202);
    std::fs::write(daemon.dir().join("forebay.toml"), "[limits]\nbody_max = \"100B\"").unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the new limit", || (daemon.post("name=t", &body).status == 413).then_some(()));
}

#[test]
fn a_second_signal_ends_a_drain_that_takes_too_long() {
    let daemon = Setup::dev("[server]\ndrain_timeout = \"10m\"").start();
    // A request that never ends.
    let mut stream = crate::support::connect(daemon.ingest);
    std::io::Write::write_all(
        &mut stream,
        b"POST /v0/events?name=t HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{",
    )
    .unwrap();
    eventually("the request", || (daemon.metric("forebay_wal_segments") >= 1.0).then_some(()));
    signal(daemon.pid(), "TERM");
    eventually("draining", || (daemon.get("/readyz").json()["reason"] == "draining").then_some(()));
    signal(daemon.pid(), "TERM");
    let stopped = daemon.wait();
    assert!(stopped.log.contains("stopped at once"), "{}", stopped.log);
}
