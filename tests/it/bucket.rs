//! An S3 server within the test process that can be told to misbehave: `s3s-fs` behind a lock, which makes its
//! `If-None-Match` atomic.

use crate::support::{PATIENCE, eventually};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use md5::Digest;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub const BUCKET: &str = "lake";
pub const KEY: &str = "AKTEST";
pub const SECRET: &str = "SKTEST";

/// How the server treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection is closed before the request is executed.
    Down,
    /// The request is answered with this status and not executed.
    Status(u16),
    /// The request is executed, but the connection is closed before the answer.
    LostAnswer,
    /// The request is neither executed nor answered.
    Stalled,
    /// PUTs are answered with 200, and nothing is stored.
    StoresNothing,
    /// PUTs are answered with 200, and other bytes are stored.
    StoresOther,
    /// The bytes of PUTs change on their way, before the server sees them.
    ChangesBody,
    /// PUTs with a checksum in a header are refused.
    RefusesChecksums,
}

/// A running server.
pub struct Bucket {
    pub address: SocketAddr,
    root: tempfile::TempDir,
    state: Arc<State>,
    _runtime: Runtime,
}

struct State {
    root: PathBuf,
    fault: Mutex<Fault>,
    /// PUT requests that reached the server itself.
    puts: AtomicUsize,
    service: tokio::sync::Mutex<S3Service>,
}

impl Bucket {
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let state = Arc::new(State {
            root: root.path().to_owned(),
            fault: Mutex::new(Fault::None),
            puts: AtomicUsize::new(0),
            service: tokio::sync::Mutex::new(builder.build()),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, Arc::clone(&state)));
        Self { address, root, state, _runtime: runtime }
    }

    pub fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub fn puts(&self) -> usize {
        self.state.puts.load(Ordering::SeqCst)
    }

    /// The directory that holds the bucket's objects.
    pub fn dir(&self, prefix: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(prefix)
    }

    /// The configuration of a daemon that writes to this bucket.
    pub fn config(&self, prefix: &str) -> String {
        config(&format!("http://{}", self.address), BUCKET, KEY, SECRET, prefix)
    }

    /// Waits for `n` more PUT requests.
    pub fn wait_for_puts(&self, n: usize) {
        let until = self.puts() + n;
        eventually("a PUT", || (self.puts() >= until).then_some(()));
    }
}

pub fn config(endpoint: &str, bucket: &str, key: &str, secret: &str, prefix: &str) -> String {
    format!(
        "[destination]\nurl = \"s3://{bucket}/{prefix}\"\n[destination.s3]\nendpoint = \"{endpoint}\"\n\
         region = \"us-east-1\"\naccess_key_id = \"{key}\"\nsecret_access_key = \"{secret}\"\nallow_http = true\n"
    )
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let http = hyper::server::conn::http1::Builder::new();
            // Some tests cut the connection on purpose.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, std::io::Error> {
    let cut = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    let is_put = request.method() == hyper::Method::PUT;
    let count = || state.puts.fetch_add(usize::from(is_put), Ordering::SeqCst);
    let fault = *state.fault.lock().unwrap();
    match fault {
        Fault::Down => return Err(cut()),
        Fault::Status(status) => {
            count();
            let mut response = Response::new(s3s::Body::empty());
            *response.status_mut() = status.try_into().unwrap();
            return Ok(response);
        }
        Fault::Stalled => {
            count();
            tokio::time::sleep(PATIENCE + Duration::from_mins(1)).await;
            return Err(cut());
        }
        Fault::RefusesChecksums if request.headers().contains_key("x-amz-checksum-crc64nvme") => {
            let text = "<Error><Code>InvalidRequest</Code><Message>unsupported header</Message></Error>";
            let mut response = Response::new(s3s::Body::from(text.to_owned()));
            *response.status_mut() = hyper::StatusCode::BAD_REQUEST;
            return Ok(response);
        }
        Fault::StoresNothing | Fault::StoresOther if is_put => {
            return Ok(stored(&state, fault, request).await);
        }
        _ => {}
    }
    let request = match fault {
        Fault::ChangesBody if is_put => {
            let (head, body) = request.into_parts();
            Request::from_parts(head, s3s::Body::from(changed(body).await))
        }
        _ => request.map(s3s::Body::from),
    };
    let response = state.service.lock().await.call(request).await.map_err(|_| cut());
    count();
    if fault == Fault::LostAnswer && is_put { Err(cut()) } else { response }
}

/// The bytes of a request with one bit flipped.
async fn changed(body: Incoming) -> Vec<u8> {
    let mut bytes = body.collect().await.unwrap().to_bytes().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bytes
}

/// Stores other bytes than those of a PUT, or none, and confirms that they are stored.
async fn stored(state: &State, fault: Fault, request: Request<Incoming>) -> Response<s3s::Body> {
    // The only character in the names of tests that is escaped.
    let path = request.uri().path().replace("%3D", "=");
    let to = state.root.join(path.trim_start_matches('/'));
    let is_refused = request.headers().contains_key("if-none-match") && to.is_file();
    let bytes = changed(request.into_body()).await;
    let mut response = Response::new(s3s::Body::empty());
    if is_refused {
        *response.status_mut() = hyper::StatusCode::PRECONDITION_FAILED;
        return response;
    }
    let mut e_tag = String::new();
    for byte in md5::Md5::digest(&bytes) {
        write!(e_tag, "{byte:02x}").unwrap();
    }
    response.headers_mut().insert("etag", format!("\"{e_tag}\"").parse().unwrap());
    if fault == Fault::StoresOther {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(&to, &bytes).unwrap();
    }
    state.puts.fetch_add(1, Ordering::SeqCst);
    response
}
