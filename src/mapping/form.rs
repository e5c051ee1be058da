//! Parses the body of an HTML form into a JSON object: the values of a repeated name become an array.

use super::body::ParseError;
use serde_json::{Map, Value};

/// Parses `a=1&b=2&b=3`. An unescaped `;` is an error, because some parsers read it as a separator.
pub(super) fn parse(body: &str) -> Result<Map<String, Value>, ParseError> {
    let invalid = |what: &str| ParseError::Invalid(format!("cannot parse request body as a form: {what}"));
    if body.contains(';') {
        return Err(invalid("invalid semicolon separator"));
    }
    let mut fields: Map<String, Value> = Map::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        if let Some(escape) = bad_escape(pair) {
            return Err(invalid(&format!("invalid URL escape {}", Value::from(escape))));
        }
    }
    for (name, value) in form_urlencoded::parse(body.as_bytes()) {
        let value = Value::from(value.into_owned());
        match fields.get_mut(&*name) {
            None => drop(fields.insert(name.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(fields)
}

/// The first `%` that is not followed by two hexadecimal digits.
fn bad_escape(text: &str) -> Option<&str> {
    let is_good = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let (at, _) = text.match_indices('%').find(|(at, _)| !is_good(*at))?;
    let end = text[at..].char_indices().nth(3).map_or(text.len(), |(len, _)| at + len);
    text.get(at..end)
}
