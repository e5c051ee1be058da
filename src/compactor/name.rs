//! File names: pure functions of a file's content, so that writing a file again after a crash gives it the same
//! name.

use crate::catalog::FileKind;
use crate::wal::LsnRange;

/// The object's name below the destination: `visits/received_date=2026-11-20/0a1b2c3d-<first>-<last>.parquet`. It
/// includes the node because LSNs are per node.
pub(super) fn object(stream: &str, kind: FileKind, partition: &str, node: &str, lsns: LsnRange) -> String {
    let table = table(stream, kind);
    let slash = if partition.is_empty() { "" } else { "/" };
    format!("{table}/{partition}{slash}{node}-{:020}-{:020}.parquet", lsns.first.0, lsns.last.0)
}

/// The table that readers see: a directory.
pub(super) fn table(stream: &str, kind: FileKind) -> String {
    match kind {
        FileKind::Rows | FileKind::Raw => stream.to_owned(),
        FileKind::Quarantine => format!("{stream}{}", crate::catalog::QUARANTINE_SUFFIX),
    }
}

/// The name of an object's staged file: flat and of bounded length, whatever the object's name.
pub fn staged(object: &str) -> String {
    let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, object.as_bytes());
    format!("{}.parquet", digest.simple())
}

/// `column=value` in Hive's form: everything but letters, digits, `_`, `-` and `.` as `%XX`.
pub(super) fn partition(column: &str, value: Option<&str>) -> String {
    let value =
        value.filter(|value| !value.is_empty()).map_or("__HIVE_DEFAULT_PARTITION__".to_owned(), escape);
    format!("{}={value}", escape(column))
}

/// Longer values are cut and get a checksum; values with the same prefix and checksum share a directory.
const ESCAPED_BYTES_MAX: usize = 96;

fn hex_digit(number: u8) -> char {
    char::from_digit(u32::from(number), 16).expect("half a byte").to_ascii_uppercase()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.extend([hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
    if escaped.len() > ESCAPED_BYTES_MAX {
        escaped.truncate(ESCAPED_BYTES_MAX);
        let checksum = format!("-{:08x}", crc32fast::hash(text.as_bytes()));
        escaped.push_str(&checksum);
    }
    // The file system reserves these names.
    if matches!(escaped.as_str(), "." | "..") { escaped.replace('.', "%2E") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Lsn;

    #[test]
    fn names_follow_from_what_the_file_holds() {
        let lsns = LsnRange { first: Lsn(7), last: Lsn(16_777_217) };
        assert_eq!(
            object("visits", FileKind::Rows, "received_date=2026-11-20", "0a1b2c3d", lsns),
            "visits/received_date=2026-11-20/0a1b2c3d-00000000000000000007-00000000000016777217.parquet"
        );
        assert_eq!(
            object("visits", FileKind::Quarantine, "", "0a1b2c3d", lsns),
            "visits_quarantine/0a1b2c3d-00000000000000000007-00000000000016777217.parquet"
        );
    }

    #[test]
    fn partition_values_stay_one_directory() {
        assert_eq!(partition("city", Some("São Paulo/..")), "city=S%C3%A3o%20Paulo%2F..");
        assert_eq!(partition("a=b", Some("..")), "a%3Db=%2E%2E");
        assert_eq!(partition("city", None), "city=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(partition("city", Some("")), "city=__HIVE_DEFAULT_PARTITION__");
        assert!(partition("city", Some(&"x".repeat(5000))).len() < 120);
    }
}
