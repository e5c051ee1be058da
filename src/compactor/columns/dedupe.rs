//! A record in which a key came twice, rewritten so that the last value stands.

use crate::json::{Kind, Parser, Syntax};

/// The value at the parser with every object's keys made unique, and how many values were dropped. Recurses as deep
/// as a record may be nested ([`crate::json::DEPTH_MAX`]).
pub(super) fn last_wins(parser: &mut Parser<'_>, dropped: &mut u64) -> Result<Vec<u8>, Syntax> {
    match parser.kind()? {
        Kind::Object => object(parser, dropped),
        Kind::Array => array(parser, dropped),
        _ => parser.skip_value().map(<[u8]>::to_vec),
    }
}

fn object(parser: &mut Parser<'_>, dropped: &mut u64) -> Result<Vec<u8>, Syntax> {
    let mut fields: Vec<(Vec<u8>, &[u8], Vec<u8>)> = Vec::new();
    parser.enter()?;
    let mut key = parser.first_key()?;
    while let Some(name) = key {
        let text = name.text().into_owned();
        let value = last_wins(parser, dropped)?;
        if let Some(field) = fields.iter_mut().find(|(known, ..)| *known == text) {
            field.2 = value;
            *dropped += 1;
        } else {
            fields.push((text, name.raw, value));
        }
        key = parser.next_key()?;
    }
    parser.leave();
    let mut source = vec![b'{'];
    for (index, (_, key, value)) in fields.iter().enumerate() {
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
