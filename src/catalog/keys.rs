//! The keys that the daemon uses to sign tokens.

use super::{Catalog, CatalogError};
use crate::clock::Micros;
use rusqlite::{Row, params};

/// A signing key of the daemon.
#[derive(Clone)]
pub struct SigningKey {
    /// Its id, as given in the tokens.
    pub kid: String,
    /// The only algorithm that may use the key: `HS256`.
    pub algorithm: String,
    pub secret: Vec<u8>,
    pub created_at: Micros,
    /// When its signatures become invalid; `None` for the current key.
    pub retires_at: Option<Micros>,
}

impl Catalog {
    /// All keys, newest first.
    pub fn signing_keys(&self) -> Result<Vec<SigningKey>, CatalogError> {
        self.read(|db| {
            let sql =
                "SELECT kid, algorithm, secret, created_at, retires_at FROM signing_keys ORDER BY id DESC";
            db.prepare(sql)?.query_map([], key_of)?.collect()
        })
    }

    /// Puts a new key into use; the previous ones stay valid until `retires_at` at the latest. Expired keys are
    /// deleted.
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

    /// Deletes a retired key. Returns false if the id is unknown or belongs to the current key.
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
