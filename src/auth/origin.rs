//! Origins of web pages, as in the `Origin` header (RFC 6454): `https://www.example.com`, `http://localhost:3000`.

/// The text is not a valid origin for an allow-list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid origin; use https://www.example.com, https://*.example.com, or http://localhost:3000"
)]
pub struct OriginError(String);

/// Checks an origin of an allow-list and normalizes it as browsers do: lower case, without the default port of the
/// scheme. `*.` before a host matches every subdomain of it.
pub fn parse(text: &str) -> Result<Box<str>, OriginError> {
    let error = || OriginError(text.to_owned());
    let lower = text.trim_end_matches('/').to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or_else(error)?;
    let (wildcard, rest) = match authority.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", authority),
    };
    // Only host and port are allowed, nothing else that a URL may contain.
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']' | b'_');
    if !matches!(scheme, "http" | "https") || !rest.bytes().all(plain) {
        return Err(error());
    }
    let url = url::Url::parse(&format!("{scheme}://{rest}")).map_err(|_| error())?;
    let host = url.host_str().ok_or_else(error)?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{scheme}://{wildcard}{host}{port}").into())
}

/// Returns whether an `Origin` header matches an entry of an allow-list, as returned by [`parse`].
pub fn matches(pattern: &str, origin: &str) -> bool {
    let Some((scheme, below)) = pattern.split_once("://*.") else {
        return pattern.eq_ignore_ascii_case(origin);
    };
    let Some((own, host)) = origin.split_once("://") else { return false };
    let Some(at) = host.len().checked_sub(below.len()).filter(|at| *at > 1) else { return false };
    let (Some(head), Some(tail)) = (host.get(..at), host.get(at..)) else { return false };
    own.eq_ignore_ascii_case(scheme) && head.ends_with('.') && tail.eq_ignore_ascii_case(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (text, origin) in [
            ("https://www.example.com", "https://www.example.com"),
            ("HTTPS://WWW.Example.com/", "https://www.example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://*.example.com", "https://*.example.com"),
        ] {
            assert_eq!(&*parse(text).unwrap(), origin);
        }
        for text in [
            "",
            "*",
            "example.com",
            "https://",
            "https://a/b",
            "ftp://a",
            "https://a b",
            "https://u@a",
            "null",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        for (pattern, origin, good) in [
            ("https://a.com", "https://a.com", true),
            ("https://a.com", "https://A.com", true),
            ("https://a.com", "http://a.com", false),
            ("https://a.com", "https://a.com:8443", false),
            ("https://a.com", "https://a.com.evil.com", false),
            ("https://*.a.com", "https://x.a.com", true),
            ("https://*.a.com", "https://x.y.a.com", true),
            ("https://*.a.com", "https://a.com", false),
            ("https://*.a.com", "https://.a.com", false),
            ("https://*.a.com", "https://xa.com", false),
            ("https://*.a.com", "https://x.a.com:81", false),
            ("https://*.a.com", "https://ä.a.com", true),
            ("https://*.a.com", "null", false),
        ] {
            assert_eq!(matches(pattern, origin), good, "{pattern} and {origin}");
        }
    }
}
