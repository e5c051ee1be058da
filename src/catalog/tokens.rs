//! Tokens, by their hashes.

use super::{Catalog, CatalogError};
use rusqlite::params;

#[derive(Debug, Clone)]
pub struct Token {
    pub name: String,
    pub hash: [u8; 32],
    /// Rights, separated by blanks.
    pub scopes: String,
}

impl Catalog {
    pub fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        self.read(|db| {
            let mut statement = db.prepare("SELECT name, hash, scopes FROM tokens ORDER BY id")?;
            let token = |row: &rusqlite::Row<'_>| {
                Ok(Token { name: row.get(0)?, hash: row.get(1)?, scopes: row.get(2)? })
            };
            statement.query_map([], token)?.collect()
        })
    }

    pub fn add_token(&self, name: &str, hash: &[u8; 32], scopes: &str) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "INSERT INTO tokens (name, hash, scopes, created_at) VALUES (?1, ?2, ?3, ?4)";
            db.execute(sql, params![name, hash, scopes, now]).map(drop)
        })
    }
}
