//! The checksum of a file: CRC-64/NVME, which S3 servers compute and verify themselves.

use crc_fast::{CrcAlgorithm, Digest};
use std::io::{self, Write};

/// Size and checksum of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    pub bytes: u64,
    pub checksum: u64,
}

/// Sums up bytes as they pass.
pub(super) struct Summing {
    digest: Digest,
    bytes: u64,
}

impl Summing {
    pub(super) fn new() -> Self {
        Self { digest: Digest::new(CrcAlgorithm::Crc64Nvme), bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn sum(&self) -> Sum {
        Sum { bytes: self.bytes, checksum: self.digest.finalize() }
    }
}

/// A writer that sums up what it passes on, so that the checksum is of what was encoded, whatever the disk keeps of it.
pub(super) struct Summed<W> {
    to: W,
    summing: Summing,
}

impl<W> Summed<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, summing: Summing::new() }
    }

    /// The writer, and the sum of everything written.
    pub(super) fn finish(self) -> (W, Sum) {
        (self.to, self.summing.sum())
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.summing.add(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_object_stores() {
        let mut summed = Summed::new(Vec::new());
        summed.write_all(b"1234").unwrap();
        summed.write_all(b"56789").unwrap();
        let (bytes, sum) = summed.finish();
        assert_eq!((bytes.as_slice(), sum.bytes), (&b"123456789"[..], 9));
        // The check value in the catalogue of CRCs.
        assert_eq!(sum.checksum, 0xAE8B_1486_0A79_9888);
    }
}
