//! TLS: both HTTP versions, changing certificates, and misbehaving clients.

use crate::support::{
    Daemon, Response, Setup, connect, eventually, read_response, signal, try_read_response,
};
use crate::wire::{Wire, count, event, peak_bytes, reads, refusals};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const EVENT: &str = r#"{"city":"Chicago"}"#;

/// A certificate for `localhost` and its key, in files that can be replaced.
pub struct Pki {
    pub dir: TempDir,
}

/// A certificate and its key, in PEM.
struct Issued {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

fn issue() -> Issued {
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    Issued { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().clone() }
}

impl Pki {
    /// Writes the files of a new certificate, and returns what a client must trust.
    pub fn new() -> (Self, CertificateDer<'static>) {
        let pki = Self { dir: tempfile::tempdir().unwrap() };
        let issued = issue();
        std::fs::write(pki.cert(), &issued.cert).unwrap();
        std::fs::write(pki.key(), &issued.key).unwrap();
        (pki, issued.der)
    }

    pub fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// The section `[tls]` of a configuration, to which settings can be appended.
    pub fn config(&self) -> String {
        format!("[tls]\ncert = \"{}\"\nkey = \"{}\"\n", self.cert().display(), self.key().display())
    }
}

/// The TLS settings of a client that trusts this certificate.
pub fn client(trusted: &CertificateDer<'static>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub type TlsWire = StreamOwned<ClientConnection, TcpStream>;

/// Connects, without the handshake.
pub fn tls_connect(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsWire {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), connect(address))
}

/// Sends one request on a new connection.
pub fn tls_request(address: SocketAddr, config: &Arc<ClientConfig>, request: &str) -> Response {
    let mut wire = tls_connect(address, config);
    wire.write_all(request.as_bytes()).unwrap();
    read_response(&mut wire)
}

/// Whether the daemon serves this certificate.
fn is_served(daemon: &Daemon, trusted: &CertificateDer<'static>) -> bool {
    let mut wire = tls_connect(daemon.ingest, &client(trusted, &[]));
    let sent = wire.write_all(event("name=e", EVENT).as_bytes());
    sent.is_ok() && read_response(&mut wire).status == 202
}

pub fn run_async<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn both_http_versions_work_over_tls() {
    let (pki, trusted) = Pki::new();
    let daemon = Setup::dev(&pki.config()).start();
    for (offered, agreed) in
        [(&["http/1.1"][..], Some("http/1.1")), (&[], None), (&["http/1.1", "h2"], Some("h2"))]
    {
        let mut wire = tls_connect(daemon.ingest, &client(&trusted, offered));
        wire.conn.complete_io(&mut wire.sock).unwrap();
        let protocol = wire.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(protocol.as_deref(), agreed);
        if agreed != Some("h2") {
            // More than one request per connection, and more than one TLS record per body.
            let big = format!("{{\"text\":\"{}\"}}", "x".repeat(100_000));
            for body in [EVENT, &big] {
                wire.write_all(event("name=e&wait=true", body).as_bytes()).unwrap();
                assert_eq!(read_response(&mut wire).status, 200);
            }
        }
    }
    // A protocol that the daemon does not offer cannot be negotiated.
    let mut wire = tls_connect(daemon.ingest, &client(&trusted, &["spdy/3"]));
    let refused = wire.conn.complete_io(&mut wire.sock).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");

    let ingest = daemon.ingest;
    run_async(async {
        let stream = tokio::net::TcpStream::connect(ingest).await.unwrap();
        let connector = TlsConnector::from(client(&trusted, &["h2", "http/1.1"]));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for _ in 0..10 {
            let url = format!("https://{ingest}/v0/events?name=e");
            let request = http::Request::post(url).body(Full::<bytes::Bytes>::from(EVENT)).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 202);
            response.into_body().collect().await.unwrap();
        }
    });
    assert_eq!(daemon.rows("e").len(), 14);
    eventually("the count of the failed handshake", || {
        reads(&daemon, "forebay_http_handshake_errors_total", 1.0)
    });
    let end = daemon.metric("forebay_http_certificate_not_after_seconds");
    assert!(end > 1_700_000_000.0, "{end}");
}

