//! The credential that a request presents.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::borrow::Cow;

/// The credential of a request, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    /// No credential was given.
    None,
    /// The token after `Bearer`, or from a query parameter.
    Bearer(Cow<'a, str>),
    /// The text after `Basic`, as received.
    Basic(Cow<'a, str>),
}

impl<'a> Credential<'a> {
    /// Reads an `Authorization` header. A header with another scheme counts as no credential. The scheme is
    /// case-insensitive.
    pub fn of_header(value: Option<&'a str>) -> Self {
        let Some(value) = value else { return Self::None };
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::Bearer(Cow::Borrowed(token.trim()))
            }
            Some((scheme, text)) if scheme.eq_ignore_ascii_case("basic") => {
                Self::Basic(Cow::Borrowed(text.trim()))
            }
            _ => Self::None,
        }
    }

    /// Returns this credential, or the other if none was given.
    pub fn or(self, other: Option<Cow<'a, str>>) -> Self {
        match (self, other) {
            (Self::None, Some(token)) => Self::Bearer(token),
            (own, _) => own,
        }
    }

    /// Returns the token. For `Basic`, that is the user name, where clients put API keys, or the text itself if it is
    /// not a user and password in Base64.
    pub(super) fn token(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::None => None,
            Self::Bearer(token) => Some(Cow::Borrowed(token)),
            Self::Basic(text) => {
                let user = user_and_password(text).map(|(user, _)| user);
                Some(user.map_or(Cow::Borrowed(&**text), Cow::Owned))
            }
        }
    }
}

/// Decodes the text after `Basic` into user and password.
pub fn user_and_password(text: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        let of = |value| Credential::of_header(Some(value));
        assert_eq!(Credential::of_header(None), Credential::None);
        assert_eq!(of("bearer  x "), Credential::Bearer("x".into()));
        assert_eq!(of("BASIC eDo="), Credential::Basic("eDo=".into()));
        assert_eq!(of("Digest x"), Credential::None);
        assert_eq!(of("x"), Credential::None);
        assert_eq!(of("Digest x").or(Some("y".into())), Credential::Bearer("y".into()));
        assert_eq!(of("Bearer x").or(Some("y".into())), Credential::Bearer("x".into()));
    }

    #[test]
    fn an_api_key_is_the_user_of_basic_or_all_of_it() {
        let token = |text: &str| Credential::Basic(text.to_owned().into()).token().unwrap().into_owned();
        let cases = [STANDARD.encode("key_1:"), URL_SAFE.encode("key_1:"), STANDARD.encode("key_1:password")];
        for text in cases {
            assert_eq!(token(&text), "key_1", "{text}");
        }
        // Both Base64 alphabets are accepted.
        assert_eq!(token(&URL_SAFE.encode("k??>>:")), "k??>>");
        for raw in ["key_1", "fbk_abcd", "", "%%"] {
            assert_eq!(token(raw), raw);
        }
        // Base64 of something without a colon.
        assert_eq!(token("a2V5"), "a2V5");
    }
}
