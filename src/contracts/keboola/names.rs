//! Derives ids from names, and the names of streams and directories from ids.

use crate::contracts::reject::Reject;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The longest id, in characters.
pub const ID_CHARS_MAX: usize = 48;

/// The length of the digest in a part that replaces an id with other characters; see [`part`].
const DIGEST_BYTES: usize = 8;
/// How many characters of the id precede the digest.
const KEPT_CHARS: usize = 24;

/// Derives an id from a name: `GitHub Pull Requests` becomes `git-hub-pull-requests`. Empty if the name has neither
/// letters nor digits.
pub fn normalize(name: &str) -> String {
    let mut divided = String::with_capacity(name.len().saturating_mul(2));
    let mut in_capitals = false;
    for letter in name.chars() {
        let is_capital = letter.is_ascii_uppercase();
        if is_capital && !in_capitals {
            divided.push('-');
        }
        in_capitals = is_capital;
        divided.push(if is_kept(letter) { letter } else { '-' });
    }
    let mut id = String::with_capacity(divided.len());
    for letter in divided.nfd().filter(|letter| !is_combining_mark(*letter)).nfc() {
        // A run of omitted characters becomes one hyphen.
        if letter != '-' || !id.ends_with('-') {
            id.push(letter);
        }
    }
    id.trim_matches('-').to_lowercase()
}

/// Checks an id. `what` names the kind of object in messages.
pub fn id_of(what: &str, id: &str) -> Result<String, Reject> {
    let message = match id.chars().count() {
        0 => format!("{what} ID cannot be derived from a name without letters and digits"),
        1..=ID_CHARS_MAX => return Ok(id.to_owned()),
        length => {
            format!("{what} ID \"{id}\" has {length} characters, the maximum is {ID_CHARS_MAX}")
        }
    };
    Err(Reject::malformed(message).code("badRequest"))
}

/// Returns whether an id keeps this character: letters and digits, including accented letters of European languages.
fn is_kept(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, 'á'..='ž' | 'Á'..='Ž')
}

/// An id as a part of the name of a stream or a directory: unchanged if that name may contain all of its characters,
/// otherwise its first characters with `_` for the others, and a digest of the whole id.
pub fn part(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.bytes().all(is_plain) {
        return id.to_owned();
    }
    let plain = id.bytes().map(|byte| if is_plain(byte) { char::from(byte) } else { '_' });
    let mut part: String = plain.take(KEPT_CHARS).collect();
    part.push('.');
    let digest = Sha256::digest(id).into_iter().take(DIGEST_BYTES);
    digest.fold(part, |part, byte| part + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_names() {
        for (name, id) in [
            ("My Receiver", "my-receiver"),
            ("GitHub Pull Requests", "git-hub-pull-requests"),
            ("CamelCase", "camel-case"),
            ("a B cd-eF   x_y___z__", "a-b-cd-e-f-x-y-z"),
            ("__abc_def_xyz___", "abc-def-xyz"),
            ("HTTPServer v2", "httpserver-v2"),
            ("příliš žluťoučký", "prilis-zlutoucky"),
            ("!!!!~~~~weird||||id##", "weird-id"),
            ("Žluťoučký Kůň", "zlutoucky-kun"),
            ("", ""),
            ("!?", ""),
            ("日本", ""),
        ] {
            assert_eq!(normalize(name), id, "{name}");
        }
    }

    #[test]
    fn parts_of_names_are_safe_and_distinct() {
        assert_eq!(part("my-export_1"), "my-export_1");
        let (one, other) = (part("../a"), part(".._a"));
        assert!(one.starts_with("___a.") && one.len() == 5 + 2 * DIGEST_BYTES, "{one}");
        assert_ne!(one, other);
        let longest = part(&"ž".repeat(ID_CHARS_MAX));
        assert!(longest.len() <= ID_CHARS_MAX, "{longest}");
    }
}
