//! Bodies that are forms. The vendor's own example passes a dictionary to its HTTP client as the body, which sends
//! `__time=2024-01-01T00%3A00%3A00&price=1.5` under any content type: one event.

use super::TIME;
use crate::formats::json::Parser;
use serde_json::Value;

/// Converts a form to an event as a line of JSON; `None` if the body is not a form. Values that look like numbers
/// become numbers, which a text column stores as they were written.
pub(super) fn event(body: &[u8]) -> Option<Vec<u8>> {
    let body = body.trim_ascii();
    let looks_like_one = body.contains(&b'=') && !body.iter().any(|byte| b"\r\n\t {}[]\"".contains(byte));
    if !looks_like_one || !body.split(|byte| *byte == b'&').all(|field| field.contains(&b'=')) {
        return None;
    }
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in form_urlencoded::parse(body) {
        let value = if is_number(&value) { value.into_owned() } else { Value::from(&*value).to_string() };
        match fields.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => fields.push((key.into_owned(), vec![value])),
        }
    }
    fields.iter().find(|(key, _)| key == TIME)?;
    let fields = fields.into_iter().map(|(key, values)| {
        let value = values.join(",");
        // A repeated key is a list, as it was in the dictionary.
        let value = if values.len() > 1 { format!("[{value}]") } else { value };
        format!("{}:{value}", Value::from(key))
    });
    let fields: Vec<String> = fields.collect();
    Some(format!("{{{}}}", fields.join(",")).into_bytes())
}

fn is_number(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let mut parser = Parser::document(text.as_bytes());
    starts && parser.number().is_ok() && parser.at() == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_one_event() {
        let event = |body: &str| event(body.as_bytes()).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(
            event("__time=2024-01-01T00%3A00%3A00&price=1.5&name=a+b&zip=007&tag=x&tag=2\n").as_deref(),
            Some(r#"{"__time":"2024-01-01T00:00:00","price":1.5,"name":"a b","zip":"007","tag":["x",2]}"#)
        );
        for none in [
            "",
            "not json",
            "a=b",
            "__time",
            "__time=1&x",
            "{\"__time\":\"a=b\"}",
            "__time=1\n__time=2",
            "\u{feff}",
        ] {
            assert_eq!(event(none), None, "{none:?}");
        }
    }
}
