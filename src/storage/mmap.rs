//! Memory-mapped files. The only file in this package with `unsafe` code (`tests/tidy` checks this).
//!
//! It has two regions for log files: [`MmapRegion`] stores through a mapping; [`PwriteRegion`] writes with `pwrite(2)`,
//! for file systems where a store into a mapped page may fail late (copy-on-write, network). Both read with `pread(2)`:
//! a sector that cannot be read is then an error of one call, where a load from a mapped page would be a SIGBUS.
//!
//! A store into a mapped page without an allocated block raises SIGBUS if the disk is full. So log files are allocated
//! and written once before they are mapped (`Storage::allocate`), and never truncated.
#![expect(unsafe_code, reason = "memory-mapped files; every block states its contract")]

use super::Region;
use memmap2::{Advice, MmapRaw, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) struct MmapRegion {
    map: MmapRaw,
    file: File,
}

impl MmapRegion {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let map = MmapRaw::map_raw(&file)?;
        map.advise(Advice::DontDump)?;
        Ok(Self { map, file })
    }
}

impl Region for MmapRegion {
    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn copy_in(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = in_bounds(offset, bytes.len(), self.map.len());
        // SAFETY: `at` lies inside the mapping (checked above).
        let to = unsafe { self.map.as_mut_ptr().add(at) };
        // SAFETY: source and destination do not overlap (nothing borrows from the mapping) and `[at, at + len)` lies
        // inside the mapping. No other thread touches the range: only `Reservation::write` calls this, an `Appender`
        // hands each range out once, and readers are kept below the oldest live reservation. All blocks of the file exist (it was allocated and written before it was
        // mapped) and it is never truncated while mapped, so every page of the store has a block.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn release(&self, upto: u64) {
        let len = usize::try_from(upto).unwrap_or(0).min(self.map.len());
        // SAFETY: on a shared file mapping MADV_DONTNEED drops page-table entries only; the bytes stay in the
        // page cache and come back at the next access. Slices given out stay valid.
        let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, len) };
        debug_assert!(advised.is_ok(), "{advised:?}");
    }
}

pub(super) struct PwriteRegion {
    file: File,
    len: u64,
}

impl PwriteRegion {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl Region for PwriteRegion {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_in(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn release(&self, _upto: u64) {}
}

/// The fraction (0 to 1) of the file's pages that are in memory.
pub(super) fn resident_part(file: &File) -> io::Result<f64> {
    let map = MmapRaw::map_raw(file)?;
    let pages = map.len().div_ceil(4096);
    let mut resident = vec![0_u8; pages];
    // SAFETY: the mapping is valid for `len` bytes and the vector holds one byte per page.
    let status = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), resident.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let present = resident.iter().filter(|page| *page & 1 == 1).count();
    Ok(present as f64 / pages.max(1) as f64)
}

fn in_bounds(offset: u64, len: usize, map_len: usize) -> usize {
    let at = usize::try_from(offset).unwrap_or(usize::MAX);
    assert!(
        at.checked_add(len).is_some_and(|end| end <= map_len),
        "a log file is accessed inside its bounds"
    );
    at
}
