//! One page of the keys.

use rusqlite::{Connection, ToSql};

use super::queries::{COLUMNS, read_key};
use crate::model::{KeyStatus, Timestamp};
use crate::store::{
    Cursor, EXPIRING_WITHIN, IDLE_AFTER, KeyState, ListQuery, Mark, Page, Place, ROTATION_AFTER, SortBy,
};

const ACTIVE: &str =
    "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now) AND retires_at IS NULL";
const OPENS: &str = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now) \
    AND (retires_at IS NULL OR retires_at > :now)";
/// Before every use. A literal, so that it sorts in SQL as no use does here.
const LAST_USED: &str = "coalesce(last_used_at, -9223372036854775808)";

/// A statement with the values of its parameters.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<(&'static str, Box<dyn ToSql>)>,
}

impl Conditions {
    fn add(&mut self, sql: impl Into<String>) {
        self.sql.push(sql.into());
    }

    fn bind(&mut self, name: &'static str, value: impl ToSql + 'static) {
        self.values.push((name, Box::new(value)));
    }

    /// The condition, and those values that occur in `sql`, which contains it.
    fn values_in(&self, sql: &str) -> Vec<(&str, &dyn ToSql)> {
        self.values
            .iter()
            .filter(|(name, _)| sql.contains(name))
            .map(|(name, value)| (*name, &**value))
            .collect()
    }

    fn all(&self) -> String {
        if self.sql.is_empty() { "TRUE".to_owned() } else { self.sql.join(" AND ") }
    }
}

pub(super) fn list(connection: &Connection, query: &ListQuery) -> rusqlite::Result<Page> {
    let limit = query.limit.max(1);
    let mut conditions = meant(query);
    let total = match query.count {
        true => {
            let sql = format!("SELECT count(*) FROM keys WHERE {}", conditions.all());
            let mut statement = connection.prepare_cached(&sql)?;
            Some(statement.query_row(&conditions.values_in(&sql)[..], |row| row.get(0))?)
        }
        false => None,
    };

    let column = match query.sort.by {
        SortBy::Created => "created_at",
        SortBy::LastUsed => LAST_USED,
        SortBy::Label => "label_folded",
    };
    let (direction, behind) = if query.sort.order.is_descending() { ("DESC", "<") } else { ("ASC", ">") };
    if let Some(Cursor { place, id }) = &query.after {
        conditions.add(format!("({column}, id) {behind} (:place, :id)"));
        conditions.bind(":id", id.as_str().to_owned());
        match place {
            Place::Created(at) => conditions.bind(":place", at.as_millis()),
            Place::LastUsed(at) => conditions.bind(":place", at.map_or(i64::MIN, Timestamp::as_millis)),
            Place::Label(label) => conditions.bind(":place", label.clone()),
        }
    }
    // One more than asked for tells whether there is a next page.
    conditions.bind(":at_most", i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
    let sql = format!(
        "SELECT {COLUMNS} FROM keys WHERE {} ORDER BY {column} {direction}, id {direction} LIMIT :at_most",
        conditions.all()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut keys = statement
        .query_map(&conditions.values_in(&sql)[..], read_key)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| more).map(|last| query.sort.place(last));
    Ok(Page { keys, next, total })
}

/// Which keys are meant, wherever they stand: [`ListQuery::means`] in SQL.
fn meant(query: &ListQuery) -> Conditions {
    let mut conditions = Conditions::default();
    if let Some(team) = &query.team {
        conditions.add("team = :team");
        conditions.bind(":team", team.clone());
    }
    if let Some(environment) = query.environment {
        conditions.add("environment = :environment");
        conditions.bind(":environment", environment.as_str());
    }
    if let Some((state, now)) = query.state {
        conditions.add(match state {
            KeyState::Status(KeyStatus::Revoked) => "revoked_at IS NOT NULL".to_owned(),
            KeyState::Status(KeyStatus::Expired) => {
                "revoked_at IS NULL AND (expires_at <= :now OR retires_at <= :now)".to_owned()
            }
            KeyState::Status(KeyStatus::Rotating) => format!("{OPENS} AND retires_at IS NOT NULL"),
            KeyState::Status(KeyStatus::Active) => ACTIVE.to_owned(),
            KeyState::Mark(Mark::Expiring) => format!("{OPENS} AND (expires_at <= :soon OR retires_at <= :soon)"),
            KeyState::Mark(Mark::Idle) => format!(
                "{ACTIVE} AND created_at <= :idle_since AND (last_used_at IS NULL OR last_used_at <= :idle_since)"
            ),
            KeyState::Mark(Mark::NeverUsed) => format!("{OPENS} AND last_used_at IS NULL"),
            KeyState::Mark(Mark::RotationDue) => format!("{ACTIVE} AND created_at <= :old_since"),
        });
        conditions.bind(":now", now.as_millis());
        conditions.bind(":soon", now.plus(EXPIRING_WITHIN).as_millis());
        let before = |long: std::time::Duration| now.as_millis().saturating_sub(long.as_millis() as i64);
        conditions.bind(":idle_since", before(IDLE_AFTER));
        conditions.bind(":old_since", before(ROTATION_AFTER));
    }
    if let Some(needle) = query.needle() {
        conditions.add(match needle.names {
            true => {
                "(instr(label_folded, :needle) > 0 OR instr(lower(display), :needle) > 0 OR instr(id, :needle) = 1)"
            }
            false => "instr(label_folded, :needle) > 0",
        });
        conditions.bind(":needle", needle.text);
    }
    conditions
}
