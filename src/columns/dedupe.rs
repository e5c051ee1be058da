//! Rewrites a record in which a key occurs twice so that the last value wins.

use crate::formats::json::{JsonKind, Parser, Syntax};
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};

/// Whether any object of the value at the parser has a duplicate key. Recurses like [`last_wins`].
pub(super) fn has_duplicate(parser: &mut Parser<'_>) -> Result<bool, Syntax> {
    let mut found = false;
    match parser.kind()? {
        JsonKind::Object => {
            let mut keys = HashSet::new();
            parser.enter()?;
            let mut key = parser.first_key()?;
            while let Some(name) = key {
                found |= !keys.insert(name.text());
                found |= has_duplicate(parser)?;
                key = parser.next_key()?;
            }
            parser.leave();
        }
        JsonKind::Array => {
            parser.enter()?;
            let mut more = parser.first_element();
            while more {
                found |= has_duplicate(parser)?;
                more = parser.next_element()?;
            }
            parser.leave();
        }
        _ => drop(parser.skip_value()?),
    }
    Ok(found)
}

/// Returns the value at the parser with the keys of every object made unique, and counts the dropped values.
/// Recurses as deep as a record may be nested ([`crate::formats::json::DEPTH_MAX`]).
pub(super) fn last_wins(parser: &mut Parser<'_>, dropped: &mut u64) -> Result<Vec<u8>, Syntax> {
    match parser.kind()? {
        JsonKind::Object => object(parser, dropped),
        JsonKind::Array => array(parser, dropped),
        _ => parser.skip_value().map(<[u8]>::to_vec),
    }
}

fn object(parser: &mut Parser<'_>, dropped: &mut u64) -> Result<Vec<u8>, Syntax> {
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    // A record may have as many keys as fit into a request.
    let mut places: HashMap<_, usize> = HashMap::new();
    parser.enter()?;
    let mut key = parser.first_key()?;
    while let Some(name) = key {
        let value = last_wins(parser, dropped)?;
        match places.entry(name.text()) {
            Entry::Occupied(place) => {
                fields[*place.get()].1 = value;
                *dropped += 1;
            }
            Entry::Vacant(place) => {
                place.insert(fields.len());
                fields.push((name.raw, value));
            }
        }
        key = parser.next_key()?;
    }
    parser.leave();
    let mut source = vec![b'{'];
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            source.push(b',');
        }
        source.push(b'"');
        source.extend_from_slice(key);
        source.extend_from_slice(b"\":");
        source.extend_from_slice(value);
    }
    source.push(b'}');
    Ok(source)
}

fn array(parser: &mut Parser<'_>, dropped: &mut u64) -> Result<Vec<u8>, Syntax> {
    let mut source = vec![b'['];
    parser.enter()?;
    let mut more = parser.first_element();
    while more {
        if source.len() > 1 {
            source.push(b',');
        }
        source.append(&mut last_wins(parser, dropped)?);
        more = parser.next_element()?;
    }
    parser.leave();
    source.push(b']');
    Ok(source)
}
