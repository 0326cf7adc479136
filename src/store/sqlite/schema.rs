//! The tables, their versions, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::SqliteOpenError;
use crate::store::fold;

/// One step a version: `MIGRATIONS[n]` makes version n + 1 of version n. Steps that were released never change.
pub(super) const MIGRATIONS: [&str; 4] = [VERSION_1, VERSION_2, VERSION_3, PEOPLE];

const VERSION_1: &str = "
CREATE TABLE keys (
    hash         BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    id           TEXT    NOT NULL UNIQUE,
    label        TEXT    NOT NULL,
    team         TEXT    NOT NULL,
    environment  TEXT    NOT NULL CHECK (environment IN ('live', 'sandbox')),
    display      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    uses         INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX keys_in_order ON keys (created_at DESC, id DESC);
CREATE INDEX keys_of_team ON keys (team, created_at DESC, id DESC);

CREATE TRIGGER a_revocation_stands BEFORE UPDATE OF revoked_at ON keys
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
BEGIN SELECT RAISE(ABORT, 'a revocation is irreversible'); END;

CREATE TRIGGER a_key_keeps_its_name BEFORE UPDATE OF hash, id ON keys
BEGIN SELECT RAISE(ABORT, 'hash and id of a key never change'); END;

CREATE TABLE usage_batches (
    id BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_batches_by_age ON usage_batches (at);

CREATE TABLE fleet (
    one                   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    store_id              TEXT    NOT NULL,
    accept_unchecked_keys INTEGER NOT NULL
) STRICT;

CREATE TABLE check_secrets (
    position INTEGER NOT NULL PRIMARY KEY,
    secret   BLOB    NOT NULL CHECK (length(secret) = 32)
) STRICT;
";

const VERSION_2: &str = "
ALTER TABLE keys ADD COLUMN retires_at      INTEGER;
ALTER TABLE keys ADD COLUMN replaced_by     TEXT;
ALTER TABLE keys ADD COLUMN replaces        TEXT;
ALTER TABLE keys ADD COLUMN uses_in_grace   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN last_refused_at INTEGER;
ALTER TABLE keys ADD COLUMN refusals        INTEGER NOT NULL DEFAULT 0;

CREATE TABLE revoked_hashes (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER a_revoked_hash_makes_no_key BEFORE INSERT ON keys
WHEN EXISTS (SELECT 1 FROM revoked_hashes WHERE hash = NEW.hash)
BEGIN SELECT RAISE(IGNORE); END;

CREATE TABLE clock (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    high_water INTEGER NOT NULL
) STRICT;
";

/// `label_folded` is the label as [`fold`] makes it: what is searched and sorted by, and filled by [`fold_labels`].
const VERSION_3: &str = "
ALTER TABLE keys ADD COLUMN label_folded TEXT NOT NULL DEFAULT '';
CREATE INDEX keys_of_team_by_label ON keys (team, label_folded, id);

CREATE TABLE period_counts (
    key_id   TEXT    NOT NULL,
    period   TEXT    NOT NULL CHECK (period IN ('day', 'hour')),
    number   INTEGER NOT NULL,
    uses     INTEGER NOT NULL,
    refusals INTEGER NOT NULL,
    PRIMARY KEY (key_id, period, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX period_counts_by_age ON period_counts (period, number);

CREATE TABLE key_changes (
    number INTEGER NOT NULL PRIMARY KEY,
    key_id TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    change TEXT    NOT NULL
) STRICT;
CREATE INDEX key_changes_of_key ON key_changes (key_id, number);

CREATE TABLE requests_made_once (
    name        BLOB    NOT NULL PRIMARY KEY CHECK (length(name) = 32),
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    key_id      TEXT    NOT NULL,
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_made_once_by_age ON requests_made_once (at);
";

/// People, the sessions of their browsers, and links that work once.
const PEOPLE: &str = "
CREATE TABLE users (
    id           TEXT    NOT NULL PRIMARY KEY,
    account      TEXT    NOT NULL UNIQUE,
    display_name TEXT    NOT NULL,
    role         TEXT    NOT NULL CHECK (role IN ('viewer', 'editor', 'admin')),
    team         TEXT    CHECK (team IS NOT NULL OR role = 'admin'),
    disabled     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    password     TEXT,
    epoch        INTEGER NOT NULL,
    revision     INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    forget_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user);
CREATE INDEX sessions_by_end ON sessions (forget_at);

CREATE TABLE links (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    purpose    TEXT    NOT NULL CHECK (purpose IN ('set_password', 'log_in')),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX links_of_user ON links (user);
CREATE INDEX links_by_end ON links (expires_at);
";

/// Connections of this process wait so long for each other; only checkpoints and the opening make them.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Brings the tables to the version that this keygate knows, in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), SqliteOpenError> {
    let database = |source| SqliteOpenError::Database { path: path.to_owned(), source };
    let transaction = connection.transaction().map_err(database)?;
    let found: i64 =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(database)?;
    let steps = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)).ok_or_else(|| {
        SqliteOpenError::UnknownVersion { path: path.to_owned(), found, known: MIGRATIONS.len() }
    })?;
    if found == 0 {
        let tables: i64 = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(database)?;
        if tables > 0 {
            return Err(SqliteOpenError::Foreign { path: path.to_owned() });
        }
    }
    for step in steps {
        transaction.execute_batch(step).map_err(database)?;
    }
    if steps.contains(&VERSION_3) {
        fold_labels(&transaction).map_err(database)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(database)?;
    transaction.commit().map_err(database)
}

/// Gives the keys of an older version what their labels are found by.
fn fold_labels(connection: &Connection) -> rusqlite::Result<()> {
    let mut read = connection.prepare("SELECT id, label FROM keys")?;
    let mut write = connection.prepare("UPDATE keys SET label_folded = ?2 WHERE id = ?1")?;
    let mut labels = read.query([])?;
    while let Some(row) = labels.next()? {
        let (id, label): (String, String) = (row.get(0)?, row.get(1)?);
        write.execute((id, fold(&label)))?;
    }
    Ok(())
}

/// A connection for the writer: what it commits is on the disk.
pub(super) fn connect_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// A connection that can only read.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}
