//! The statements.

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::ledger;
use crate::model::{CheckSecret, KeyHash, KeyId, KeyRecord, Timestamp};
use crate::store::{Activity, FleetSettings, StoredKey, UsageBatch, fold};

pub(super) const COLUMNS: &str = "hash, id, label, team, environment, display, created_at, expires_at, revoked_at, retires_at, \
    replaced_by, replaces, last_used_at, uses, uses_in_grace, last_refused_at, refusals";

/// How long the id of a batch is remembered. A batch is sent again within seconds, and one that waited through a
/// longer outage finds its id all the same: ids are forgotten only when a later batch is written.
const BATCH_MEMORY_MS: i64 = 3_600_000;

pub(super) fn find(connection: &Connection, hash: &KeyHash) -> rusqlite::Result<Option<KeyRecord>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE hash = ?1"))?;
    let key = statement.query_row([hash.as_bytes()], read_key).optional()?;
    Ok(key.map(|key| key.record))
}

pub(super) fn get(connection: &Connection, id: &KeyId) -> rusqlite::Result<Option<StoredKey>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE id = ?1"))?;
    statement.query_row([id.as_str()], read_key).optional()
}

/// Whether the key is new; one that is there, by hash or by id, is left as it is, and a hash that was revoked before it
/// had a key makes none.
pub(super) fn insert(connection: &Connection, record: &KeyRecord) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO keys (hash, id, label, team, environment, display, created_at, expires_at, revoked_at,
                           retires_at, replaced_by, replaces, label_folded)
         VALUES (:hash, :id, :label, :team, :environment, :display, :created_at, :expires_at, :revoked_at,
                 :retires_at, :replaced_by, :replaces, :label_folded)
         ON CONFLICT DO NOTHING",
    )?;
    let inserted = statement.execute(named_params! {
        ":hash": record.hash.as_bytes(),
        ":id": record.id.as_str(),
        ":label": record.label,
        ":team": record.team,
        ":environment": record.environment.as_str(),
        ":display": record.display,
        ":created_at": record.created_at.as_millis(),
        ":expires_at": record.expires_at.map(Timestamp::as_millis),
        ":revoked_at": record.revoked_at.map(Timestamp::as_millis),
        ":retires_at": record.retires_at.map(Timestamp::as_millis),
        ":replaced_by": record.replaced_by.as_ref().map(KeyId::as_str),
        ":replaces": record.replaces.as_ref().map(KeyId::as_str),
        ":label_folded": fold(&record.label),
    })?;
    Ok(inserted > 0)
}

/// Notes on the key `old` that `new` takes its place.
pub(super) fn retire(
    connection: &Connection,
    old: &KeyId,
    new: &KeyId,
    retires_at: Timestamp,
) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE keys SET retires_at = ?1, replaced_by = ?2 WHERE id = ?3")?;
    statement.execute((retires_at.as_millis(), new.as_str(), old.as_str())).map(drop)
}

/// Whether the key of this hash, or the hash itself if it has none, was not revoked before.
pub(super) fn assert_revoked(
    connection: &Connection,
    hash: &KeyHash,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let mut statement = connection
        .prepare_cached("UPDATE keys SET revoked_at = ?2 WHERE hash = ?1 AND revoked_at IS NULL")?;
    let was_lost = statement.execute((hash.as_bytes(), now.as_millis()))? > 0;
    if was_lost || find(connection, hash)?.is_some() {
        return Ok(was_lost);
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO revoked_hashes (hash, revoked_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    Ok(statement.execute((hash.as_bytes(), now.as_millis()))? > 0)
}

/// Whether it was this call that revoked the key.
pub(super) fn revoke(connection: &Connection, id: &KeyId, now: Timestamp) -> rusqlite::Result<bool> {
    let mut statement = connection
        .prepare_cached("UPDATE keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL")?;
    Ok(statement.execute(named_params! { ":id": id.as_str(), ":now": now.as_millis() })? > 0)
}

pub(super) fn record_uses(
    connection: &Connection,
    batch: &UsageBatch,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut remember = connection
        .prepare_cached("INSERT INTO usage_batches (id, at) VALUES (:id, :at) ON CONFLICT DO NOTHING")?;
    let first_time =
        remember.execute(named_params! { ":id": batch.id.to_be_bytes(), ":at": now.as_millis() })? > 0;
    if !first_time {
        return Ok(());
    }
    let mut forget = connection.prepare_cached("DELETE FROM usage_batches WHERE at < ?1")?;
    forget.execute([now.as_millis().saturating_sub(BATCH_MEMORY_MS)])?;
    ledger::forget_periods(connection, now)?;

    // `max` of a NULL is NULL: what is missing on one side is taken from the other.
    let mut merge = connection.prepare_cached(
        "UPDATE keys SET
             last_used_at = coalesce(max(last_used_at, :last_used_at), last_used_at, :last_used_at),
             uses = uses + :uses,
             uses_in_grace = uses_in_grace + :uses_in_grace,
             last_refused_at = coalesce(max(last_refused_at, :last_refused_at), last_refused_at, :last_refused_at),
             refusals = refusals + :refusals
         WHERE id = :id",
    )?;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for key in &batch.uses {
        ledger::count(connection, key)?;
        let Activity { last_used_at, uses, uses_in_grace, last_refused_at, refusals } = key.activity;
        merge.execute(named_params! {
            ":id": key.id.as_str(),
            ":last_used_at": last_used_at.map(Timestamp::as_millis),
            ":uses": count(uses),
            ":uses_in_grace": count(uses_in_grace),
            ":last_refused_at": last_refused_at.map(Timestamp::as_millis),
            ":refusals": count(refusals),
        })?;
    }
    Ok(())
}

/// How many keys there are, those without a record included.
pub(super) fn entries(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM revoked_hashes)",
        [],
        |row| row.get(0),
    )
}

