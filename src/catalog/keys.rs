//! The keys with which the daemon signs tokens.

use super::{Catalog, CatalogError};
use crate::clock::Micros;
use rusqlite::{Row, params};

/// A key of the daemon's own.
#[derive(Clone)]
pub struct SigningKey {
    /// Its id, which stands in the tokens.
    pub kid: String,
    /// For what the key is good, and for nothing else; `HS256`.
    pub algorithm: String,
    pub secret: Vec<u8>,
    pub created_at: Micros,
    /// From when on nothing that it signed is good any more; `None` for the one that signs.
    pub retires_at: Option<Micros>,
}

impl Catalog {
    /// All of them, the newest first.
    pub fn signing_keys(&self) -> Result<Vec<SigningKey>, CatalogError> {
        self.read(|db| {
            let sql =
                "SELECT kid, algorithm, secret, created_at, retires_at FROM signing_keys ORDER BY id DESC";
            db.prepare(sql)?.query_map([], key_of)?.collect()
        })
    }

    /// Puts a new key into use; those before it are good until `retires_at` at the latest. Keys that are not good any
    /// more are forgotten.
    pub fn rotate_signing_key(&self, key: &SigningKey, retires_at: Micros) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "UPDATE signing_keys SET retires_at = min(coalesce(retires_at, ?1), ?1)";
            db.execute(sql, [retires_at])?;
            db.execute("DELETE FROM signing_keys WHERE retires_at <= ?1", [now])?;
            let sql = "INSERT INTO signing_keys (kid, algorithm, secret, created_at) VALUES (?1, ?2, ?3, ?4)";
            db.execute(sql, params![key.kid, key.algorithm, key.secret, now]).map(drop)
        })
    }

    /// Forgets a key that does not sign any more. False if there is none of that id, or if it is the one that signs.
    pub fn delete_signing_key(&self, kid: &str) -> Result<bool, CatalogError> {
        let sql = "DELETE FROM signing_keys WHERE kid = ?1 AND retires_at IS NOT NULL";
        self.transaction(|db| Ok(db.execute(sql, [kid])? > 0))
    }
}

fn key_of(row: &Row<'_>) -> rusqlite::Result<SigningKey> {
    Ok(SigningKey {
        kid: row.get(0)?,
        algorithm: row.get(1)?,
        secret: row.get(2)?,
        created_at: row.get(3)?,
        retires_at: row.get(4)?,
    })
}
