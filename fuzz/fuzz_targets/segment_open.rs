//! A log with arbitrarily damaged files opens or returns an error, and never shows a frame that was not written.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use forebay::clock;
use forebay::storage::Storage;
use forebay::storage::sim::SimDisk;
use forebay::wal::{self, WalConfig, Floor, NewFrame, WalOpenError, Polled};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const SEGMENT_BYTES: u64 = 16 * 1024;

#[derive(Arbitrary, Debug)]
struct Damage {
    file: u8,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum What {
    Flip(u16, u8),
    Overwrite(u16, Vec<u8>),
    Zero(u16, u16),
    Truncate(u16),
    Copy { from: u16, to: u16, len: u16 },
    Replace(Vec<u8>),
    Remove,
}

/// The files of an intact log, and every frame in it.
struct Log {
    files: BTreeMap<String, Vec<u8>>,
    frames: BTreeMap<u64, Vec<u8>>,
    uuid: [u8; 16],
}

fn config() -> WalConfig {
    WalConfig {
        dir: PathBuf::from("/wal"),
        segment_bytes: SEGMENT_BYTES,
        first_segment_bytes: SEGMENT_BYTES,
        prepared: 1,
        sync_interval: Duration::from_secs(1),
        sync_bytes: 1 << 20,
        unsynced_max: 1 << 20,
        max_bytes: 1 << 20,
        disk_reserve: 0,
        archive: None,
    }
}

fn open(disk: &SimDisk, floor: &Floor) -> Result<wal::Wal, WalOpenError> {
    wal::open(Arc::new(disk.clone()), clock::system(), config(), floor, Arc::default())
}

fn good_log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let disk = SimDisk::new();
        let mut frames = BTreeMap::new();
        let log = open(&disk, &Floor::default()).expect("an empty log opens");
        while frames.len() < 60 {
            let payload = vec![frames.len() as u8; 100 + frames.len() * 20];
            let frame = NewFrame { ts: 1, ext: &[], head: &[], body: &[Bytes::from(payload.clone())] };
            // The log has no room until the next segment is prepared.
            if let Ok(lsn) = log.handle.append(&frame) {
                frames.insert(lsn.0, payload);
            }
        }
        let uuid = log.handle.uuid();
        log.handle.close();
        log.join();
        let names = disk.list(Path::new("/wal")).expect("the directory is there");
        let read = |name: &String| {
            let file = disk.open_log(&Path::new("/wal").join(name)).ok()?;
            let bytes = file.read(0, usize::try_from(file.capacity()).ok()?)?;
            Some((name.clone(), bytes))
        };
        let files = names.iter().filter(|name| name.ends_with(".wal")).filter_map(read).collect();
        Log { files, frames, uuid }
    })
}

fn damage(files: &mut BTreeMap<String, Vec<u8>>, damage: Damage) {
    let Some(name) = files.keys().nth(usize::from(damage.file) % files.len().max(1)).cloned() else { return };
    let Some(bytes) = files.get_mut(&name) else { return };
    let at = |offset: u16| usize::from(offset).min(bytes.len());
    match damage.what {
        What::Flip(offset, mask) => {
            if let Some(byte) = bytes.get_mut(usize::from(offset)) {
                *byte ^= mask;
            }
        }
        What::Overwrite(offset, with) => {
            let from = at(offset);
            let len = with.len().min(bytes.len() - from);
            bytes[from..from + len].copy_from_slice(&with[..len]);
        }
        What::Zero(offset, len) => {
            let from = at(offset);
            let to = (from + usize::from(len)).min(bytes.len());
            bytes[from..to].fill(0);
        }
        What::Truncate(len) => bytes.truncate(usize::from(len)),
        What::Copy { from, to, len } => {
            let (from, to) = (at(from), at(to));
            let len = usize::from(len).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + len, to);
        }
        What::Replace(with) => *bytes = with,
        What::Remove => drop(files.remove(&name)),
    }
}

fuzz_target!(|damages: Vec<Damage>| {
    let log = good_log();
    let mut files = log.files.clone();
    let untouched = damages.is_empty();
    for one in damages.into_iter().take(8) {
        damage(&mut files, one);
    }
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/wal")).expect("a simulated disk makes directories");
    for (name, bytes) in &files {
        let path = Path::new("/wal").join(name);
        disk.allocate(&path, bytes.len() as u64, &[]).expect("there is room");
        disk.rewrite(&path, 0, bytes).expect("the file is there");
    }
    disk.sync_dir(Path::new("/wal")).expect("the directory is there");
    let floor = Floor { wal_uuid: Some(log.uuid), ..Floor::default() };
    let mut opened = match open(&disk, &floor) {
        Ok(opened) => opened,
        Err(WalOpenError::NewerFormat { .. } | WalOpenError::OtherLog { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let mut reader = opened.take_reader();
    let mut seen = BTreeMap::new();
    loop {
        match reader.poll() {
            Polled::Idle => break,
            Polled::Damage(_) => {}
            Polled::Frame(lsn) => {
                let frame = reader.frame().expect("it was just found");
                assert_eq!(Some(&*frame.payload), log.frames.get(&lsn.0).map(|bytes| &bytes[..]), "{lsn}");
                assert!(seen.insert(lsn.0, ()).is_none(), "{lsn} comes twice");
            }
        }
    }
    assert!(!untouched || seen.len() == log.frames.len(), "a good log is read whole");
    opened.handle.close();
    drop(reader);
    opened.join();
});
