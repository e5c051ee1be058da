//! Proxies in front of the daemon: which of them may state the client's address, and the address in the log.

use crate::support::{Daemon, Setup, connect, eventually, read_response};
use crate::tls::{Pki, client, run_async};
use crate::wire::{Wire, event, head, refusals};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

const EVENT: &str = r#"{"city":"Chicago"}"#;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// PROXY, TCP over IPv4, twelve bytes: from 192.0.2.7:4711 to 10.0.0.1:80.
const V2: &[u8] = b"\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x00\x50";
/// LOCAL: a health check by the proxy.
const V2_LOCAL: &[u8] = b"\x20\x00\x00\x00";

/// The client addresses in the log, in the order of the requests.
fn logged(daemon: &Daemon) -> Vec<String> {
    let mut dump = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = dump.args(["wal", "dump", "--json"]).arg(daemon.data_dir()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let frames = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    frames.filter_map(|frame| frame["client_ip"].as_str().map(str::to_owned)).collect()
}

/// Connects from this local address.
fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let from = SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0);
    let stream = run_async(async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    stream
}

fn forwarded(value: &str) -> String {
    let headers = format!("{value}content-length: {}\r\n\r\n{EVENT}", EVENT.len());
    head("name=e", &headers)
}

#[test]
fn x_forwarded_for_is_accepted_from_trusted_proxies_only() {
    let daemon = Setup::dev("[server]\ntrusted_proxies = [\"127.0.0.2\", \"10.0.0.0/8\"]").start();
    let said = [
        ("127.0.0.2", "", "127.0.0.2"),
        ("127.0.0.2", "x-forwarded-for: 192.0.2.7\r\n", "192.0.2.7"),
        // The proxy's entry follows those that the client sent itself.
        ("127.0.0.2", "x-forwarded-for: 8.8.8.8, 192.0.2.7, 10.1.1.1\r\n", "192.0.2.7"),
        ("127.0.0.2", "x-forwarded-for: 8.8.8.8\r\nX-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        ("127.0.0.2", "x-forwarded-for: localhost\r\n", "127.0.0.2"),
        // Headers from other peers are ignored.
        ("127.0.0.1", "x-forwarded-for: 192.0.2.7\r\n", "127.0.0.1"),
        ("127.0.0.3", "x-forwarded-for: 127.0.0.2\r\n", "127.0.0.3"),
    ];
    for (from, header, _) in said {
        let mut stream = connect_from(from, daemon.ingest);
        stream.write_all(forwarded(header).as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, 202);
    }
    // On one connection, each request has its own header.
    let mut wire = connect_from("127.0.0.2", daemon.ingest);
    for client in ["192.0.2.8", "192.0.2.9"] {
        wire.write_all(forwarded(&format!("x-forwarded-for: {client}\r\n")).as_bytes()).unwrap();
        assert_eq!(read_response(&mut wire).status, 202);
    }
    let mut expected = said.map(|(.., client)| client).to_vec();
    expected.extend(["192.0.2.8", "192.0.2.9"]);
    assert_eq!(logged(&daemon), expected);
}

#[test]
fn x_forwarded_for_works_over_http2() {
    let daemon = Setup::dev("[server]\ntrusted_proxies = [\"127.0.0.1\"]").start();
    let ingest = daemon.ingest;
    run_async(async {
        let stream = tokio::net::TcpStream::connect(ingest).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for client in ["192.0.2.7", "192.0.2.8"] {
            let request = http::Request::post("http://forebay/v0/events?name=e");
            let request = request.header("x-forwarded-for", client).body(()).unwrap();
            let (response, mut body) =
                sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
            body.send_data(bytes::Bytes::from(EVENT), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 202);
        }
    });
    assert_eq!(logged(&daemon), ["192.0.2.7", "192.0.2.8"]);
}

#[test]
fn both_versions_of_the_proxy_header_give_the_client_address() {
    let config = "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\nproxy_protocol = true";
    let daemon = Setup::dev(config).start();
    let v2 = [V2_SIGNATURE, V2].concat();
    let local = [V2_SIGNATURE, V2_LOCAL].concat();
    let headers: [(&[u8], &str); 5] = [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 fd00::1 4711 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&v2, "192.0.2.7"),
        (&local, "127.0.0.1"),
    ];
    for (header, _) in headers {
        // The header in one piece, and byte by byte; then more than one request.
        let mut at_once = connect(daemon.ingest);
        at_once.write_all(&[header, event("name=e", EVENT).as_bytes()].concat()).unwrap();
        assert_eq!(read_response(&mut at_once).status, 202);
        let mut in_pieces = connect(daemon.ingest);
        for byte in header {
            in_pieces.write_all(&[*byte]).unwrap();
        }
        for _ in 0..2 {
            in_pieces.write_all(event("name=e", EVENT).as_bytes()).unwrap();
            assert_eq!(read_response(&mut in_pieces).status, 202);
        }
    }
    let expected: Vec<&str> = headers.iter().flat_map(|(_, client)| [*client; 3]).collect();
    assert_eq!(logged(&daemon), expected);
    // Peers that are not proxies send no header.
    let mut direct = connect_from("127.0.0.2", daemon.ingest);
    direct.write_all(event("name=e", EVENT).as_bytes()).unwrap();
    assert_eq!(read_response(&mut direct).status, 202);
    assert_eq!(logged(&daemon).pop().as_deref(), Some("127.0.0.2"));
}

