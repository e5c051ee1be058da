//! A simulated disk that loses power, to test what survives.
//!
//! Each file has a cached image (what the process sees) and a durable one (what is on the medium). [`SimDisk::crash`]
//! keeps the durable image and, for each sector written since the last sync, randomly the old or the new bytes, in no
//! particular order. Creations, renames and removals become durable by `sync_dir`, or randomly but in order. Calls can
//! be made to fail, and space to run out.

use super::{LogFile, NewFile, Region, Storage, StoredFile};
use crate::error::IoError;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The unit of torn writes.
const SECTOR_BYTES: usize = 512;

type Inode = Arc<Mutex<SimFile>>;

#[derive(Default, Clone)]
struct SimFile {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty_sectors: BTreeSet<usize>,
    /// Sectors that the medium no longer returns.
    unreadable: BTreeSet<usize>,
}

/// A rename is a link and an unlink; each becomes durable with its own directory.
enum DirOp {
    Link(PathBuf, Inode),
    Unlink(PathBuf),
}

impl DirOp {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Link(path, _) | Self::Unlink(path)) = self;
        path.parent() == Some(dir)
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Inode>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path, inode);
            }
            Self::Unlink(path) => {
                names.remove(&path);
            }
        }
    }
}

#[derive(Default)]
struct SimState {
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    pending: Vec<DirOp>,
    capacity_bytes: Option<u64>,
    /// Number of syncs until one fails; `None`: none fails.
    syncs_until_failure: Option<u32>,
    /// Only that one fails.
    fails_once: bool,
    /// A failed sync drops the pages: what was written since the last sync is gone from the cache, too.
    reverts: bool,
    failing: bool,
    /// Number of writes into log files until one fails with EIO.
    writes_until_failure: Option<u32>,
    /// The first file to be created from now on is unreadable at this offset.
    next_file_unreadable_at: Option<usize>,
    /// Number of changes until a copy of the disk is kept.
    changes_until_copy: Option<u32>,
    copy: Option<SimDisk>,
}

