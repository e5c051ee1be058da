//! HTTP/2 frame by frame: how connections end, and misbehaving clients.

use crate::support::{Daemon, PATIENCE, Setup, connect, eventually, signal};
use crate::tls::{Pki, client, run_async, tls_connect};
use crate::wire::{Wire, event, head, peak_bytes, reads, refusals};
use bytes::Bytes;
use h2::Reason;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const EVENT: &str = r#"{"city":"Chicago"}"#;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The bytes of a frame.
#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [low, middle, high, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let mut stream = stream.to_le_bytes();
    stream.reverse();
    [&[high, middle, low, kind, flags], &stream[..], payload].concat()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Reads the next frame; `None` at the end.
fn read_frame(stream: &mut impl Read) -> Option<Frame> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).ok()?;
    let mut payload = vec![0; number(&header[..3]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(Frame { kind: header[3], stream: number(&header[5..]), payload })
}

/// Reads up to GOAWAY: its last stream and its reason.
fn goaway(stream: &mut impl Read) -> (u32, Reason) {
    loop {
        let frame = read_frame(stream).expect("GOAWAY before the end");
        if frame.kind == GOAWAY {
            return (number(&frame.payload[..4]), number(&frame.payload[4..8]).into());
        }
    }
}

/// Opens a connection and sends the preface.
fn begin(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// The header block of a request for events: indexed fields of the static table, and literals without indexing.
fn block(method: u8, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // :method, :scheme http, :path, :authority
    let mut block = vec![method, 0x86];
    block.extend([vec![0x04], text(path), vec![0x01], text("forebay")].concat());
    for (name, value) in more {
        block.extend([vec![0x00], text(name), text(value)].concat());
    }
    block
}

const POST: u8 = 0x83;
const PATH: &str = "/v0/events?name=e";

/// How an HTTP/2 client sees the refusal of an excess connection.
async fn refused_by(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> h2::Error {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let outcome = async {
        let mut sender = sender.ready().await?;
        let request = http::Request::post(format!("http://forebay{PATH}")).body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false)?;
        // The connection may be closed already.
        drop(body.send_data(Bytes::from(EVENT), true));
        response.await.map(drop)
    };
    let of_request = tokio::time::timeout(PATIENCE, outcome).await.unwrap();
    let of_connection = tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap();
    assert!(of_request.is_err(), "an excess connection was served");
    of_connection.unwrap_err()
}

/// A daemon at its connection limit. The limit also applies to the admin listener, which the test uses for metrics.
fn full(config: &str) -> (Daemon, Vec<Wire>) {
    const CONNECTIONS: u8 = 20;
    let daemon = Setup::dev(&format!("[server]\nconnections_max = {CONNECTIONS}\n{config}")).start();
    let open = (0..CONNECTIONS).map(|_| Wire::connect(daemon.ingest)).collect();
    let open_ones = f64::from(CONNECTIONS);
    eventually("the count of all connections", || reads(&daemon, "forebay_http_connections", open_ones));
    (daemon, open)
}

#[test]
fn an_excess_connection_gets_refused_stream() {
    let (daemon, open) = full("");
    let ingest = daemon.ingest;
    let error = run_async(async { refused_by(tokio::net::TcpStream::connect(ingest).await.unwrap()).await });
    assert!(error.is_go_away() && error.is_remote(), "{error}");
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    // Exactly: no stream was accepted.
    let mut raw = begin(ingest);
    let settings = read_frame(&mut raw).unwrap();
    assert_eq!((settings.kind, settings.stream), (SETTINGS, 0));
    assert_eq!(goaway(&mut raw), (0, Reason::REFUSED_STREAM));
    assert!(read_frame(&mut raw).is_none());
    assert_eq!(refusals(&daemon, "full"), 2);
    drop(open);
    eventually("a place", || {
        let mut wire = Wire::connect(ingest);
        wire.try_send(event("name=e", EVENT));
        (wire.response().status == 202).then_some(())
    });
}

#[test]
fn an_excess_tls_connection_is_refused_in_the_negotiated_protocol() {
    let (pki, trusted) = Pki::new();
    let (daemon, _open) = full(&pki.config());
    let mut http2 = tls_connect(daemon.ingest, &client(&trusted, &["h2"]));
    http2.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    assert_eq!(goaway(&mut http2), (0, Reason::REFUSED_STREAM));
    let mut http1 = tls_connect(daemon.ingest, &client(&trusted, &["http/1.1"]));
    http1.write_all(event("name=e", EVENT).as_bytes()).unwrap();
    let refused = crate::support::read_response(&mut http1);
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn excess_connections_do_not_pile_up() {
    // Half of them send nothing, half of them send an incomplete preface.
    let (daemon, _open) = full("");
    let before = peak_bytes(&daemon);
    let mut many: Vec<Wire> = (0..2000).map(|_| Wire::connect(daemon.ingest)).collect();
    for wire in many.iter_mut().step_by(2) {
        wire.try_send("PRI * HT");
    }
    for wire in &mut many {
        assert!(wire.is_closed());
    }
    let more = peak_bytes(&daemon) - before;
    assert!(more < 32 << 20, "refused connections took {more} bytes");
}

#[test]
fn a_drain_finishes_streams_and_sends_goaway_without_an_error() {
    let daemon = Daemon::dev();
    let mut stream = begin(daemon.ingest);
    let length = EVENT.len().to_string();
    let request = block(POST, PATH, &[("content-length", &length)]);
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &request)).unwrap();
    eventually("the start of the drain", || {
        signal(daemon.pid(), "TERM");
        Some(())
    });
    let (last, reason) = goaway(&mut stream);
    assert_eq!(reason, Reason::NO_ERROR);
    // The daemon sends a PING to check that the client has received GOAWAY.
    let ping = read_frame(&mut stream).unwrap();
    assert_eq!(ping.kind, PING);
    stream.write_all(&frame(PING, ACK, 0, &ping.payload)).unwrap();
    assert!(last >= 1, "the running stream must be below the last stream of GOAWAY");
    stream.write_all(&frame(0, END_STREAM, 1, EVENT.as_bytes())).unwrap();
    let answer = loop {
        let frame = read_frame(&mut stream).expect("an answer before the end");
        if frame.kind == HEADERS {
            break frame;
        }
        assert!(frame.kind != RST_STREAM, "{frame:?}");
    };
    // `:status` 202 is not in the static table: it is a literal of three digits, with or without Huffman coding.
    assert_eq!(answer.stream, 1);
    let mut rest = Vec::new();
    while let Some(frame) = read_frame(&mut stream) {
        if frame.kind == GOAWAY {
            assert_eq!((number(&frame.payload[..4]), number(&frame.payload[4..8])), (1, 0));
        }
        rest.push(frame.kind);
    }
    assert!(rest.contains(&0), "unexpected body: {rest:?}");
    let stopped = daemon.wait();
    assert!(stopped.status.success());
    assert!(stopped.log.contains("nothing is left"), "{}", stopped.log);
}

#[test]
fn a_drain_does_not_wait_for_silent_clients() {
    let daemon = Daemon::dev();
    let _silent = begin(daemon.ingest);
    let mut busy = begin(daemon.ingest);
    busy.write_all(&frame(HEADERS, END_HEADERS, 1, &block(POST, PATH, &[]))).unwrap();
    busy.write_all(&frame(0, END_STREAM, 1, EVENT.as_bytes())).unwrap();
    eventually("the record", || reads(&daemon, "forebay_http_accepted_rows_total", 1.0));
    // Waiting for them would last until the drain deadline, which is logged.
    let stopped = daemon.stop();
    assert!(stopped.log.contains("nothing is left"), "{}", stopped.log);
}

#[test]
fn an_idle_http2_connection_gets_goaway_without_an_error() {
    let daemon = Setup::dev("[server]\nidle_timeout = \"2s\"").start();
    let mut stream = begin(daemon.ingest);
    assert_eq!(goaway(&mut stream).1, Reason::NO_ERROR);
}

#[test]
fn streams_beyond_streams_max_are_refused_one_by_one() {
    let daemon = Setup::dev("[server]\nstreams_max = 3").start();
    let mut stream = begin(daemon.ingest);
    let request = block(POST, PATH, &[]);
    for id in [1, 3, 5, 7] {
        stream.write_all(&frame(HEADERS, END_HEADERS, id, &request)).unwrap();
    }
    let mut announced = None;
    let refused = loop {
        let frame = read_frame(&mut stream).expect("a refusal before the end");
        match frame.kind {
            SETTINGS if !frame.payload.is_empty() => {
                let mut settings = frame.payload.chunks(6);
                announced = settings.find(|setting| number(&setting[..2]) == 3).map(|s| number(&s[2..]));
            }
            RST_STREAM => break frame,
            _ => {}
        }
    };
    assert_eq!(announced, Some(3), "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!((refused.stream, number(&refused.payload)), (7, u32::from(Reason::REFUSED_STREAM)));
    // The other streams continue.
    for id in [1, 3, 5] {
        stream.write_all(&frame(0, END_STREAM, id, EVENT.as_bytes())).unwrap();
    }
    eventually("their records", || reads(&daemon, "forebay_http_accepted_rows_total", 3.0));
}

#[test]
fn rapid_resets_do_no_harm() {
    let daemon = Daemon::dev();
    let before = peak_bytes(&daemon);
    let mut stream = begin(daemon.ingest);
    let request = block(POST, PATH, &[]);
    let cancel = frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]);
    let mut sent = 0;
    'flood: for round in 0..200u32 {
        let mut frames = Vec::new();
        for id in (0..500).map(|n| (round * 500 + n) * 2 + 1) {
            frames.extend(frame(HEADERS, END_HEADERS, id, &request));
            let at = frames.len();
            frames.extend(&cancel);
            let mut number = id.to_le_bytes();
            number.reverse();
            frames[at + 5..at + 9].copy_from_slice(&number);
        }
        if stream.write_all(&frames).is_err() {
            break 'flood;
        }
        sent += 500;
    }
    // The daemon either tolerated it or closed the connection. Other clients are served, and memory did not grow.
    let mut other = Wire::connect(daemon.ingest);
    other.send(event("name=e", EVENT));
    assert_eq!(other.response().status, 202);
    let more = peak_bytes(&daemon) - before;
    assert!(more < 32 << 20, "{more} bytes after {sent} streams");
    assert_eq!(daemon.rows("e").len(), 1);
}

