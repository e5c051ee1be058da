//! What a request shows of itself.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::borrow::Cow;

/// A request's credential, before it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    /// None was given.
    None,
    /// The token behind `Bearer`, or that of a query parameter.
    Bearer(Cow<'a, str>),
    /// The text behind `Basic`, as it came.
    Basic(Cow<'a, str>),
}

impl<'a> Credential<'a> {
    /// From an `Authorization` header. One of another scheme, or one that is no text, is a credential that nobody
    /// knows; the scheme's case does not matter.
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

    /// This one, or the other if none was given.
    pub fn or(self, other: Option<Cow<'a, str>>) -> Self {
        match (self, other) {
            (Self::None, Some(token)) => Self::Bearer(token),
            (own, _) => own,
        }
    }

    /// The token in it: of `Basic`, the user's name, where API keys are; or the text itself, if that is not user and
    /// password in Base64.
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

/// What stands in the text behind `Basic`.
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
        // Both alphabets are tried.
        assert_eq!(token(&URL_SAFE.encode("k??>>:")), "k??>>");
        for raw in ["key_1", "fbk_abcd", "", "%%"] {
            assert_eq!(token(raw), raw);
        }
        // Base64 of something without a colon.
        assert_eq!(token("a2V5"), "a2V5");
    }
}
