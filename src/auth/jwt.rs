//! Signed tokens (RFC 7519), signed with a key of the daemon's own or with a client's signing token.
//!
//! The key says which algorithm it is for. A token's `alg` must be that one, and is never what a signature is checked
//! by: `none`, another family, or a public key taken for a secret get nowhere.

use super::caller::{Caller, CallerId, Identity};
use super::scope::Scope;
use super::secret;
use super::words::Vocabulary;
use crate::clock::Micros;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The algorithm of every key so far. Nobody but the daemon and the owner of a signing token checks signatures, so a
/// shared secret is enough.
pub const ALGORITHM: Algorithm = Algorithm::HS256;
pub const ALGORITHM_NAME: &str = "HS256";

/// A key that checks signatures.
pub struct Verifier {
    key: DecodingKey,
}

/// The header of a token, as far as it matters.
#[derive(Debug, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    /// Names of extensions that must be understood; none is.
    crit: Option<serde::de::IgnoredAny>,
}

/// What a token claims.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose tokens it is one of.
    pub workspace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The OAuth client it was issued to, whose rights it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The client's secret by which it was made, and with which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The same in the words that whoever looks into a token expects: who made it, for which client of which project,
    /// and for what. Nothing follows from these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When it ends, in seconds since the epoch.
    pub exp: Option<Seconds>,
    /// From when on it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ScopeClaim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Origins of pages that may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// A right in a signed token, as Forebay writes it, or with a type and a resource in a contract's words.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ScopeClaim {
    Text(String),
    Typed {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        /// Rows that may be read; such a scope gives no right here, as the filter would not hold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rps: Option<u32>,
}

/// A time in a token: there a number of seconds, which may have a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "f64")]
pub struct Seconds(pub Micros);

/// A token taken apart, nothing of which is believed yet.
pub struct Unverified<'a> {
    header: Header<'a>,
    /// What is signed: header and claims, as they came.
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// The three parts of a token; the header is decoded into `scratch`.
pub fn parse<'a>(token: &'a str, scratch: &'a mut Vec<u8>) -> Option<Unverified<'a>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    URL_SAFE_NO_PAD.decode_vec(header, scratch).ok()?;
    let header: Header<'a> = serde_json::from_slice(scratch).ok()?;
    if header.crit.is_some() || header.alg != ALGORITHM_NAME || claims.contains('.') {
        return None;
    }
    Some(Unverified { header, message, claims, signature })
}

impl Unverified<'_> {
    /// The key that it says it was signed with.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Whether it was signed with this key. Takes the same time whichever byte of a signature is wrong.
    pub fn is_signed_by(&self, verifier: &Verifier) -> bool {
        crypto::verify(self.signature, self.message.as_bytes(), &verifier.key, ALGORITHM).unwrap_or(false)
    }

    /// What it claims: to be asked for once the signature is good.
    pub fn claims(&self) -> Option<Claims> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.claims).ok()?).ok()
    }
}

impl Claims {
    /// Whom it makes of its bearer: the named one of those whom the signer names, with those of the scopes that are
    /// allowed.
    pub fn caller(&self, signer: &str, words: &Vocabulary, allowed: impl Fn(&Scope) -> bool) -> Caller {
        let name = self.name.as_deref().unwrap_or_default();
        let id = secret::first_number(&secret::hash(&format!("{signer} {name}")));
        Caller::new(Identity {
            id: CallerId::signed(id),
            name: name.into(),
            scopes: self.scopes.iter().flat_map(|claim| claim.scopes(words)).filter(allowed).collect(),
            origins: self.origins.as_ref().map(|origins| origins.iter().map(|o| o.as_str().into()).collect()),
            rps: self.limits.as_ref().and_then(|limits| limits.rps),
            project: self.project.as_deref().map(Box::from),
        })
    }
}

impl Verifier {
    pub fn new(secret: &[u8]) -> Self {
        Self { key: DecodingKey::from_secret(secret) }
    }
}

impl From<f64> for Seconds {
    fn from(seconds: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a time beyond the range is at its end")]
        let micros = (seconds * 1e6) as Micros;
        Self(micros)
    }
}

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.div_euclid(1_000_000))
    }
}

impl ScopeClaim {
    /// Scopes as a signed token of Forebay's own has them.
    pub fn own(scopes: &[Scope]) -> Vec<Self> {
        scopes.iter().map(|scope| Self::Text(scope.to_string())).collect()
    }

    /// What it means; nothing if it is unknown, or for what there is none of here.
    fn scopes(&self, words: &Vocabulary) -> Vec<Scope> {
        match self {
            Self::Text(text) => text.parse().map_or_else(|_| Vec::new(), |scope| vec![scope]),
            Self::Typed { filter: Some(filter), .. } if !filter.is_empty() => Vec::new(),
            Self::Typed { kind, resource, .. } => words.claim(kind, resource.as_deref().unwrap_or("")),
        }
    }
}

/// Signs claims.
pub fn sign(claims: &Claims, kid: &str, secret: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
    let header = jsonwebtoken::Header { kid: Some(kid.to_owned()), ..jsonwebtoken::Header::new(ALGORITHM) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))
}