#[test]
fn oversized_heads_are_refused() {
    let daemon = Setup::dev("[limits]\nhead_max = \"16KiB\"").start();
    let large = "x".repeat(17 << 10);
    let one = format!("authorization: Bearer {large}\r\n");
    let many = (0..101).fold(String::new(), |many, n| many + &format!("x-{n}: y\r\n"));
    for headers in [&one, &many] {
        let mut wire = Wire::connect(daemon.ingest);
        wire.send(head("name=e", &format!("{headers}content-length: 2\r\n\r\n{{}}")));
        assert_eq!(wire.response().status, 431);
        assert!(wire.is_closed());
    }
    let mut long = Wire::connect(daemon.ingest);
    long.send(head(&format!("name=e&token={large}"), "content-length: 2\r\n\r\n{}"));
    assert_eq!(long.response().status, 431);
    // An endless head is not read forever.
    let mut endless = Wire::connect(daemon.ingest);
    endless.send(head("name=e", ""));
    while endless.try_send("x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
        && !endless.has_answer()
    {}
    assert_eq!(endless.response().status, 431);

    let ingest = daemon.ingest;
    let statuses = run_async(async move {
        let stream = tokio::net::TcpStream::connect(ingest).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut statuses = Vec::new();
        let request = || http::Request::post(format!("http://forebay{PATH}"));
        let with_many = (0..101).fold(request(), |request, n| request.header(format!("x-{n}"), "y"));
        for request in [request().header("authorization", &large), with_many, request()] {
            let mut sender = sender.clone().ready().await.unwrap();
            let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
            // The daemon need not read a refused body.
            drop(body.send_data(Bytes::from(EVENT), true));
            statuses.push(response.await.unwrap().status().as_u16());
        }
        statuses
    });
    // The connection stays open.
    assert_eq!(statuses, [431, 431, 202]);
    // Refusals by the library are counted after their responses.
    eventually("the count", || (refusals(&daemon, "malformed") == 5).then_some(()));
    // The library refuses one HTTP/2 request without counting it.
    assert!(daemon.get("/metrics").text().contains("forebay_http_responses_total{status=\"431\"} 5"));
}

#[test]
fn endless_continuation_frames_end_the_connection() {
    let daemon = Daemon::dev();
    let before = peak_bytes(&daemon);
    let mut stream = begin(daemon.ingest);
    stream.write_all(&frame(HEADERS, 0, 1, &block(POST, PATH, &[]))).unwrap();
    let piece =
        frame(CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x7f, 0x80, 0x40][..], &[b'y'; 8000]].concat());
    let sent = (0..10_000).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(sent < 10_000, "80 MB of a head were taken");
    assert!(peak_bytes(&daemon) - before < 16 << 20);
    // The client fills the dynamic table so that each byte expands to 4000.
    let mut stream = begin(daemon.ingest);
    let mut bomb = block(POST, PATH, &[]);
    bomb.extend([&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat());
    bomb.extend([0xbe; 10_000]);
    let request = [frame(HEADERS, 0, 1, &bomb[..8_000]), frame(CONTINUATION, END_HEADERS, 1, &bomb[8_000..])];
    // The daemon may close the connection before everything was sent.
    drop(stream.write_all(&request.concat()));
    let mut other = Wire::connect(daemon.ingest);
    other.send(event("name=e", EVENT));
    assert_eq!(other.response().status, 202);
    assert!(peak_bytes(&daemon) - before < 16 << 20);
    assert_eq!(daemon.rows("e").len(), 1);
}
