//! Tokens, by their hashes. Kinds, scopes and origins are plain texts here; `auth` gives them their meaning.

use super::{Catalog, CatalogError};
use crate::clock::Micros;
use rusqlite::{OptionalExtension, Row, params};

/// A token to create.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub kind: String,
    pub name: String,
    pub description: String,
    pub value: TokenValue,
    /// Scopes, separated by blanks.
    pub scopes: String,
    /// Allowed origins of web pages, separated by blanks; `None`: any origin, and non-browser clients.
    pub origins: Option<String>,
    /// Requests per second.
    pub rps: Option<u32>,
    pub project: Option<String>,
    pub expires_at: Option<Micros>,
}

/// The stored part of a token's value.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenValue {
    /// SHA-256.
    pub hash: [u8; 32],
    /// Its last characters, which help users to distinguish tokens.
    pub hint: String,
    /// The whole value, for tokens that sign.
    pub secret: Option<String>,
}

impl std::fmt::Debug for TokenValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenValue").field("hint", &self.hint).finish_non_exhaustive()
    }
}

/// A stored token.
#[derive(Debug, Clone)]
pub struct Token {
    pub id: i64,
    /// Its user-visible id.
    pub uuid: String,
    pub created_at: Micros,
    pub new: NewToken,
}

const COLUMNS: &str = "id, uuid, kind, name, description, hash, hint, secret, scopes, origins, rps, project, \
                       expires_at, created_at";

impl Catalog {
    /// All tokens, oldest first.
    pub fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        self.read(|db| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM tokens ORDER BY id"))?;
            statement.query_map([], token_of)?.collect()
        })
    }

    /// Finds a token by its user-visible id, or else by its name or the hash of its value.
    pub fn token(&self, uuid_or_name: &str, hash: &[u8; 32]) -> Result<Option<Token>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM tokens WHERE uuid = ?1 OR name = ?1 OR hash = ?2 ORDER BY uuid <> ?1"
            );
            db.query_row(&sql, params![uuid_or_name, hash], token_of).optional()
        })
    }

    /// Creates a token. `None` if the name is taken.
    pub fn add_token(&self, uuid: &str, token: &NewToken) -> Result<Option<Token>, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "INSERT INTO tokens (uuid, kind, name, description, hash, hint, secret, scopes, origins, rps,
                           project, expires_at, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (name) DO NOTHING";
            let TokenValue { hash, hint, secret } = &token.value;
            let NewToken { kind, name, description, scopes, origins, rps, project, expires_at, .. } = token;
            let added = db.execute(
                sql,
                params![
                    uuid, kind, name, description, hash, hint, secret, scopes, origins, rps, project,
                    expires_at, now
                ],
            )?;
            let (id, uuid) = (db.last_insert_rowid(), uuid.to_owned());
            Ok((added > 0).then(|| Token { id, uuid, created_at: now, new: token.clone() }))
        })
    }

    /// Replaces everything in a token except its ids and its creation time. Returns false if its new name is taken.
    pub fn change_token(&self, id: i64, token: &NewToken) -> Result<bool, CatalogError> {
        self.transaction(|db| {
            let sql =
                "UPDATE OR IGNORE tokens SET kind = ?2, name = ?3, description = ?4, hash = ?5, hint = ?6,
                           secret = ?7, scopes = ?8, origins = ?9, rps = ?10, project = ?11, expires_at = ?12
                       WHERE id = ?1";
            let TokenValue { hash, hint, secret } = &token.value;
            let NewToken { kind, name, description, scopes, origins, rps, project, expires_at, .. } = token;
            let changed = db.execute(
                sql,
                params![
                    id,
                    kind,
                    name,
                    description,
                    hash,
                    hint,
                    secret,
                    scopes,
                    origins,
                    rps,
                    project,
                    expires_at
                ],
            )?;
            Ok(changed > 0)
        })
    }

    pub fn delete_token(&self, id: i64) -> Result<(), CatalogError> {
        self.transaction(|db| db.execute("DELETE FROM tokens WHERE id = ?1", [id]).map(drop))
    }
}

fn token_of(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get("id")?,
        uuid: row.get("uuid")?,
        created_at: row.get("created_at")?,
        new: NewToken {
            kind: row.get("kind")?,
            name: row.get("name")?,
            description: row.get("description")?,
            value: TokenValue { hash: row.get("hash")?, hint: row.get("hint")?, secret: row.get("secret")? },
            scopes: row.get("scopes")?,
            origins: row.get("origins")?,
            rps: row.get("rps")?,
            project: row.get("project")?,
            expires_at: row.get("expires_at")?,
        },
    })
}
