//! CORS: which web pages may send requests, and the headers that tell browsers so (the Fetch standard, "CORS
//! protocol").
//!
//! A browser sends most requests of a page regardless of the response headers, so requests from an origin that is not
//! allowed are also refused. Programs send no `Origin`, so the configured list does not apply to them.

use crate::auth::origin::{self, OriginError};
use crate::contracts::Reply;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Every origin, in a list of origins.
const ANY: &str = "*";

static ANY_ORIGIN: HeaderValue = HeaderValue::from_static(ANY);
static EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, Forebay-Receipt, Forebay-Durable, Forebay-Published, Idempotency-Replayed",
);
static ACCEPTED: HeaderValue =
    HeaderValue::from_static("authorization, content-type, content-encoding, idempotency-key");
/// Browsers repeat the preflight after a day, or sooner.
static MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// The origins whose pages may send requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    Any,
    /// Only pages of these origins.
    List(Box<[Box<str>]>),
}

impl Cors {
    /// From `["*"]` or a list of origins. An empty list allows no page.
    pub fn new(origins: &[String]) -> Result<Self, OriginError> {
        if origins == [ANY] {
            return Ok(Self::Any);
        }
        Ok(Self::List(origins.iter().map(|origin| origin::parse(origin)).collect::<Result<_, _>>()?))
    }

    /// Classifies the page that a request comes from.
    pub fn page(&self, headers: &HeaderMap) -> PageOrigin {
        let Self::List(allowed) = self else { return PageOrigin::Any };
        let Some(origin) = headers.get(ORIGIN) else { return PageOrigin::Unnamed };
        let listed = |origin: &str| allowed.iter().any(|pattern| origin::matches(pattern, origin));
        if origin.to_str().is_ok_and(listed) { PageOrigin::Of(origin.clone()) } else { PageOrigin::Forbidden }
    }
}

/// The page that a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum PageOrigin {
    /// Any page: all origins are allowed.
    Any,
    /// A page of this origin, which is allowed where others are not.
    Of(HeaderValue),
    /// No `Origin` header, where not all origins are allowed.
    Unnamed,
    /// A page of an origin that is not allowed.
    Forbidden,
    /// The contract does not serve web pages.
    Ignored,
}

impl PageOrigin {
    /// Records that the credential is bound to origins, and that the page's origin is one of them.
    pub fn is_bound(&mut self, headers: &HeaderMap) {
        if *self == Self::Any {
            *self = headers.get(ORIGIN).map_or(Self::Unnamed, |origin| Self::Of(origin.clone()));
        }
    }

    /// Adds the CORS headers that every response carries.
    pub fn decorate(self, headers: &mut HeaderMap) {
        let allowed = match self {
            Self::Any => ANY_ORIGIN.clone(),
            Self::Of(origin) => {
                headers.append(VARY, HeaderValue::from_static("Origin"));
                origin
            }
            Self::Unnamed | Self::Forbidden => {
                headers.append(VARY, HeaderValue::from_static("Origin"));
                return;
            }
            Self::Ignored => return,
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED.clone());
    }
}

/// The response to a preflight request for a path that supports these methods.
pub fn preflight(methods: &str) -> Reply {
    let mut headers =
        vec![(ACCESS_CONTROL_ALLOW_HEADERS, ACCEPTED.clone()), (ACCESS_CONTROL_MAX_AGE, MAX_AGE.clone())];
    headers.extend(HeaderValue::from_str(methods).map(|methods| (ACCESS_CONTROL_ALLOW_METHODS, methods)));
    Reply { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decorated(page: PageOrigin) -> HeaderMap {
        let mut headers = HeaderMap::new();
        page.decorate(&mut headers);
        headers
    }

    fn with_origin(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn a_list_names_whose_pages_may_call() {
        let origins = ["https://*.example.com".to_owned(), "http://localhost:3000".to_owned()];
        let list = Cors::new(&origins).unwrap();
        for origin in ["https://www.example.com", "http://localhost:3000"] {
            let headers = decorated(list.page(&with_origin(origin)));
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], origin);
            assert_eq!(headers[VARY], "Origin");
        }
        for origin in
            ["https://example.com", "http://localhost:3001", "null", "", "https://www.example.com.evil"]
        {
            let page = list.page(&with_origin(origin));
            assert_eq!(page, PageOrigin::Forbidden, "{origin}");
            assert!(!decorated(page).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        }
        assert_eq!(list.page(&HeaderMap::new()), PageOrigin::Unnamed);
        assert_eq!(
            Cors::new(&[]).unwrap().page(&with_origin("https://www.example.com")),
            PageOrigin::Forbidden
        );
    }

    #[test]
    fn without_a_list_all_may_unless_the_credential_is_bound() {
        let any = Cors::new(&["*".to_owned()]).unwrap();
        for headers in [HeaderMap::new(), with_origin("null"), with_origin("https://a.com")] {
            let headers = decorated(any.page(&headers));
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            assert!(!headers.contains_key(VARY));
        }
        let request = with_origin("https://a.com");
        let mut page = any.page(&request);
        page.is_bound(&request);
        assert_eq!(decorated(page)[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.com");
        assert!(Cors::new(&["*".to_owned(), "https://a.com".to_owned()]).is_err());
        assert!(Cors::new(&["a.com".to_owned()]).is_err());
    }
}
