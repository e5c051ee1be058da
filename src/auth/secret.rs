//! Secrets: how they are generated, what is stored of them, and how a presented secret is compared.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::hash::{BuildHasherDefault, Hasher};
use subtle::ConstantTimeEq;

/// SHA-256 of a secret. Secrets have 256 random bits, so the hash needs no salt, and the timing of a lookup by hash
/// reveals nothing about the secret.
pub type Hash = [u8; 32];

/// Characters at the end of a secret that are kept, so that people can recognize it.
const HINT_CHARS: usize = 4;
/// A prefix ends with `_` or `.` within this many characters.
const PREFIX_CHARS_MAX: usize = 4;

/// The prefix tells what kind of secret this is, so that someone who finds one in a log or a repository knows what to
/// revoke.
pub const TOKEN_PREFIX: &str = "fb_";
pub const API_KEY_PREFIX: &str = "fbk_";
pub const SIGNING_PREFIX: &str = "fbs_";
pub const CLIENT_SECRET_PREFIX: &str = "fbc_";

pub fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(N), "getrandom returns a request this short in full");
    bytes
}

/// A prefix and 256 random bits as text.
pub fn make(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random::<32>()))
}

/// Random letters and digits, for secrets whose form a contract prescribes.
pub fn alphanumeric(length: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // Larger byte values are dropped, so that every letter is equally likely.
    let fair = u8::MAX - u8::MAX % 62;
    let bytes = std::iter::repeat_with(random::<64>).flatten();
    let letters = bytes.filter(|byte| *byte < fair).map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
    letters.take(length).collect()
}

/// Compares a presented secret with the real one in constant time.
pub fn is_same(said: &str, secret: &str) -> bool {
    said.as_bytes().ct_eq(secret.as_bytes()).into()
}

/// The prefix and the end of a secret, so that people can tell secrets apart: `fb_…x1Y2`.
pub fn hint(secret: &str) -> String {
    let end_of_prefix = secret.bytes().take(PREFIX_CHARS_MAX).position(|byte| matches!(byte, b'_' | b'.'));
    let prefix = end_of_prefix.and_then(|at| secret.get(..=at)).unwrap_or("");
    let end = secret.len().checked_sub(HINT_CHARS).and_then(|at| secret.get(at..)).unwrap_or("");
    format!("{prefix}…{end}")
}

/// The first bytes of a hash as a number.
pub fn first_number(hash: &[u8]) -> u64 {
    hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// A map keyed by hash. The keys are already random, so their first bytes serve as the hash.
pub type ByHash<V> = std::collections::HashMap<Hash, V, BuildHasherDefault<FirstBytes>>;

/// See [`ByHash`].
#[derive(Debug, Default, Clone, Copy)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = first_number(bytes);
    }

    /// Ignored: the length of the array is always the same.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (make(TOKEN_PREFIX), make(TOKEN_PREFIX));
        assert_eq!(one.len(), TOKEN_PREFIX.len() + 43);
        assert_ne!(one, other);
        assert_eq!(hint("fb_0123456789"), "fb_…6789");
        assert_eq!(hint("p.e30.0123456789"), "p.…6789");
        assert_eq!(hint("ab"), "…");
    }

    #[test]
    fn secrets_of_letters_and_digits() {
        let (one, other) = (alphanumeric(48), alphanumeric(48));
        assert!(one.len() == 48 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{one}");
        assert!(is_same(&one, &one) && !is_same(&one, &other) && !is_same(&one, ""));
        let many = alphanumeric(10_000);
        for letter in (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z') {
            assert!(many.bytes().any(|byte| byte == letter), "{letter}");
        }
    }

    #[test]
    fn a_map_by_hash_finds_what_was_put_there() {
        let mut map = ByHash::default();
        for n in 0..1000 {
            map.insert(hash(&n.to_string()), n);
        }
        assert!((0..1000).all(|n| map.get(&hash(&n.to_string())) == Some(&n)));
        assert_eq!(map.get(&hash("1000")), None);
    }
}
