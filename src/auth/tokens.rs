//! Creates, changes and revokes tokens.

use super::manage::{ManageError, check_description, check_name};
use super::scope::{self, Scope};
use super::snapshot::KnownToken;
use super::words::TokenForm;
use super::{Auth, Caller, CallerId, ScopeClaim, jwt, origin, secret};
use crate::catalog::{NewToken, Token, TokenValue};
use crate::clock::Micros;

const WHAT: &str = "token";
/// The most scopes, and the most origins, of one token.
const LIST_MAX: usize = 256;
/// The most signing tokens: a signature that names no key is checked against each of them.
const SIGNERS_MAX: usize = 8;

/// The properties of a token to create.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    pub name: String,
    pub description: String,
    pub scopes: Vec<Scope>,
    /// Origins of the pages that may use it. `None`: every origin, and programs as well.
    pub origins: Option<Vec<String>>,
    /// Requests per second.
    pub rps: Option<u32>,
    pub project: Option<String>,
    pub expires_at: Option<Micros>,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Presented as is.
    Token,
    /// The same, for contracts that call it an API key.
    ApiKey,
    /// Its owner signs tokens with it, so its value is stored.
    Signing,
}

impl TokenKind {
    /// The name in the catalog.
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ApiKey => "api_key",
            Self::Signing => "signing",
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "api_key" => Self::ApiKey,
            "signing" => Self::Signing,
            _ => Self::Token,
        }
    }
}

/// A token, without its value.
#[derive(Debug, Clone)]
pub struct TokenInfo {
    pub id: String,
    /// The caller that it identifies.
    pub caller: CallerId,
    pub kind: TokenKind,
    pub name: String,
    pub description: String,
    /// The prefix and the last characters of its value.
    pub hint: String,
    pub scopes: Vec<Scope>,
    pub origins: Option<Vec<String>>,
    pub rps: Option<u32>,
    pub project: Option<String>,
    pub expires_at: Option<Micros>,
    pub created_at: Micros,
}