/// The simulated disk. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<SimState>>);

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the sum of all file sizes. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// Lets `n` syncs succeed and fails all later ones with EIO, until [`SimDisk::heal`].
    pub fn fail_syncs_after(&self, n: u32) {
        let mut state = self.0.lock();
        (state.syncs_until_failure, state.fails_once) = (Some(n), false);
    }

    /// Lets `n` syncs succeed and fails the next one with EIO.
    pub fn fail_one_sync_after(&self, n: u32) {
        let mut state = self.0.lock();
        (state.syncs_until_failure, state.fails_once) = (Some(n), true);
    }

    /// From now on a failed sync drops the pages that it could not write. The kernel may do this at any time after
    /// the failure, because it regards these pages as clean.
    pub fn revert_on_failure(&self) {
        self.0.lock().reverts = true;
    }

    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.syncs_until_failure = None;
        state.failing = false;
    }

    /// Keeps a copy of the disk as it is after `n` more changes, for [`SimDisk::take_copy`].
    pub fn copy_after(&self, n: u32) {
        self.0.lock().changes_until_copy = Some(n);
    }

    /// The requested copy, if that many changes happened: the disk that a process leaves if it dies at that point.
    pub fn take_copy(&self) -> Option<Self> {
        let mut state = self.0.lock();
        state.changes_until_copy = None;
        state.copy.take()
    }

    /// Flips one byte of a file, on the medium and in the cache, like bit rot.
    pub fn flip(&self, path: &Path, offset: usize) {
        let state = self.0.lock();
        let mut file = state.names.get(path).expect("the file to damage exists").lock();
        file.cached[offset] ^= 0x40;
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= 0x40;
        }
    }

    /// Makes the sectors of `[offset, offset + len)` unreadable, like a head crash.
    pub fn lose(&self, path: &Path, offset: usize, len: usize) {
        let state = self.0.lock();
        let mut file = state.names.get(path).expect("the file to damage exists").lock();
        file.unreadable.extend(offset / SECTOR_BYTES..(offset + len).div_ceil(SECTOR_BYTES));
    }

    /// Makes the sector at `offset` of the next new file unreadable.
    pub fn lose_next_file(&self, offset: usize) {
        self.0.lock().next_file_unreadable_at = Some(offset);
    }

    /// Fails the next write into a log file with EIO.
    pub fn fail_one_write(&self) {
        self.0.lock().writes_until_failure = Some(0);
    }

    /// The disk after power returns: `random` decides the fate of everything that was not synced.
    /// The old disk (and every file open on it) is dead.
    pub fn crash(&self, random: &mut dyn FnMut() -> u64) -> Self {
        let mut old = self.0.lock();
        let kept = usize::try_from(random() % (old.pending.len() as u64 + 1)).expect("small");
        let mut names = std::mem::take(&mut old.durable_names);
        for op in old.pending.drain(..).take(kept) {
            op.apply(&mut names);
        }
        for inode in names.values_mut() {
            let file = inode.lock();
            let mut image = file.durable.clone();
            image.resize(file.cached.len(), 0);
            // All, none, or each sector at random: the first two are the usual outcomes of a lucky crash.
            let fate = random() % 4;
            for sector in &file.dirty_sectors {
                if fate == 0 || (fate > 1 && random().is_multiple_of(2)) {
                    let range = sector_range(*sector, image.len());
                    image[range.clone()].copy_from_slice(&file.cached[range]);
                }
            }
            let unreadable = file.unreadable.clone();
            let survivor =
                SimFile { cached: image.clone(), durable: image, unreadable, ..SimFile::default() };
            drop(file);
            *inode = Arc::new(Mutex::new(survivor));
        }
        let state = SimState { names: names.clone(), durable_names: names, ..SimState::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn inode(&self, op: &'static str, path: &Path) -> Result<Inode, IoError> {
        let missing = || IoError::new(op, path, io::ErrorKind::NotFound.into());
        self.0.lock().names.get(path).cloned().ok_or_else(missing)
    }

    fn create(&self, op: &'static str, path: &Path, content: Vec<u8>) -> Result<(), IoError> {
        let mut state = self.0.lock();
        state.count_change();
        if state.names.contains_key(path) {
            return Err(IoError::new(op, path, io::ErrorKind::AlreadyExists.into()));
        }
        let used: usize = state.names.values().map(|inode| inode.lock().cached.len()).sum();
        if state.capacity_bytes.is_some_and(|capacity| (used + content.len()) as u64 > capacity) {
            return Err(IoError::new(op, path, io::ErrorKind::StorageFull.into()));
        }
        let lost = state.next_file_unreadable_at.take();
        let unreadable = lost.map(|offset| offset / SECTOR_BYTES).into_iter().collect();
        let file = SimFile { durable: content.clone(), cached: content, unreadable, ..SimFile::default() };
        let inode = Arc::new(Mutex::new(file));
        state.names.insert(path.to_owned(), Arc::clone(&inode));
        state.pending.push(DirOp::Link(path.to_owned(), inode));
        Ok(())
    }
}

impl SimState {
    /// To be called before each change.
    fn count_change(&mut self) {
        match &mut self.changes_until_copy {
            Some(0) => {
                self.changes_until_copy = None;
                self.copy = Some(SimDisk(Arc::new(Mutex::new(self.deep_copy()))));
            }
            Some(left) => *left -= 1,
            None => {}
        }
    }

    fn deep_copy(&self) -> Self {
        let mut copies: BTreeMap<*const Mutex<SimFile>, Inode> = BTreeMap::new();
        let mut copy = |inode: &Inode| {
            let copied = || Arc::new(Mutex::new(inode.lock().clone()));
            Arc::clone(copies.entry(Arc::as_ptr(inode)).or_insert_with(copied))
        };
        let mut names = |names: &BTreeMap<PathBuf, Inode>| {
            names.iter().map(|(path, inode)| (path.clone(), copy(inode))).collect::<BTreeMap<_, _>>()
        };
        let (durable_names, names) = (names(&self.durable_names), names(&self.names));
        let pending = self.pending.iter().map(|op| match op {
            DirOp::Link(path, inode) => DirOp::Link(path.clone(), copy(inode)),
            DirOp::Unlink(path) => DirOp::Unlink(path.clone()),
        });
        Self { names, durable_names, pending: pending.collect(), ..Self::default() }
    }

    fn count_sync(&mut self) -> io::Result<()> {
        match &mut self.syncs_until_failure {
            Some(0) if self.fails_once => {
                self.syncs_until_failure = None;
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            Some(0) => self.failing = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if self.failing { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

fn sector_range(sector: usize, len: usize) -> std::ops::Range<usize> {
    let start = sector * SECTOR_BYTES;
    start..(start + SECTOR_BYTES).min(len)
}

struct SimRegion {
    inode: Inode,
    disk: SimDisk,
    len: u64,
}

impl Region for SimRegion {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_in(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        let fails = {
            let mut state = self.disk.0.lock();
            state.count_change();
            state.writes_until_failure.take_if(|left| *left == 0).is_some()
        };
        if fails {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut file = self.inode.lock();
        file.cached[at..at + bytes.len()].copy_from_slice(bytes);
        if !bytes.is_empty() {
            file.dirty_sectors.extend(at / SECTOR_BYTES..=(at + bytes.len() - 1) / SECTOR_BYTES);
        }
        Ok(())
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        let file = self.inode.lock();
        let sectors = at / SECTOR_BYTES..(at + into.len()).div_ceil(SECTOR_BYTES);
        if file.unreadable.range(sectors).next().is_some() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        into.copy_from_slice(&file.cached[at..at + into.len()]);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (outcome, reverts) = {
            let mut state = self.disk.0.lock();
            state.count_change();
            (state.count_sync(), state.reverts)
        };
        let mut file = self.inode.lock();
        // Like Linux: a failed write-back marks the pages clean, and leaves the medium old.
        let dirty = std::mem::take(&mut file.dirty_sectors);
        let SimFile { cached, durable, .. } = &mut *file;
        let (from, to) = match outcome {
            Ok(()) => (cached, durable),
            Err(_) if reverts => (durable, cached),
            Err(_) => return outcome,
        };
        for sector in dirty {
            let range = sector_range(sector, from.len());
            to[range.clone()].copy_from_slice(&from[range]);
        }
        outcome
    }

    fn release(&self, _upto: u64) {}
}

/// A file that is written from front to back or read.
struct SimStored {
    inode: Inode,
    disk: SimDisk,
    path: PathBuf,
}

impl SimStored {
    fn region(&self) -> SimRegion {
        let len = self.inode.lock().cached.len() as u64;
        SimRegion { inode: Arc::clone(&self.inode), disk: self.disk.clone(), len }
    }
}

impl NewFile for SimStored {
    fn write(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        if self.disk.free_bytes(&self.path)? < bytes.len() as u64 {
            return Err(IoError::new("write file", &self.path, io::ErrorKind::StorageFull.into()));
        }
        let region = self.region();
        let end = region.len;
        let grown = usize::try_from(end).expect("small") + bytes.len();
        self.inode.lock().cached.resize(grown, 0);
        region.copy_in(end, bytes).map_err(|source| IoError::new("write file", &self.path, source))
    }

    fn sync(&mut self) -> Result<(), IoError> {
        let region = self.region();
        {
            let SimFile { cached, durable, .. } = &mut *self.inode.lock();
            durable.resize(cached.len(), 0);
        }
        region.sync().map_err(|source| IoError::new("sync file", &self.path, source))
    }
}

impl StoredFile for SimStored {
    fn bytes(&self) -> Result<u64, IoError> {
        Ok(self.inode.lock().cached.len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, IoError> {
        let mut bytes = vec![0; len];
        let failed = |source| IoError::new("read file", &self.path, source);
        let end = usize::try_from(offset).expect("small") + len;
        if end > self.inode.lock().cached.len() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.region().read(offset, &mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

impl Storage for SimDisk {
    fn create_dir(&self, _dir: &Path) -> Result<(), IoError> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, IoError> {
        let state = self.0.lock();
        let within = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(within.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn allocate(&self, path: &Path, len: u64, head: &[u8]) -> Result<(), IoError> {
        let mut content = vec![0; usize::try_from(len).expect("small")];
        content[..head.len()].copy_from_slice(head);
        self.create("allocate log segment", path, content)
    }

    fn rewrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let inode = self.inode("rewrite log segment", path)?;
        let len = inode.lock().cached.len() as u64;
        let region = SimRegion { inode, disk: self.clone(), len };
        let written = region.copy_in(offset, bytes).and_then(|()| region.sync());
        written.map_err(|source| IoError::new("rewrite log segment", path, source))
    }

    fn open_log(&self, path: &Path) -> Result<Arc<LogFile>, IoError> {
        let inode = self.inode("open log segment", path)?;
        let len = inode.lock().cached.len() as u64;
        Ok(LogFile::new(path, Box::new(SimRegion { inode, disk: self.clone(), len })))
    }

    fn is_resident(&self, _path: &Path) -> bool {
        true
    }

    fn read_back(&self, path: &Path) -> Result<(), IoError> {
        let inode = self.inode("read back log segment", path)?;
        let len = inode.lock().cached.len();
        let region = SimRegion { inode, disk: self.clone(), len: len as u64 };
        region
            .read(0, &mut vec![0; len])
            .map_err(|source| IoError::new("read back log segment", path, source))
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        self.create("create file", path, bytes.to_vec())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn NewFile>, IoError> {
        Self::create(self, "create file", path, Vec::new())?;
        let inode = self.inode("create file", path)?;
        Ok(Box::new(SimStored { inode, disk: self.clone(), path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn StoredFile>, IoError> {
        let inode = self.inode("open file", path)?;
        Ok(Box::new(SimStored { inode, disk: self.clone(), path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let mut state = self.0.lock();
        state.count_change();
        let Some(inode) = state.names.remove(from) else {
            return Err(IoError::new("rename file", from, io::ErrorKind::NotFound.into()));
        };
        state.names.insert(to.to_owned(), Arc::clone(&inode));
        state.pending.push(DirOp::Link(to.to_owned(), inode));
        state.pending.push(DirOp::Unlink(from.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        let mut state = self.0.lock();
        state.count_change();
        if state.names.remove(path).is_none() {
            return Err(IoError::new("remove file", path, io::ErrorKind::NotFound.into()));
        }
        state.pending.push(DirOp::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), IoError> {
        let mut state = self.0.lock();
        state.count_change();
        let (durable, pending): (Vec<DirOp>, Vec<DirOp>) =
            std::mem::take(&mut state.pending).into_iter().partition(|op| op.is_in(dir));
        state.pending = pending;
        for op in durable {
            op.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> Result<u64, IoError> {
        let state = self.0.lock();
        let used: usize = state.names.values().map(|inode| inode.lock().cached.len()).sum();
        Ok(state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(used as u64)))
    }

    fn backend(&self, _dir: &Path) -> &'static str {
        "simulated"
    }
}
