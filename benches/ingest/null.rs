//! Null servers: the cost of HTTP alone, with the daemon's HTTP library and runtime settings.
//!
//! `discard` reads and drops the body; `append` also writes it to a file with one write(2); `group-sync` passes it to
//! one thread that writes all queued bodies, syncs once, and then has all of them answered.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// The most bytes that are written for one sync.
const GROUP_BYTES: usize = 16 << 20;

type Waiting = (Vec<Bytes>, oneshot::Sender<()>);

#[derive(Clone)]
enum Mode {
    Discard,
    Append(Arc<File>),
    GroupSync(SyncSender<Waiting>),
}

/// Prints its address and serves until killed.
pub fn serve(mode: &str, file: &str) {
    let file = File::options().create(true).append(true).open(file).expect("a file to append to");
    let mode = match mode {
        "discard" => Mode::Discard,
        "append" => Mode::Append(Arc::new(file)),
        _ => {
            let (to_writer, waiting) = sync_channel(100_000);
            std::thread::spawn(move || write_groups(&file, &waiting));
            Mode::GroupSync(to_writer)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("  events  http://{}", listener.local_addr().expect("an address"));
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).expect("nodelay");
            let mode = mode.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(mode.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
}

async fn answer(mode: Mode, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let mut body = request.into_body();
    let mut pieces = Vec::with_capacity(1);
    while let Some(frame) = body.frame().await {
        if let (Ok(piece), false) = (frame?.into_data(), matches!(mode, Mode::Discard)) {
            pieces.push(piece);
        }
    }
    match mode {
        Mode::Discard => {}
        Mode::Append(file) => write_all(&file, &pieces),
        Mode::GroupSync(to_writer) => {
            let (done, synced) = oneshot::channel();
            to_writer.try_send((pieces, done)).expect("room in the queue");
            drop(synced.await);
        }
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn write_groups(file: &File, waiting: &Receiver<Waiting>) {
    while let Ok((mut pieces, first)) = waiting.recv() {
        let mut done = vec![first];
        let mut bytes: usize = pieces.iter().map(Bytes::len).sum();
        while bytes < GROUP_BYTES
            && let Ok((more, next)) = waiting.try_recv()
        {
            bytes += more.iter().map(Bytes::len).sum::<usize>();
            pieces.extend(more);
            done.push(next);
        }
        write_all(file, &pieces);
        file.sync_data().expect("a sync");
        for done in done {
            // If the connection is gone, nobody waits for the answer.
            done.send(()).ok();
        }
    }
}

fn write_all(mut file: &File, pieces: &[Bytes]) {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let some = rest.len().min(1024);
        let written = file.write_vectored(&rest[..some]).expect("a write");
        IoSlice::advance_slices(&mut rest, written);
    }
}
