//! Signed tokens (RFC 7519), signed with a key of the daemon or with a client's signing token.
//!
//! The key determines the algorithm. A token's `alg` must match it and never selects how a signature is checked, so
//! `none`, an algorithm of another family, or a public key used as a secret are all rejected.

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

/// The algorithm of every key so far. Only the daemon and the owner of a signing token check signatures, so a shared
/// secret is enough.
pub const ALGORITHM: Algorithm = Algorithm::HS256;
pub const ALGORITHM_NAME: &str = "HS256";

/// A key that verifies signatures.
pub struct Verifier {
    key: DecodingKey,
}

/// The header fields of a token that are used here.
#[derive(Debug, Deserialize)]
struct JwtHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    /// Names of extensions that a verifier must support. None is supported.
    crit: Option<serde::de::IgnoredAny>,
}

/// The claims of a token.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The id of the daemon that the token is for.
    pub workspace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The OAuth client that it was issued to, whose scopes it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The client secret that it was issued with. The token expires with that secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The next four repeat this information under the standard names, for people and tools that inspect a token:
    /// issuer, client, project and scope. They have no effect here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The expiry time, in seconds since the epoch.
    pub exp: Option<Seconds>,
    /// The token is valid from this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ScopeClaim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<TokenLimits>,
    /// Origins of pages that may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// A scope in a signed token: as Forebay writes it, or with a type and a resource in a contract's vocabulary.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ScopeClaim {
    Text(String),
    Typed {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        /// Restricts which rows may be read. A scope with a filter grants nothing, since Forebay cannot enforce it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filter: Option<String>,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rps: Option<u32>,
}

/// A time in a token, written as a number of seconds that may have a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "f64")]
pub struct Seconds(pub Micros);

/// A parsed token. Nothing in it is trusted until the signature is verified.
pub struct Unverified<'a> {
    header: JwtHeader<'a>,
    /// The signed part: header and claims, as received.
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// Splits a token into its three parts. The header is decoded into `scratch`.
pub fn parse<'a>(token: &'a str, scratch: &'a mut Vec<u8>) -> Option<Unverified<'a>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    URL_SAFE_NO_PAD.decode_vec(header, scratch).ok()?;
    let header: JwtHeader<'a> = serde_json::from_slice(scratch).ok()?;
    if header.crit.is_some() || header.alg != ALGORITHM_NAME || claims.contains('.') {
        return None;
    }
    Some(Unverified { header, message, claims, signature })
}

impl Unverified<'_> {
    /// The id of the key that the token claims to be signed with.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Verifies the signature with this key, in a time that does not depend on which byte is wrong.
    pub fn is_signed_by(&self, verifier: &Verifier) -> bool {
        // What cannot be verified is refused like a wrong signature.
        crypto::verify(self.signature, self.message.as_bytes(), &verifier.key, ALGORITHM).unwrap_or(false)
    }

    /// Decodes the claims. Call this only after the signature was verified.
    pub fn claims(&self) -> Option<Claims> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.claims).ok()?).ok()
    }
}

impl Claims {
    /// Returns the caller that these claims describe. Its id follows from the signer and the name in the token; of the
    /// scopes, only those that `allowed` accepts are kept.
    pub fn caller(&self, signer: &str, words: &Vocabulary, allowed: impl Fn(&Scope) -> bool) -> Caller {
        let name = self.name.as_deref().unwrap_or("");
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
    /// Scopes as Forebay writes them into its own signed tokens.
    pub fn own(scopes: &[Scope]) -> Vec<Self> {
        scopes.iter().map(|scope| Self::Text(scope.to_string())).collect()
    }

    /// The scopes that this claim grants: none if it is unknown or has no equivalent here.
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