#[test]
fn the_admin_listener_uses_tls_if_configured() {
    let (pki, trusted) = Pki::new();
    let daemon = Setup::dev(&format!("{}admin = true", pki.config())).start();
    let get = "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let ready = tls_request(daemon.admin, &client(&trusted, &["http/1.1"]), get);
    assert_eq!(ready.status, 200, "{}", ready.text());
    let mut plain = Wire::connect(daemon.admin);
    plain.send(get);
    let plain = plain.response();
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("https://"), "{}", plain.text());
    // The commands work as well, if they trust the certificate.
    let url = format!("https://localhost:{}", daemon.admin.port());
    let mut status = Command::new(env!("CARGO_BIN_EXE_forebay"));
    status.args(["status", "--admin-url", &url]);
    let stranger = status.output().unwrap();
    assert_eq!(stranger.status.code(), Some(69), "{stranger:?}");
    let known = status.env("SSL_CERT_FILE", pki.cert()).output().unwrap();
    assert_eq!(known.status.code(), Some(0), "{known:?}");
}

#[test]
fn a_changed_certificate_is_served_without_a_restart() {
    let (pki, first) = Pki::new();
    let daemon = Setup::dev(&pki.config()).start();
    let mut old = tls_connect(daemon.ingest, &client(&first, &[]));
    old.write_all(event("name=e", EVENT).as_bytes()).unwrap();
    assert_eq!(read_response(&mut old).status, 202);

    // The certificate changes first: until its key follows, the previous certificate is served.
    let second = issue();
    std::fs::write(pki.cert(), &second.cert).unwrap();
    eventually("the failed reload", || reads(&daemon, "forebay_http_certificate_stale", 1.0));
    assert!(is_served(&daemon, &first) && !is_served(&daemon, &second.der));
    std::fs::write(pki.key(), &second.key).unwrap();
    eventually("the new certificate", || is_served(&daemon, &second.der).then_some(()));
    assert!(!is_served(&daemon, &first));
    eventually("the successful reload", || reads(&daemon, "forebay_http_certificate_stale", 0.0));
    assert!(daemon.log().contains("is not the key of the certificate"), "{}", daemon.log());

    // Open connections stay open.
    old.write_all(event("name=e", EVENT).as_bytes()).unwrap();
    assert_eq!(read_response(&mut old).status, 202);

    // Replaced by another file, as ACME clients do.
    let third = issue();
    for (path, text) in [(pki.cert(), &third.cert), (pki.key(), &third.key)] {
        std::fs::write(path.with_extension("new"), text).unwrap();
        #[expect(clippy::disallowed_methods, reason = "this file need not survive power loss")]
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }
    eventually("the renewed certificate", || is_served(&daemon, &third.der).then_some(()));

    // Garbage is not accepted as a certificate.
    std::fs::write(pki.cert(), "rubbish").unwrap();
    eventually("the alarm", || reads(&daemon, "forebay_http_certificate_stale", 1.0));
    assert!(is_served(&daemon, &third.der));
}

#[test]
fn sighup_loads_the_configured_certificate() {
    let (pki, _) = Pki::new();
    let daemon = Setup::dev(&pki.config()).start();
    let (other, trusted) = Pki::new();
    std::fs::write(daemon.dir().join("forebay.toml"), other.config()).unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the other certificate", || is_served(&daemon, &trusted).then_some(()));
}

/// `forebay check` and `forebay serve` with this configuration: both must refuse it.
fn refused(config: &str, parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forebay.toml");
    std::fs::write(&path, config).unwrap();
    for command in ["check", "serve"] {
        let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
        forebay.arg(command).arg("--config").arg(&path).current_dir(dir.path());
        let output = forebay.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{command} {config}\n{error}");
        for part in parts {
            assert!(error.contains(part), "{command}: {part:?} is missing in: {error}");
        }
    }
}

