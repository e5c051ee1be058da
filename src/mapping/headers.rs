//! Headers as mappings see them, and JSON as the vendor's encoder writes it.

/// Headers under their canonical names, sorted, each with its first value.
pub fn headers<'a>(all: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in all {
        let name = canonical_name(name);
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, String::from_utf8_lossy(value).into_owned()));
        }
    }
    headers.sort_unstable();
    headers
}

/// `user-agent` as `User-Agent`. A name with characters that are not valid in a header name stays as it is.
pub fn canonical_name(name: &str) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return name.to_owned();
    }
    let mut upper = true;
    let canonical = name.chars().map(|character| {
        let character = if upper { character.to_ascii_uppercase() } else { character.to_ascii_lowercase() };
        upper = character == '-';
        character
    });
    canonical.collect()
}

/// An object of texts as Go's encoder writes it: HTML characters are escaped.
pub fn go_json(fields: &[(String, String)]) -> String {
    let mut json = String::from("{");
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        push_string(&mut json, name);
        json.push(':');
        push_string(&mut json, value);
    }
    json.push('}');
    json
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                json.push_str("\\u");
                let digit = |shift: u32| char::from_digit((u32::from(character) >> shift) & 15, 16);
                json.extend([12, 8, 4, 0].into_iter().filter_map(digit));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}
