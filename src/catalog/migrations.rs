//! The tables of the catalog, and the migrations from older formats.
//!
//! A released migration never changes; the next one is added below it. `PRAGMA user_version` counts them.

use super::CatalogError;
use rusqlite::Connection;
use std::path::Path;

/// The format that this code writes.
pub(super) const LATEST: u32 = 12;

const MIGRATIONS: [&str; LATEST as usize] = [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12];

/// LSNs are stored as SQLite integers (signed 64 bits, cast); times are microseconds since the epoch.
const V1: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT;

CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    policy TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- All frames of the stream up to here are in registered files.
    checkpoint_lsn INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    rescued INTEGER NOT NULL DEFAULT 0,
    duplicate_keys INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE schemas (
    stream INTEGER NOT NULL REFERENCES streams (id),
    version INTEGER NOT NULL,
    columns TEXT NOT NULL,
    -- The first frame written under this version.
    first_lsn INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (stream, version)
) STRICT;

-- Values that did not fit their column, by column and type: what a wider type would be for.
CREATE TABLE misfits (
    stream INTEGER NOT NULL REFERENCES streams (id),
    column_path TEXT NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    example TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (stream, column_path, kind)
) STRICT;

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    kind TEXT NOT NULL CHECK (kind IN ('rows', 'quarantine')),
    -- Name at the destination.
    object TEXT NOT NULL UNIQUE,
    first_lsn INTEGER NOT NULL,
    last_lsn INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('staged', 'published', 'expired')),
    staged_at INTEGER NOT NULL,
    published_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT
) STRICT;
CREATE INDEX files_by_lsn ON files (last_lsn);
CREATE INDEX files_by_stream ON files (stream, last_lsn);
CREATE INDEX files_by_state ON files (state) WHERE state <> 'published';

-- Frames that the log lost: damage to the medium, or a tail that was never synced.
CREATE TABLE losses (
    first_lsn INTEGER PRIMARY KEY,
    last_lsn INTEGER NOT NULL,
    reason TEXT NOT NULL,
    found_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- SHA-256 of the token; the token itself is shown once and never stored.
    hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
";

/// Documents of the contracts' management APIs.
const V2: &str = "
CREATE TABLE objects (
    dialect TEXT NOT NULL,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (dialect, project, kind, name)
) STRICT;
";

/// Policies, settings and time rules of streams; proposals; streams that were deleted.
const V3: &str = "
ALTER TABLE streams ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
ALTER TABLE streams ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN early INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN ignored_fields INTEGER NOT NULL DEFAULT 0;
-- The name it had; `name` is then one that no stream can have.
ALTER TABLE streams ADD COLUMN deleted_name TEXT;
ALTER TABLE streams ADD COLUMN deleted_at INTEGER;

-- `first_lsn` is not used any more.
ALTER TABLE schemas ADD COLUMN policy TEXT NOT NULL DEFAULT 'evolve';
ALTER TABLE schemas ADD COLUMN time_rule TEXT;

-- Fields without a column in streams that propose.
CREATE TABLE proposals (
    stream INTEGER NOT NULL REFERENCES streams (id),
    -- Keys from the record down, as a JSON array.
    path TEXT NOT NULL,
    type TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    -- Source texts of some values, as a JSON array.
    examples TEXT NOT NULL,
    PRIMARY KEY (stream, path)
) STRICT;
";

/// Tokens that expire, or are bound to origins, projects and rates; OAuth clients; signing keys. Ids are never reused,
/// because limits and log entries refer to them.
const V4: &str = "
ALTER TABLE tokens RENAME TO tokens_v1;

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('token', 'api_key', 'signing')),
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- SHA-256 of the token, which is shown once and not stored.
    hash BLOB NOT NULL UNIQUE,
    -- The end of it, for people.
    hint TEXT NOT NULL,
    -- Of those that sign others, and only of them, the token itself.
    secret TEXT,
    -- Separated by blanks, as are origins.
    scopes TEXT NOT NULL,
    origins TEXT,
    rps INTEGER,
    project TEXT,
    expires_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

INSERT INTO tokens (id, uuid, kind, name, description, hash, hint, scopes, created_at)
    SELECT id, lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
                     || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))),
           'token', name, '', hash, '', scopes, created_at
    FROM tokens_v1;
DROP TABLE tokens_v1;

CREATE TABLE clients (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    secret_hash BLOB NOT NULL,
    -- Separated by blanks, in the words in which they were given.
    roles TEXT NOT NULL,
    project TEXT,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kid TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    secret BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- From when on nothing that it signed is good; null for the one that signs.
    retires_at INTEGER
) STRICT;
";

/// Byte counts, in addition to row counts.
const V5: &str = "
ALTER TABLE streams ADD COLUMN source_bytes INTEGER NOT NULL DEFAULT 0;
";

/// Cuts and their contents, so that they can be rebuilt; and running replays.
const V6: &str = "
CREATE TABLE cuts (
    stream INTEGER NOT NULL REFERENCES streams (id),
    first_lsn INTEGER NOT NULL,
    last_lsn INTEGER NOT NULL,
    -- Receive times of its frames, earliest and latest.
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    -- What it added to the counts of its stream, as JSON. Null: it was registered before this was kept.
    counts TEXT,
    PRIMARY KEY (stream, first_lsn)
) STRICT;
INSERT INTO cuts (stream, first_lsn, last_lsn, first_at, last_at)
    SELECT stream, first_lsn, last_lsn, min(staged_at), max(staged_at) FROM files GROUP BY stream, first_lsn, last_lsn;