#[test]
fn x_forwarded_for_works_behind_a_proxy_named_in_the_proxy_header() {
    let config = "[server]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nproxy_protocol = true";
    let daemon = Setup::dev(config).start();
    for header in ["PROXY TCP4 10.5.5.5 10.0.0.1 4711 80\r\n", "PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\n"]
    {
        let mut stream = connect(daemon.ingest);
        let request = forwarded("x-forwarded-for: 192.0.2.7\r\n");
        stream.write_all([header, &request].concat().as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, 202);
    }
    assert_eq!(logged(&daemon), ["192.0.2.7", "198.51.100.1"]);
}

#[test]
fn a_proxy_header_comes_before_tls_and_http2() {
    let (pki, trusted) = Pki::new();
    let server = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\n";
    let daemon = Setup::dev(&format!("{server}{}", pki.config())).start();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connect(daemon.ingest);
    stream.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n").unwrap();
    let session = ClientConnection::new(client(&trusted, &["http/1.1"]), name.clone()).unwrap();
    let mut wire = StreamOwned::new(session, stream);
    wire.write_all(event("name=e", EVENT).as_bytes()).unwrap();
    assert_eq!(read_response(&mut wire).status, 202);

    let ingest = daemon.ingest;
    run_async(async {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(ingest).await.unwrap();
        stream.write_all(&[V2_SIGNATURE, V2].concat()).await.unwrap();
        let config = Arc::clone(&client(&trusted, &["h2"]));
        let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("https://forebay/v0/events?name=e").body(()).unwrap();
        let (response, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data(bytes::Bytes::from(EVENT), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 202);
    });
    assert_eq!(logged(&daemon), ["192.0.2.7", "192.0.2.7"]);
}

/// Asserts that the connection is refused with this message and closed.
fn is_refused(daemon: &Daemon, from: &str, bytes: &[u8], why: &str) {
    let mut stream = connect_from(from, daemon.ingest);
    // It may be refused before everything was sent.
    drop(stream.write_all(bytes));
    let refused = read_response(&mut stream);
    assert_eq!((refused.status, refused.header("connection")), (400, Some("close")), "{}", refused.text());
    assert!(refused.json()["error"].as_str().unwrap().contains(why), "{}", refused.text());
    assert!(matches!(stream.read(&mut [0]), Ok(0)));
}

#[test]
fn proxy_headers_from_untrusted_peers_are_refused() {
    let v1 = [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n", event("name=e", EVENT).as_bytes()].concat();
    let v2 = [V2_SIGNATURE, V2, event("name=e", EVENT).as_bytes()].concat();
    // With and without trusted proxies, and under TLS.
    let (pki, _) = Pki::new();
    let proxies = "[server]\ntrusted_proxies = [\"127.0.0.9\"]\nproxy_protocol = true\n";
    for config in [String::new(), proxies.to_owned(), format!("{proxies}{}", pki.config())] {
        let daemon = Setup::dev(&config).start();
        for header in [&v1, &v2] {
            is_refused(&daemon, "127.0.0.1", header, "trusted proxies only");
        }
        assert_eq!(refusals(&daemon, "malformed"), 2);
        assert_eq!(logged(&daemon), Vec::<String>::new());
    }
}

#[test]
fn bad_proxy_headers_are_refused_and_others_are_served() {
    let config =
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\nheader_timeout = \"400ms\"";
    let daemon = Setup::dev(config).start();
    let huge = [V2_SIGNATURE, b"\x21\x11\xff\xff", &vec![0; 65_535]].concat();
    let endless = [b"PROXY TCP4 ".as_slice(), &vec![b'1'; 100_000]].concat();
    let newer = [V2_SIGNATURE, b"\x31\x11\x00\x0c", &[0; 12]].concat();
    let short = [V2_SIGNATURE, b"\x21\x21\x00\x0c", &[0; 12]].concat();
    for (bytes, why) in [
        (event("name=e", EVENT).as_bytes(), "start with a PROXY header"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "start with a PROXY header"),
        (b"\x16\x03\x01\x02\x00", "start with a PROXY header"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.777 10.0.0.1 1 2\r\n", "malformed"),
        (b"PROXY \xff\xff\xff\r\n", "malformed"),
        (&newer, "malformed"),
        (&short, "malformed"),
        (&huge, "too long"),
        (&endless, "no line end"),
    ] {
        is_refused(&daemon, "127.0.0.1", bytes, why);
    }
    // Truncated: by the end of the connection, and by silence.
    let v2 = [V2_SIGNATURE, V2].concat();
    for header in [&b"PROXY TCP4 192.0."[..], &v2[..14], b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r"] {
        let mut cut = connect(daemon.ingest);
        cut.write_all(header).unwrap();
        cut.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(cut.read(&mut [0]), Ok(0)));
        let mut silent = Wire::connect(daemon.ingest);
        silent.send(header);
        assert!(silent.is_closed());
    }
    eventually("a good one", || {
        let mut wire = Wire::connect(daemon.ingest);
        wire.send([&v2, event("name=e", EVENT).as_bytes()].concat());
        (wire.response().status == 202).then_some(())
    });
    assert_eq!(logged(&daemon), ["192.0.2.7"]);
}

#[test]
fn invalid_transport_settings_prevent_the_start() {
    for (settings, why) in [
        ("proxy_protocol = true", "server.proxy_protocol requires server.trusted_proxies"),
        ("trusted_proxies = [\"proxy.internal\"]", "\"proxy.internal\" is neither an address nor a network"),
        ("trusted_proxies = [\"10.0.0.0/33\"]", "\"10.0.0.0/33\" is neither an address nor a network"),
        ("streams_max = 0", "server.streams_max must be at least 1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("forebay.toml");
        std::fs::write(&config, format!("[server]\n{settings}")).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let output = check.arg("check").arg("--config").arg(&config).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(why), "{error}");
    }
}