/// The latest time of day at which anything was written.
pub(super) fn high_water(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let read = connection.query_row("SELECT high_water FROM clock", [], |row| row.get(0)).optional()?;
    Ok(read.map(Timestamp::from_millis))
}

pub(super) fn raise_high_water(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO clock (one, high_water) VALUES (1, ?1)
         ON CONFLICT DO UPDATE SET high_water = max(high_water, excluded.high_water)",
    )?;
    statement.execute([now.as_millis()]).map(drop)
}

pub(super) fn fleet(connection: &Connection) -> rusqlite::Result<Option<FleetSettings>> {
    let mut statement = connection.prepare_cached("SELECT store_id, accept_unchecked_keys FROM fleet")?;
    let settings = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((store_id, accept_unchecked_keys)) = settings else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT secret FROM check_secrets ORDER BY position")?;
    let check_secrets = statement
        .query_map([], |row| row.get(0).map(CheckSecret::from_bytes))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(FleetSettings { store_id, check_secrets, accept_unchecked_keys }))
}

pub(super) fn insert_fleet(connection: &Connection, fleet: &FleetSettings) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO fleet (one, store_id, accept_unchecked_keys) VALUES (1, ?1, ?2)",
        (&fleet.store_id, fleet.accept_unchecked_keys),
    )?;
    for (position, secret) in fleet.check_secrets.iter().enumerate() {
        connection.execute(
            "INSERT INTO check_secrets (position, secret) VALUES (?1, ?2)",
            (position, secret.expose()),
        )?;
    }
    Ok(())
}

pub(super) fn accept_unchecked_keys(connection: &Connection, accept: bool) -> rusqlite::Result<()> {
    connection.execute("UPDATE fleet SET accept_unchecked_keys = ?1", [accept]).map(drop)
}

pub(super) fn read_key(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    let record = KeyRecord {
        hash: KeyHash::from_bytes(row.get("hash")?),
        id: read_text(row, "id")?,
        label: row.get("label")?,
        team: row.get("team")?,
        environment: read_text(row, "environment")?,
        display: row.get("display")?,
        created_at: Timestamp::from_millis(row.get("created_at")?),
        expires_at: read_moment(row, "expires_at")?,
        revoked_at: read_moment(row, "revoked_at")?,
        retires_at: read_moment(row, "retires_at")?,
        replaced_by: read_optional_text(row, "replaced_by")?,
        replaces: read_optional_text(row, "replaces")?,
    };
    let activity = Activity {
        last_used_at: read_moment(row, "last_used_at")?,
        uses: row.get("uses")?,
        uses_in_grace: row.get("uses_in_grace")?,
        last_refused_at: read_moment(row, "last_refused_at")?,
        refusals: row.get("refusals")?,
    };
    Ok(StoredKey { record, activity })
}

fn read_moment(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

pub(super) fn read_text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    read_optional_text(row, column)?
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(0, column.to_owned(), Type::Null))
}

fn read_optional_text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error: T::Err| {
        let cause = Box::new(FromSqlError::Other(Box::new(error)));
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, cause)
    })
}