CREATE TABLE replays (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    partial INTEGER NOT NULL,
    -- Widened to cuts.
    first_lsn INTEGER NOT NULL,
    last_lsn INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    cuts INTEGER NOT NULL,
    files INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    missing TEXT NOT NULL,
    left_out TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    done_lsn INTEGER NOT NULL DEFAULT 0,
    cuts_done INTEGER NOT NULL DEFAULT 0,
    rows_done INTEGER NOT NULL DEFAULT 0,
    counts_before TEXT NOT NULL DEFAULT '{}',
    counts_after TEXT NOT NULL DEFAULT '{}',
    -- Of the cut it is at, until the register has changed: numbers, counts and version, as JSON.
    swap TEXT,
    error TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER
) STRICT;

-- What is being done at the destination for the one cut that a replay is at.
CREATE TABLE replacements (
    replay INTEGER NOT NULL REFERENCES replays (id),
    position INTEGER NOT NULL,
    object TEXT NOT NULL,
    kind TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('create', 'replace', 'remove')),
    old_bytes INTEGER,
    after_swap INTEGER NOT NULL,
    PRIMARY KEY (replay, position)
) STRICT;
";

/// Mappings and the numbers of their rows; files that are held back.
const V7: &str = "
ALTER TABLE schemas ADD COLUMN mapping TEXT;
ALTER TABLE schemas ADD COLUMN directory TEXT;
-- The number of the last row in a registered file, of a stream whose rows are numbered.
ALTER TABLE streams ADD COLUMN numbered INTEGER NOT NULL DEFAULT 0;
-- The number of its first row; 0: its rows have none.
ALTER TABLE cuts ADD COLUMN first_number INTEGER NOT NULL DEFAULT 0;
-- 1: it holds frames of the stream's receiver that do not name the stream.
ALTER TABLE cuts ADD COLUMN given INTEGER NOT NULL DEFAULT 0;
-- Why it is not to be published until somebody asks for it.
ALTER TABLE files ADD COLUMN held TEXT;
";

/// The location of the rows of streams with numbered rows.
const V8: &str = "
-- Of each partition, the offset behind the last one in a file that was ever registered.
CREATE TABLE partitions (
    stream INTEGER NOT NULL REFERENCES streams (id),
    partition INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    PRIMARY KEY (stream, partition)
) STRICT;

CREATE TABLE file_offsets (
    stream INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    file INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    PRIMARY KEY (stream, partition, last_offset, file)
) STRICT;
CREATE INDEX file_offsets_by_file ON file_offsets (file);

-- The offsets of the file, as JSON.
ALTER TABLE replacements ADD COLUMN offsets TEXT NOT NULL DEFAULT '[]';
";

/// Fields whose proposals were dismissed.
const V9: &str = "
ALTER TABLE proposals ADD COLUMN dismissed INTEGER NOT NULL DEFAULT 0;
";

/// Several secrets per client, one of them in use; and the list of tokens issued to clients.
const V10: &str = "
CREATE TABLE client_secrets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Its id, which stands in the tokens that it stands for.
    sid TEXT NOT NULL UNIQUE,
    client INTEGER NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    -- SHA-256.
    hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- From when on neither it nor its tokens are good; null for the one in use.
    retires_at INTEGER
) STRICT;
INSERT INTO client_secrets (sid, client, hash, created_at)
    SELECT lower(hex(randomblob(16))), id, secret_hash, created_at FROM clients;
ALTER TABLE clients DROP COLUMN secret_hash;

-- What is kept of tokens that were made for clients: not the tokens.
CREATE TABLE client_tokens (
    jti TEXT PRIMARY KEY,
    client INTEGER NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    sid TEXT NOT NULL REFERENCES client_secrets (sid) ON DELETE CASCADE,
    made_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX client_tokens_by_client ON client_tokens (client);
";

/// Streams whose tables are dropped, and when each of their files was removed.
const V11: &str = "
ALTER TABLE streams ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN dropped_at INTEGER;
";

/// Checksums of files, and files that were lost before they were published.
const V12: &str = "
-- CRC-64/NVME of the whole file, cast to signed. Null: it was registered before this was kept.
ALTER TABLE files ADD COLUMN checksum INTEGER;
-- Then its state is 'expired': for readers of rows this is the same.
ALTER TABLE files ADD COLUMN lost_at INTEGER;
ALTER TABLE replacements ADD COLUMN checksum INTEGER;
";

/// An empty catalog as the first version created it.
#[cfg(test)]
pub(super) fn first(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(V1).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection
}

pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), CatalogError> {
    let sqlite = |source| CatalogError::Sqlite { path: path.to_owned(), source };
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if found > LATEST {
        return Err(CatalogError::Newer { path: path.to_owned(), found });
    }
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction().map_err(sqlite)?;
        transaction.execute_batch(sql).map_err(sqlite)?;
        transaction.pragma_update(None, "user_version", version).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
    }
    Ok(())
}
