//! Assigns each row its partition of the stream and its offset there.
//!
//! The hash of a key is a compatibility promise: it decides where rows are, also in files that are already written.
//! `docs/api/foundry.md` documents it.
#![deny(clippy::wildcard_enum_match_arm)]

use super::data::Data;
use super::set::{ColumnSet, Location};
use crate::batch::Offsets;
use crate::schema::Rules;
use arrow_array::{ArrayRef, Int32Array, Int64Array};
use arrow_buffer::i256;
use std::sync::Arc;

/// Numbers rows from the offsets of their frames.
#[derive(Debug)]
pub(super) struct Placing {
    partitions: u32,
    /// Columns whose values decide. Empty: the rows of each request are distributed round-robin.
    key: Vec<Location>,
    /// What is left of the offsets of the current frame.
    left: Vec<Offsets>,
    /// Number of rows of the frame so far.
    taken: usize,
    /// The partition of each row, if its frame has an offset for it.
    partition: Vec<Option<i32>>,
    offset: Vec<Option<i64>>,
}

impl Placing {
    /// `None` if rows are not numbered.
    pub(super) fn from_rules(rules: &Rules, set: &ColumnSet) -> Option<Self> {
        let placement = rules.placement.as_ref()?;
        let key = placement.key.iter().filter_map(|name| set.locate(name)).collect();
        Some(Self {
            partitions: placement.partitions.max(1),
            key,
            left: Vec::new(),
            taken: 0,
            partition: Vec::new(),
            offset: Vec::new(),
        })
    }

    /// Starts a frame with these offsets; the next rows belong to it.
    pub(super) fn begin(&mut self, offsets: &[Offsets]) {
        self.left.clear();
        self.left.extend_from_slice(offsets);
        self.taken = 0;
    }

    /// Numbers the row that was just read.
    pub(super) fn push(&mut self, set: &ColumnSet, row: usize) {
        let number = self.number(set, row);
        self.partition.push(number.and_then(|(partition, _)| i32::try_from(partition).ok()));
        self.offset.push(number.map(|(_, offset)| offset.cast_signed()));
    }

    fn number(&mut self, set: &ColumnSet, row: usize) -> Option<(u32, u64)> {
        let at = if self.key.is_empty() {
            self.taken.checked_rem(self.left.len())?
        } else {
            let partition = self.partition_of(set, row);
            self.left.iter().position(|left| left.partition == partition)?
        };
        self.taken += 1;
        let left = self.left.get_mut(at).filter(|left| left.count > 0)?;
        let number = (left.partition, left.first);
        (left.count, left.first) = (left.count - 1, left.first + 1);
        Some(number)
    }

    /// The partition of a row according to its key.
    pub(super) fn partition_of(&self, set: &ColumnSet, row: usize) -> u32 {
        let mut hash = PartitionKeyHash::default();
        for location in &self.key {
            hash.add(set.at(location).and_then(|column| column.value_at(row)), row);
        }
        hash.partition(self.partitions)
    }

    /// Whether a row's partition follows from its values.
    pub(super) fn is_keyed(&self) -> bool {
        !self.key.is_empty()
    }

    /// Returns the numbers of the rows so far and resets them.
    pub(super) fn finish(&mut self) -> (ArrayRef, ArrayRef) {
        let partition = Int32Array::from(std::mem::take(&mut self.partition));
        let offset = Int64Array::from(std::mem::take(&mut self.offset));
        (Arc::new(partition), Arc::new(offset))
    }
}

/// FNV-1a over the values of a key, each preceded by a byte that identifies its kind.
#[derive(Debug)]
struct PartitionKeyHash(u64);

impl Default for PartitionKeyHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl PartitionKeyHash {
    /// `values`: of the column, if it has one in this row.
    fn add(&mut self, values: Option<&Data>, row: usize) {
        let Some(values) = values else { return self.bytes(0, &[]) };
        match values {
            Data::Bool(bits) => self.bytes(1, &[u8::from(bits.get_bit(row))]),
            Data::Int64(values) | Data::Int(values, ..) | Data::Timestamp(values) => {
                self.integer(values[row]);
            }
            Data::UInt64(values) => {
                self.integer(values[row].cast_signed());
            }
            Data::Date(values) => self.integer(values[row].into()),
            Data::String(text) | Data::Fixed(text, _) | Data::Uuid(text) => {
                let text = text.get(row);
                self.bytes(3, &u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                self.write(text);
            }
            Data::Decimal128(values, ..) => {
                self.bytes(4, &i256::from_i128(values[row]).to_le_bytes());
            }
            Data::Decimal256(values, ..) => {
                self.bytes(4, &values[row].to_le_bytes());
            }
            // No other type can be a key.
            Data::Undecided(_)
            | Data::Float32(_)
            | Data::Float64(_)
            | Data::Binary(_)
            | Data::Json(_)
            | Data::List(..)
            | Data::Map(..)
            | Data::Struct(_)
            | Data::Branch(_) => self.bytes(0, &[]),
        }
    }

    fn integer(&mut self, value: i64) {
        self.bytes(2, &value.to_le_bytes());
    }

    fn bytes(&mut self, sort: u8, bytes: &[u8]) {
        self.write(&[sort]);
        self.write(bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn partition(&self, of: u32) -> u32 {
        u32::try_from(self.0 % u64::from(of)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(sorts: &[(u8, &[u8])]) -> u64 {
        let mut hash = PartitionKeyHash::default();
        for (sort, bytes) in sorts {
            hash.bytes(*sort, bytes);
        }
        hash.0
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        // Changing one of these values moves the rows of a key to another partition.
        assert_eq!(hash(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(&[(0, b"")]), 0xaf63_bd4c_8601_b7df);
        assert_eq!(hash(&[(b'f', b"oobar")]), 0x8594_4171_f739_67e8, "FNV-1a of `foobar`");
    }

    #[test]
    fn keys_are_spread_evenly() {
        let mut counts = [0_u32; 16];
        for n in 0..16_000_i64 {
            let mut hash = PartitionKeyHash::default();
            hash.integer(n);
            counts[hash.partition(16) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
