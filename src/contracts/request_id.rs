//! Request ids, which connect an answer to its log lines. They are cheap enough to be created for every request, even
//! if the contract does not use them, and they are not secret.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Identifies a request: unique within a process, and across processes except by chance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestId(u128);

static SEEDS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
static NEXT: AtomicU64 = AtomicU64::new(0);

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl RequestId {
    /// The id of a new request.
    pub fn next() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let halves = SEEDS.each_ref().map(|seed| u128::from(seed.hash_one(number)));
        Self(halves[0] << 64 | halves[1])
    }

    /// The id as `length` letters and digits, at most 21.
    pub fn letters(self, length: usize) -> String {
        let mut rest = self.0;
        let letter = |_| {
            let letter = usize::try_from(rest % 62).map_or('0', |at| char::from(LETTERS[at]));
            rest /= 62;
            letter
        };
        (0..length.min(21)).map(letter).collect()
    }

    /// The id as a random UUID.
    pub fn uuid(self) -> Uuid {
        uuid::Builder::from_random_bytes(self.0.to_le_bytes()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn requests_have_numbers_of_their_own() {
        let ids: Vec<RequestId> = (0..1000).map(|_| RequestId::next()).collect();
        let texts: HashSet<String> = ids.iter().map(|id| id.letters(15)).collect();
        assert_eq!(texts.len(), ids.len());
        assert!(texts.iter().all(|text| text.len() == 15 && text.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert_eq!(ids[0].uuid().get_version_num(), 4);
        assert_eq!(ids[0].uuid(), ids[0].uuid());
    }
}