#[test]
fn invalid_certificates_prevent_the_start_and_say_why() {
    let (pki, trusted) = Pki::new();
    let other = issue();
    let write = |name: &str, text: &[u8]| {
        let path = pki.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let good_cert = std::fs::read(pki.cert()).unwrap();
    let good_key = std::fs::read(pki.key()).unwrap();
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let cut = &trusted[..trusted.len() / 2];
    let cut = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(cut)
    };
    let encrypted = pem("ENCRYPTED PRIVATE KEY", "MIIB");
    let no_end = &good_cert[..good_cert.len() / 2];
    let huge = vec![b'\n'; (1 << 20) + 1];
    let (cert, key) = (pki.cert(), pki.key());
    let cases: [(PathBuf, PathBuf, &[&str]); 11] = [
        (pki.dir.path().join("none.pem"), key.clone(), &["none.pem", "No such file"]),
        (pki.dir.path().to_owned(), key.clone(), &["Is a directory"]),
        (write("empty", b""), key.clone(), &["empty", "no certificate in PEM"]),
        (write("rubbish", b"rubbish\0\xff"), key.clone(), &["no certificate in PEM"]),
        (write("key-as-cert", &good_key), key.clone(), &["no certificate in PEM"]),
        (write("no-end", no_end), key.clone(), &["no-end", "no end"]),
        (write("bad64", pem("CERTIFICATE", "!!!!").as_bytes()), key.clone(), &["not base64"]),
        (write("cut", pem("CERTIFICATE", &cut).as_bytes()), key, &["cut", "is malformed"]),
        (write("huge", &huge), pki.key(), &["too large"]),
        (cert.clone(), write("other-key", other.key.as_bytes()), &["is not the key of the certificate"]),
        (cert, write("encrypted", encrypted.as_bytes()), &["the private key is encrypted"]),
    ];
    for (cert, key, parts) in cases {
        refused(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}"), parts);
    }
    refused(&format!("[tls]\ncert = {:?}", pki.cert()), &["tls.cert and tls.key must be set together"]);
    refused("[tls]\nadmin = true", &["tls.admin requires"]);
    refused("[tls]\nhandshake_timeout = \"0s\"", &["tls.handshake_timeout"]);
}

#[test]
fn check_reports_the_certificate_and_its_expiry() {
    let (pki, _) = Pki::new();
    let config = pki.dir.path().join("forebay.toml");
    std::fs::write(&config, pki.config()).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = check.arg("check").arg("--config").arg(&config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("cert.pem, valid until 4096-"), "{text}");
}

#[test]
fn plain_http_on_a_tls_port_is_refused_with_a_hint() {
    let (pki, _) = Pki::new();
    let daemon = Setup::dev(&pki.config()).start();
    let first_bytes: [&[u8]; 4] =
        [b"POST /v0/events?name=e HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0", b"rubbish"];
    for bytes in first_bytes {
        let mut wire = Wire::connect(daemon.ingest);
        wire.send(bytes);
        let refused = wire.response();
        assert_eq!((refused.status, refused.header("connection")), (400, Some("close")));
        assert!(refused.json()["error"].as_str().unwrap().contains("use https://"), "{}", refused.text());
        assert!(wire.is_closed());
    }
    assert_eq!(refusals(&daemon, "malformed"), first_bytes.len() as u64);
}

#[test]
fn tls_on_a_plain_port_is_refused_with_a_hint() {
    let daemon = Daemon::dev();
    let (_, trusted) = Pki::new();
    let mut wire = tls_connect(daemon.ingest, &client(&trusted, &[]));
    let refused = wire.conn.complete_io(&mut wire.sock).unwrap_err();
    // The answer is plain text, which the client cannot read as TLS.
    assert!(refused.to_string().contains("InvalidContentType"), "{refused}");
    assert_eq!(refusals(&daemon, "malformed"), 1);
    assert_eq!(daemon.post("name=e", EVENT).status, 202);
}

#[test]
fn a_bad_handshake_gets_an_alert_and_is_closed() {
    let (pki, _) = Pki::new();
    let daemon = Setup::dev(&pki.config()).start();
    let (_, stranger) = Pki::new();
    let mut wire = tls_connect(daemon.ingest, &client(&stranger, &[]));
    wire.conn.complete_io(&mut wire.sock).unwrap_err();
    drop(wire);
    // A record of TLS 1.0, a record beyond the maximum length, and garbage.
    let records: [&[u8]; 3] = [
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\xff\xff\x01\x00\x00",
        b"\x16\x03\x01\x00\x05hello",
    ];
    for record in records {
        let mut stream = connect(daemon.ingest);
        stream.write_all(record).unwrap();
        let mut alert = Vec::new();
        // The connection is closed in order, not reset.
        stream.read_to_end(&mut alert).unwrap();
        assert!(alert.is_empty() || alert.starts_with(b"\x15\x03"), "{alert:?}");
    }
    eventually("the count of all four", || {
        (count(&daemon, "forebay_http_handshake_errors_total") == 4).then_some(())
    });
}

