//! Clients with persistent connections, each of which sends requests until the daemon is gone.

use crate::oracle::{Keyed, Oracle, STREAMS};
use crate::support::{PATIENCE, Response, try_read_response};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;

pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(daemon: SocketAddr, oracle: &Arc<Oracle>, random: &mut fastrand::Rng) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS).map(|_| {
            let mut client = Client {
                daemon,
                oracle: Arc::clone(oracle),
                random: random.fork(),
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
            };
            std::thread::spawn(move || client.run())
        });
        let clients = clients.collect();
        Self { stop, acknowledged, clients }
    }

    /// Waits for the first answers, so that even a round on a slow machine tests something.
    pub fn until_acknowledged(&self, requests: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged.load(Ordering::Relaxed) < requests {
            assert!(Instant::now() < deadline, "no request was answered");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends the requests that must be repeated, until all are answered.
    pub fn finish(daemon: SocketAddr, oracle: &Arc<Oracle>, random: &mut fastrand::Rng) {
        let mut client = Client {
            daemon,
            oracle: Arc::clone(oracle),
            random: random.fork(),
            stop: Arc::default(),
            acknowledged: Arc::default(),
        };
        let deadline = Instant::now() + PATIENCE;
        let mut connection = client.connect().unwrap();
        while let Some(request) = oracle.repeat() {
            assert!(Instant::now() < deadline, "some requests were not answered");
            client.keyed(&mut connection, request).unwrap();
        }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
    }
}

struct Client {
    daemon: SocketAddr,
    oracle: Arc<Oracle>,
    random: fastrand::Rng,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Client {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok(mut connection) = self.connect() {
                while !self.stop.load(Ordering::Relaxed) && self.request(&mut connection).is_ok() {}
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let connection = TcpStream::connect(self.daemon)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_nodelay(true)?;
        Ok(connection)
    }

    /// Sends one request and reads its answer. An error means that the connection broke, so the outcome is unknown. A
    /// request with a key is then repeated, by any client, until it is answered.
    fn request(&mut self, connection: &mut TcpStream) -> std::io::Result<()> {
        if let Some(request) = self.oracle.repeat() {
            return self.keyed(connection, request);
        }
        if self.random.u32(..20) == 0
            && let Some(request) = self.oracle.repeat_needlessly(&mut self.random)
        {
            return self.keyed(connection, request);
        }
        let stream = self.random.usize(..STREAMS.len());
        let good = self.random.u32(1..30);
        let bad = u32::from(self.random.u32(..20) == 0);
        let keyed = self.random.bool();
        let number = self.oracle.send(stream, good, bad, keyed);
        let body = self.body(number, good, bad);
        let counts = (u64::from(good), u64::from(bad));
        if keyed {
            return self
                .keyed(connection, Keyed { number, stream, body: body.into(), counts, receipt: None });
        }
        let response = self.exchange(connection, stream, "", &body)?;
        match response.status {
            200 | 202 => {
                assert_eq!(response.counts(), counts);
                self.oracle.acknowledge(number, response.receipt());
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            503 => {
                assert!(response.header("retry-after").is_some(), "{response:?}");
                self.oracle.refuse(number);
            }
            // The answer says that the outcome is unknown.
            500 => {}
            _ => panic!("{response:?}"),
        }
        Ok(())
    }

    fn keyed(&mut self, connection: &mut TcpStream, mut request: Keyed) -> std::io::Result<()> {
        let header = format!("idempotency-key: request-{}\r\n", request.number);
        let response = match self.exchange(connection, request.stream, &header, &request.body) {
            Ok(response) => response,
            Err(error) => {
                if request.receipt.is_none() {
                    self.oracle.to_be_repeated(request);
                }
                return Err(error);
            }
        };
        match response.status {
            200 | 202 => {
                assert_eq!(response.counts(), request.counts);
                let replayed = response.header("idempotency-replayed").is_some();
                if let Some(receipt) = request.receipt {
                    assert!(
                        replayed && receipt == response.receipt(),
                        "the repeat was not answered as the first request: {response:?}"
                    );
                }
                request.receipt = Some(response.receipt());
                self.oracle.acknowledge(request.number, response.receipt());
                self.oracle.answered(request, &mut self.random);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            500 | 503 => {
                if request.receipt.is_none() {
                    self.oracle.to_be_repeated(request);
                }
            }
            _ => panic!("{response:?}"),
        }
        Ok(())
    }

    fn exchange(
        &mut self,
        connection: &mut TcpStream,
        stream: usize,
        header: &str,
        body: &[u8],
    ) -> std::io::Result<Response> {
        let wait = match self.random.u32(0..100) {
            0..60 => "",
            60..98 => "&wait=true",
            _ => "&wait=table",
        };
        let head = format!(
            "POST /v0/events?name={}{wait} HTTP/1.1\r\nhost: forebay\r\n{header}content-length: {}\r\n\r\n",
            STREAMS[stream],
            body.len()
        );
        connection.write_all(head.as_bytes())?;
        connection.write_all(body)?;
        try_read_response(connection)
    }

    /// Numbered rows, some with columns that are new to the stream.
    fn body(&mut self, number: u64, good: u32, bad: u32) -> Vec<u8> {
        let mut body = Vec::new();
        let pad = "x".repeat(self.random.usize(0..1500));
        for row in 0..good {
            writeln!(body, r#"{{"request":{number},"row":{row},"pad":"{pad}"}}"#).unwrap();
        }
        if self.random.u32(..200) == 0 {
            let extra = self.random.u32(..10);
            body.truncate(body.len() - 2);
            writeln!(body, r#","extra{extra}":1}}"#).unwrap();
        }
        for _ in 0..bad {
            writeln!(body, "not an event: {number}").unwrap();
        }
        body
    }
}
