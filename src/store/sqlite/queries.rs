//! The statements.

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};

use crate::model::{CheckSecret, KeyHash, KeyId, KeyRecord, KeyStatus, Timestamp};
use crate::store::{Cursor, FleetSettings, ListQuery, Page, StoredKey, UsageBatch};

const COLUMNS: &str =
    "hash, id, label, team, environment, display, created_at, expires_at, revoked_at, last_used_at, uses";

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

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page> {
    let limit = query.limit.max(1);
    // One more than asked for tells whether there is a next page.
    let at_most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut conditions = vec!["TRUE"];
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":at_most", &at_most)];

    if let Some(team) = &query.team {
        conditions.push("team = :team");
        values.push((":team", team));
    }
    let environment = query.environment.map(|environment| environment.as_str());
    if environment.is_some() {
        conditions.push("environment = :environment");
        values.push((":environment", &environment));
    }
    let moment = query.status.map(|(_, moment)| moment.as_millis());
    match query.status {
        Some((KeyStatus::Revoked, _)) => conditions.push("revoked_at IS NOT NULL"),
        Some((KeyStatus::Expired, _)) => conditions.push("revoked_at IS NULL AND expires_at <= :moment"),
        Some((KeyStatus::Active, _)) => {
            conditions.push("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :moment)");
        }
        None => {}
    }
    if matches!(query.status, Some((KeyStatus::Active | KeyStatus::Expired, _))) {
        values.push((":moment", &moment));
    }
    let after = query.after.map(|after| (after.created_at.as_millis(), after.id.as_str().to_owned()));
    if let Some((created_at, id)) = &after {
        conditions.push("(created_at, id) < (:created_at, :id)");
        values.push((":created_at", created_at));
        values.push((":id", id));
    }

    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM keys WHERE {} ORDER BY created_at DESC, id DESC LIMIT :at_most",
        conditions.join(" AND ")
    ))?;
    let mut keys = statement.query_map(&values[..], read_key)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys
        .last()
        .filter(|_| more)
        .map(|last| Cursor { created_at: last.record.created_at, id: last.record.id });
    Ok(Page { keys, next })
}

/// Whether the key is new; one that is there, by hash or by id, is left as it is.
pub(super) fn insert(connection: &Connection, record: &KeyRecord) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO keys (hash, id, label, team, environment, display, created_at, expires_at, revoked_at)
         VALUES (:hash, :id, :label, :team, :environment, :display, :created_at, :expires_at, :revoked_at)
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
    })?;
    Ok(inserted > 0)
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

    let mut merge = connection.prepare_cached(
        "UPDATE keys SET last_used_at = max(coalesce(last_used_at, :last_used_at), :last_used_at), uses = uses + :count
         WHERE id = :id",
    )?;
    for key in &batch.uses {
        merge.execute(named_params! {
            ":id": key.id.as_str(),
            ":last_used_at": key.last_used_at.as_millis(),
            ":count": i64::try_from(key.count).unwrap_or(i64::MAX),
        })?;
    }
    Ok(())
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

fn read_key(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    let record = KeyRecord {
        hash: KeyHash::from_bytes(row.get("hash")?),
        id: read_text(row, "id")?,
        label: row.get("label")?,
        team: row.get("team")?,
        environment: read_text(row, "environment")?,
        display: row.get("display")?,
        created_at: Timestamp::from_millis(row.get("created_at")?),
        expires_at: row.get::<_, Option<i64>>("expires_at")?.map(Timestamp::from_millis),
        revoked_at: row.get::<_, Option<i64>>("revoked_at")?.map(Timestamp::from_millis),
    };
    let last_used_at = row.get::<_, Option<i64>>("last_used_at")?.map(Timestamp::from_millis);
    Ok(StoredKey { record, last_used_at, uses: row.get("uses")? })
}

fn read_text<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| {
        let cause = Box::new(FromSqlError::Other(Box::new(error)));
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, cause)
    })
}
