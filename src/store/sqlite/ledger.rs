//! The statements for what is noted beside the keys: counts by period, changes, requests that are made once.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::queries;
use crate::model::{KeyId, KeyRecord, Timestamp};
use crate::store::{
    CHANGES_KEPT, Change, ChangeKind, Earlier, Editable, KeyUse, ONCE_MEMORY_S, Once, Period, PeriodCount,
    fold,
};

/// Counts the uses and refusals of one entry of a batch, if there is such a key.
pub(super) fn count(connection: &Connection, used: &KeyUse) -> rusqlite::Result<()> {
    let activity = &used.activity;
    let counted =
        [(activity.last_used_at, activity.uses, 0), (activity.last_refused_at, 0, activity.refusals)];
    let mut add = connection.prepare_cached(
        "INSERT INTO period_counts (key_id, period, number, uses, refusals)
         SELECT :key_id, :period, :number, :uses, :refusals WHERE EXISTS (SELECT 1 FROM keys WHERE id = :key_id)
         ON CONFLICT DO UPDATE SET uses = uses + excluded.uses, refusals = refusals + excluded.refusals",
    )?;
    for (at, uses, refusals) in counted {
        let Some(at) = at.filter(|_| uses + refusals > 0) else { continue };
        for period in Period::ALL {
            add.execute(named_params! {
                ":key_id": used.id.as_str(),
                ":period": name(period),
                ":number": period.number(at),
                ":uses": i64::try_from(uses).unwrap_or(i64::MAX),
                ":refusals": i64::try_from(refusals).unwrap_or(i64::MAX),
            })?;
        }
    }
    Ok(())
}

/// Forgets the periods that are over for long enough.
pub(super) fn forget_periods(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let mut forget =
        connection.prepare_cached("DELETE FROM period_counts WHERE period = ?1 AND number < ?2")?;
    for period in Period::ALL {
        let first = period.last(period.kept(), now).next();
        forget.execute((name(period), first))?;
    }
    Ok(())
}

pub(super) fn counts(
    connection: &Connection,
    id: &KeyId,
    period: Period,
    count: usize,
    now: Timestamp,
) -> rusqlite::Result<Vec<PeriodCount>> {
    let mut read = connection.prepare_cached(
        "SELECT uses, refusals FROM period_counts WHERE key_id = ?1 AND period = ?2 AND number = ?3",
    )?;
    let one = |number| {
        let found = read
            .query_row((id.as_str(), name(period), number), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (uses, refusals) = found.unwrap_or_default();
        Ok(PeriodCount { start: period.start(number), uses, refusals })
    };
    period.last(count, now).map(one).collect()
}

const fn name(period: Period) -> &'static str {
    match period {
        Period::Day => "day",
        Period::Hour => "hour",
    }
}

/// Writes what was edited; the caller has looked that the record may be.
pub(super) fn edit(connection: &Connection, id: &KeyId, after: &Editable) -> rusqlite::Result<()> {
    let mut edit = connection.prepare_cached(
        "UPDATE keys SET label = :label, label_folded = :folded, expires_at = :expires_at WHERE id = :id",
    )?;
    edit.execute(named_params! {
        ":id": id.as_str(),
        ":label": after.label,
        ":folded": fold(&after.label),
        ":expires_at": after.expires_at.map(Timestamp::as_millis),
    })?;
    Ok(())
}

pub(super) fn note_change(
    connection: &Connection,
    id: &KeyId,
    what: &ChangeKind,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let text = serde_json::to_string(what)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection
        .prepare_cached("INSERT INTO key_changes (key_id, at, change) VALUES (?1, ?2, ?3)")?
        .execute((id.as_str(), now.as_millis(), text))?;
    let mut forget = connection.prepare_cached(
        "DELETE FROM key_changes WHERE number IN
             (SELECT number FROM key_changes WHERE key_id = ?1 ORDER BY number DESC LIMIT -1 OFFSET ?2)",
    )?;
    forget.execute((id.as_str(), CHANGES_KEPT as i64)).map(drop)
}

pub(super) fn changes(connection: &Connection, id: &KeyId) -> rusqlite::Result<Vec<Change>> {
    let mut read =
        connection.prepare_cached("SELECT at, change FROM key_changes WHERE key_id = ?1 ORDER BY number")?;
    let changes = read.query_map([id.as_str()], |row| {
        let text: String = row.get(1)?;
        let what = serde_json::from_str(&text)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))?;
        Ok(Change { at: Timestamp::from_millis(row.get(0)?), what })
    })?;
    changes.collect()
}

/// What the request of this name did, unless that is forgotten.
pub(super) fn recall(
    connection: &Connection,
    request: &[u8; 32],
    now: Timestamp,
) -> rusqlite::Result<Option<Earlier>> {
    let mut read = connection
        .prepare_cached("SELECT key_id, fingerprint FROM requests_made_once WHERE name = ?1 AND at > ?2")?;
    let read = read.query_row((request, forgotten(now)), |row| {
        Ok(Earlier { id: queries::read_text(row, "key_id")?, fingerprint: row.get("fingerprint")? })
    });
    read.optional()
}

/// Notes that a request has made `record`, and forgets old ones.
pub(super) fn note_once(
    connection: &Connection,
    once: &Once,
    record: &KeyRecord,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut forget = connection.prepare_cached("DELETE FROM requests_made_once WHERE at <= ?1")?;
    forget.execute([forgotten(now)])?;
    let mut note = connection.prepare_cached(
        "INSERT INTO requests_made_once (name, fingerprint, key_id, at) VALUES (?1, ?2, ?3, ?4)",
    )?;
    note.execute((once.name, once.fingerprint, record.id.as_str(), now.as_millis())).map(drop)
}

fn forgotten(now: Timestamp) -> i64 {
    now.as_millis().saturating_sub(ONCE_MEMORY_S as i64 * 1_000)
}