/// The beginning of a handshake.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[test]
fn an_unfinished_handshake_is_closed() {
    let (pki, trusted) = Pki::new();
    let daemon = Setup::dev(&format!("{}handshake_timeout = \"400ms\"", pki.config())).start();
    let mut silent = Wire::connect(daemon.ingest);
    let mut half = Wire::connect(daemon.ingest);
    half.send(HALF_A_HELLO);
    assert!(silent.is_closed() && half.is_closed());
    eventually("the count of both", || {
        (count(&daemon, "forebay_http_handshake_errors_total") == 2).then_some(())
    });
    // After the handshake, other timeouts apply. On a busy machine, not every handshake is done in time.
    eventually("a request long after its handshake", || {
        let mut done = tls_connect(daemon.ingest, &client(&trusted, &[]));
        done.conn.complete_io(&mut done.sock).ok()?;
        std::thread::sleep(Duration::from_millis(900));
        done.write_all(event("name=e", EVENT).as_bytes()).ok()?;
        (try_read_response(&mut done).ok()?.status == 202).then_some(())
    });
}

#[test]
fn ten_thousand_half_open_handshakes_do_not_block_others() {
    const CONNECTIONS: usize = 10_000;
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let (pki, trusted) = Pki::new();
    let config = format!("[server]\nconnections_max = {}\n{}", CONNECTIONS + 10, pki.config());
    let daemon = Setup::dev(&format!("{config}handshake_timeout = \"20s\"")).start();
    let before = peak_bytes(&daemon);
    let half_open: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = connect(daemon.ingest);
            stream.write_all(HALF_A_HELLO).unwrap();
            stream
        })
        .collect();
    // Half-open handshakes count as connections.
    eventually("all half-open handshakes", || reads(&daemon, "forebay_http_connections", CONNECTIONS as f64));
    assert!(is_served(&daemon, &trusted), "a complete request");
    let each = (peak_bytes(&daemon) - before) / CONNECTIONS;
    println!("{each} bytes for each handshake");
    assert!(each < 32 << 10, "{each} bytes for each handshake");
    eventually("the end of all half-open handshakes", || reads(&daemon, "forebay_http_connections", 0.0));
    assert_eq!(count(&daemon, "forebay_http_handshake_errors_total"), CONNECTIONS as u64);
    drop(half_open);
}

#[test]
fn the_certificate_path_may_be_a_link() {
    let (pki, trusted) = Pki::new();
    let link = |name: &str, target: &Path| {
        let path = pki.dir.path().join(name);
        drop(std::fs::remove_file(&path));
        std::os::unix::fs::symlink(target, &path).unwrap();
        path
    };
    let (cert, key) = (link("live.pem", &pki.cert()), link("live.key", &pki.key()));
    let daemon = Setup::dev(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}")).start();
    assert!(is_served(&daemon, &trusted));
    let (renewed, trusted) = Pki::new();
    link("live.pem", &renewed.cert());
    link("live.key", &renewed.key());
    eventually("the certificate behind the link", || is_served(&daemon, &trusted).then_some(()));
}

#[test]
fn timeouts_apply_under_tls_and_end_with_close_notify() {
    let (pki, trusted) = Pki::new();
    let limits = "[server]\nheader_timeout = \"300ms\"\nidle_timeout = \"2s\"";
    let daemon = Setup::dev(&format!("{limits}\n{}", pki.config())).start();
    let connected = || {
        let mut wire = tls_connect(daemon.ingest, &client(&trusted, &["http/1.1"]));
        wire.write_all(event("name=e", EVENT).as_bytes()).unwrap();
        assert_eq!(read_response(&mut wire).status, 202);
        wire
    };
    let mut slow = connected();
    slow.write_all(b"POST /v0/ev").unwrap();
    assert_eq!(read_response(&mut slow).status, 408);
    // Without a `close_notify`, reading fails, since an attacker could have cut the connection.
    assert!(matches!(slow.read(&mut [0]), Ok(0)));
    let mut idle = connected();
    assert!(matches!(idle.read(&mut [0]), Ok(0)));
    let mut drained = connected();
    signal(daemon.pid(), "TERM");
    assert!(matches!(drained.read(&mut [0]), Ok(0)));
    assert!(daemon.wait().status.success());
}