impl Auth {
    /// Returns all tokens, oldest first.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, ManageError> {
        self.catalog.tokens()?.iter().map(info).collect()
    }

    /// Returns a token by its id, name or value.
    pub fn token(&self, id: &str) -> Result<TokenInfo, ManageError> {
        info(&self.find(id)?)
    }

    /// Creates a token and returns its value, which is shown only this once. `form` overrides the format of the value.
    pub fn create_token(
        &self,
        maker: &Caller,
        kind: TokenKind,
        form: Option<&TokenForm>,
        request: &TokenRequest,
    ) -> Result<(TokenInfo, String), ManageError> {
        let _changing = self.changing.lock();
        if kind == TokenKind::Signing && self.snapshot.load().signers.len() >= SIGNERS_MAX {
            return Err(ManageError::Invalid(format!(
                "{SIGNERS_MAX} signing tokens exist, which is the limit; revoke one first"
            )));
        }
        let uuid = uuid::Uuid::now_v7().to_string();
        let value = self.fresh_value(kind, form, &uuid);
        let new = self.new_token(maker, kind, kept(kind, &value), request)?;
        let added = self.catalog.add_token(&uuid, &new)?;
        let added = added.ok_or(ManageError::Taken { what: WHAT, name: new.name })?;
        self.change(|snapshot| snapshot.put_token(&added));
        tracing::info!(token = added.new.name, scopes = added.new.scopes, by = %maker.name, "token created");
        Ok((info(&added)?, value))
    }

    /// Issues a signed token, of which nothing is stored. It is valid until its expiry time, or until the key that
    /// signed it expires. `claims` converts scopes to the form they have in the token.
    pub fn issue_token(
        &self,
        maker: &Caller,
        claims: fn(&[Scope]) -> Vec<ScopeClaim>,
        request: &TokenRequest,
    ) -> Result<String, ManageError> {
        let checked = self.new_token(maker, TokenKind::Token, kept(TokenKind::Token, ""), request)?;
        let Some(expires_at) = request.expires_at else {
            return Err(ManageError::Invalid(
                "a signed token cannot be revoked, so it needs an expiry time".to_owned(),
            ));
        };
        let lasting = request.scopes.iter().find(|scope| matches!(scope, Scope::Admin | Scope::Tokens));
        if let Some(scope) = lasting {
            let message = format!("a signed token cannot be revoked, so it cannot have the scope {scope}");
            return Err(ManageError::Invalid(message));
        }
        let claims = jwt::Claims {
            name: Some(checked.name),
            scopes: claims(&request.scopes),
            limits: request.rps.map(|rps| jwt::TokenLimits { rps: Some(rps) }),
            origins: checked.origins.map(|origins| origins.split(' ').map(str::to_owned).collect()),
            project: checked.project,
            ..jwt::Claims::default()
        };
        self.sign(claims, expires_at)
    }

    /// Replaces the properties of a token; its value stays the same.
    pub fn change_token(
        &self,
        maker: &Caller,
        id: &str,
        request: &TokenRequest,
    ) -> Result<TokenInfo, ManageError> {
        let _changing = self.changing.lock();
        let token = self.own(maker, id)?;
        let new =
            self.new_token(maker, TokenKind::named(&token.new.kind), token.new.value.clone(), request)?;
        if !request.scopes.contains(&Scope::Admin) {
            self.check_not_last_admin(&token)?;
        }
        tracing::info!(token = new.name, scopes = new.scopes, by = %maker.name, "changing a token");
        self.replace(&token, new)
    }

    /// Gives a token a new value, which is shown only this once. The old value becomes invalid.
    pub fn refresh_token(&self, maker: &Caller, id: &str) -> Result<(TokenInfo, String), ManageError> {
        let _changing = self.changing.lock();
        let token = self.own(maker, id)?;
        let form = self.words.token_form(&token.new.value.hint);
        let kind = TokenKind::named(&token.new.kind);
        let value = self.fresh_value(kind, form, &token.uuid);
        let new = NewToken { value: kept(kind, &value), ..token.new.clone() };
        tracing::info!(token = new.name, by = %maker.name, "replacing the value of a token");
        Ok((self.replace(&token, new)?, value))
    }

    /// Revokes a token at once.
    pub fn revoke_token(&self, maker: &Caller, id: &str) -> Result<TokenInfo, ManageError> {
        let _changing = self.changing.lock();
        let token = self.own(maker, id)?;
        self.check_not_last_admin(&token)?;
        self.catalog.delete_token(token.id)?;
        self.change(|snapshot| snapshot.remove_token(&token));
        tracing::info!(token = token.new.name, by = %maker.name, "token revoked");
        info(&token)
    }

    fn find(&self, id: &str) -> Result<Token, ManageError> {
        let found = self.catalog.token(id, &secret::hash(id))?;
        found.ok_or_else(|| ManageError::Missing { what: WHAT, id: id.to_owned() })
    }

    /// Returns a token if `maker` may change it.
    fn own(&self, maker: &Caller, id: &str) -> Result<Token, ManageError> {
        let token = self.find(id)?;
        // Of a scope that cannot be read, nobody knows what it allows: only who may do everything manages the token.
        let scopes = scope::split(&token.new.scopes).unwrap_or_else(|_| vec![Scope::Admin]);
        may_grant(maker, &scopes).map(|()| token)
    }

    fn replace(&self, token: &Token, new: NewToken) -> Result<TokenInfo, ManageError> {
        if !self.catalog.change_token(token.id, &new)? {
            return Err(ManageError::Taken { what: WHAT, name: new.name });
        }
        let changed = Token { new, ..token.clone() };
        self.change(|snapshot| {
            snapshot.remove_token(token);
            snapshot.put_token(&changed);
        });
        info(&changed)
    }

    /// Refuses to remove the last valid admin token, so that administrators cannot lock themselves out.
    fn check_not_last_admin(&self, token: &Token) -> Result<(), ManageError> {
        let snapshot = self.snapshot.load();
        let is_admin = |known: &KnownToken| known.caller.scopes.contains(&Scope::Admin);
        let this = snapshot.tokens.get(&token.new.value.hash).is_some_and(is_admin);
        let good = |known: &&KnownToken| is_admin(known) && self.check_expiry(known.expires_at).is_ok();
        if this && !self.config.open && snapshot.tokens.values().filter(good).count() < 2 {
            return Err(ManageError::LastAdmin);
        }
        Ok(())
    }

    fn fresh_value(&self, kind: TokenKind, form: Option<&TokenForm>, uuid: &str) -> String {
        match (form, kind) {
            (Some(form), _) => secret::make(&(form.begin)(&self.config.instance, uuid)),
            (None, TokenKind::Token) => secret::make(secret::TOKEN_PREFIX),
            (None, TokenKind::ApiKey) => secret::make(secret::API_KEY_PREFIX),
            (None, TokenKind::Signing) => secret::make(secret::SIGNING_PREFIX),
        }
    }

    /// Validates every field of a requested token.
    fn new_token(
        &self,
        maker: &Caller,
        kind: TokenKind,
        value: TokenValue,
        request: &TokenRequest,
    ) -> Result<NewToken, ManageError> {
        let invalid = |message: String| Err(ManageError::Invalid(message));
        check_name(WHAT, &request.name)?;
        check_description(&request.description)?;
        if request.scopes.is_empty() {
            return invalid("a token needs a scope, such as ingest:visits".to_owned());
        }
        let origins = request.origins.as_deref();
        if request.scopes.len() > LIST_MAX || origins.is_some_and(|origins| origins.len() > LIST_MAX) {
            return invalid(format!("a token may have at most {LIST_MAX} scopes, and as many origins"));
        }
        if origins.is_some_and(<[String]>::is_empty) {
            return invalid("the list of origins is empty, so nobody could use the token".to_owned());
        }
        if request.rps == Some(0) {
            return invalid("the rate limit must be at least 1 request per second".to_owned());
        }
        if request.expires_at.is_some_and(|at| at <= self.clock.now()) {
            return invalid("the expiry time of the token is in the past".to_owned());
        }
        may_grant(maker, &request.scopes)?;
        let origins = origins.map(|origins| origins.iter().map(|text| origin::parse(text)).collect());
        let origins: Option<Vec<Box<str>>> = origins.transpose()?;
        if let Some(project) = &request.project {
            check_name("project", project)?;
        }
        Ok(NewToken {
            kind: kind.name().to_owned(),
            name: request.name.clone(),
            description: request.description.clone(),
            value,
            scopes: scope::join(&request.scopes),
            origins: origins.map(|origins| origins.join(" ")),
            rps: request.rps,
            project: request.project.clone(),
            expires_at: request.expires_at,
        })
    }
}

fn may_grant(maker: &Caller, scopes: &[Scope]) -> Result<(), ManageError> {
    match scopes.iter().find(|scope| !maker.may_grant(scope)) {
        Some(scope) => Err(ManageError::NotYours(scope.clone())),
        None => Ok(()),
    }
}

/// What the catalog stores of a value: the value itself only if it is needed to verify signatures.
fn kept(kind: TokenKind, value: &str) -> TokenValue {
    TokenValue {
        hash: secret::hash(value),
        hint: secret::hint(value),
        secret: (kind == TokenKind::Signing).then(|| value.to_owned()),
    }
}

fn info(token: &Token) -> Result<TokenInfo, ManageError> {
    let new = &token.new;
    let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(TokenInfo {
        id: token.uuid.clone(),
        caller: CallerId::token(token.id),
        kind: TokenKind::named(&new.kind),
        name: new.name.clone(),
        description: new.description.clone(),
        hint: new.value.hint.clone(),
        scopes: scope::split(&new.scopes)?,
        origins: new.origins.as_deref().map(words),
        rps: new.rps,
        project: new.project.clone(),
        expires_at: new.expires_at,
        created_at: token.created_at,
    })
}
