//! People in SQLite.

use async_trait::async_trait;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use crate::model::{Account, Timestamp, TokenHash, User, UserId};
use crate::store::StoreError;
use crate::store::people::{Link, PasswordHash, PeopleStore, Purpose, Replacement, Session, StoredUser};

const USER: &str = "users.id, account, display_name, role, team, disabled, users.created_at, password, users.epoch, revision";
const USER_COLUMNS: usize = 10;

#[async_trait]
impl PeopleStore for SqliteStore {
    async fn add_user(&self, user: &StoredUser) -> Result<bool, StoreError> {
        let user = user.clone();
        self.write(move |connection| Ok((insert(connection, &user)?, Vec::new()))).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<StoredUser>, StoreError> {
        let id = *id;
        self.read(move |connection| find(connection, &id)).await
    }

    async fn user_of(&self, account: &Account) -> Result<Option<StoredUser>, StoreError> {
        let account = account.to_string();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {USER} FROM users WHERE account = ?1"))?;
            statement.query_row([account], |row| read_user(row, 0)).optional()
        })
        .await
    }

    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {USER} FROM users ORDER BY account"))?;
            statement.query_map([], |row| read_user(row, 0))?.collect()
        })
        .await
    }

    async fn replace_user(&self, user: &StoredUser, keep_an_admin: bool) -> Result<Replacement, StoreError> {
        let new = user.clone();
        let change = move |connection: &Connection| {
            let old = find(connection, &new.user.id)?;
            let refused = match old {
                None => Some(Replacement::Unknown),
                Some(old) if old.revision + 1 != new.revision => Some(Replacement::Outdated),
                Some(old)
                    if keep_an_admin
                        && is_admin(&old)
                        && !is_admin(&new)
                        && !others_administer(connection, &new.user.id)? =>
                {
                    Some(Replacement::LastAdmin)
                }
                Some(_) => None,
            };
            if let Some(refused) = refused {
                return Ok((refused, Vec::new()));
            }
            update(connection, &new)?;
            forget_ended(connection, &new.user.id)?;
            Ok((Replacement::Done, Vec::new()))
        };
        self.write(change).await
    }

    async fn remove_user(&self, id: &UserId, keep_an_admin: bool) -> Result<Replacement, StoreError> {
        let id = *id;
        let change = move |connection: &Connection| {
            let Some(old) = find(connection, &id)? else { return Ok((Replacement::Unknown, Vec::new())) };
            if keep_an_admin && is_admin(&old) && !others_administer(connection, &id)? {
                return Ok((Replacement::LastAdmin, Vec::new()));
            }
            connection.execute("DELETE FROM users WHERE id = ?1", [id.to_string()])?;
            forget_ended(connection, &id)?;
            Ok((Replacement::Done, Vec::new()))
        };
        self.write(change).await
    }

    async fn open_session(&self, session: &Session, forget_at: Timestamp) -> Result<(), StoreError> {
        let session = session.clone();
        self.write(move |connection| {
            connection.prepare_cached("INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(
                params![
                    session.hash.as_bytes(),
                    session.user.to_string(),
                    whole(session.epoch),
                    session.created_at.as_millis(),
                    session.seen_at.as_millis(),
                    forget_at.as_millis(),
                ],
            )?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn session(&self, hash: &TokenHash) -> Result<Option<(Session, StoredUser)>, StoreError> {
        let hash = *hash;
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {USER}, sessions.created_at, seen_at FROM sessions JOIN users ON users.id = sessions.user \
                 WHERE hash = ?1 AND users.epoch = sessions.epoch AND NOT disabled"
            ))?;
            let read = |row: &Row<'_>| {
                let user = read_user(row, 0)?;
                let session = Session {
                    hash,
                    user: user.user.id,
                    epoch: user.epoch,
                    created_at: moment(row, USER_COLUMNS)?,
                    seen_at: moment(row, USER_COLUMNS + 1)?,
                };
                Ok((session, user))
            };
            statement.query_row([hash.as_bytes()], read).optional()
        })
        .await
    }

    async fn touch_session(
        &self,
        hash: &TokenHash,
        seen_at: Timestamp,
        forget_at: Timestamp,
    ) -> Result<(), StoreError> {
        let hash = *hash;
        self.write(move |connection| {
            let change = "UPDATE sessions SET seen_at = max(seen_at, ?2), forget_at = max(forget_at, ?3) WHERE hash = ?1";
            connection.prepare_cached(change)?.execute(params![
                hash.as_bytes(),
                seen_at.as_millis(),
                forget_at.as_millis()
            ])?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn end_session(&self, hash: &TokenHash) -> Result<(), StoreError> {
        let hash = *hash;
        self.write(move |connection| {
            connection.execute("DELETE FROM sessions WHERE hash = ?1", [hash.as_bytes()])?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError> {
        let is_due = "SELECT EXISTS (SELECT 1 FROM sessions WHERE forget_at <= ?1) \
                      OR EXISTS (SELECT 1 FROM links WHERE expires_at <= ?1)";
        // Mostly there is nothing: then the disk is left alone.
        if !self
            .read(move |connection| connection.query_row(is_due, [now.as_millis()], |row| row.get(0)))
            .await?
        {
            return Ok(0);
        }
        self.write(move |connection| {
            let sessions =
                connection.execute("DELETE FROM sessions WHERE forget_at <= ?1", [now.as_millis()])?;
            let links = connection.execute("DELETE FROM links WHERE expires_at <= ?1", [now.as_millis()])?;
            Ok(((sessions + links) as u64, Vec::new()))
        })
        .await
    }

    async fn add_link(&self, link: &Link) -> Result<(), StoreError> {
        let link = link.clone();
        self.write(move |connection| {
            connection.prepare_cached("INSERT INTO links VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
                link.hash.as_bytes(),
                link.user.to_string(),
                whole(link.epoch),
                purpose_name(link.purpose),
                link.expires_at.as_millis(),
            ])?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn link(&self, hash: &TokenHash) -> Result<Option<(Link, StoredUser)>, StoreError> {
        let hash = *hash;
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {USER}, purpose, expires_at FROM links JOIN users ON users.id = links.user \
                 WHERE hash = ?1 AND users.epoch = links.epoch AND NOT disabled"
            ))?;
            let read = |row: &Row<'_>| {
                let user = read_user(row, 0)?;
                let purpose = match row.get_ref(USER_COLUMNS)?.as_str()? {
                    "log_in" => Purpose::LogIn,
                    "set_password" => Purpose::SetPassword,
                    _ => return Err(unreadable(USER_COLUMNS)),
                };
                let expires_at = moment(row, USER_COLUMNS + 1)?;
                Ok((Link { hash, user: user.user.id, epoch: user.epoch, purpose, expires_at }, user))
            };
            statement.query_row([hash.as_bytes()], read).optional()
        })
        .await
    }

    async fn take_link(&self, hash: &TokenHash) -> Result<bool, StoreError> {
        let hash = *hash;
        self.write(move |connection| {
            let taken = connection.execute("DELETE FROM links WHERE hash = ?1", [hash.as_bytes()])?;
            Ok((taken > 0, Vec::new()))
        })
        .await
    }
}

fn find(connection: &Connection, id: &UserId) -> rusqlite::Result<Option<StoredUser>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {USER} FROM users WHERE id = ?1"))?;
    statement.query_row([id.to_string()], |row| read_user(row, 0)).optional()
}

fn insert(connection: &Connection, new: &StoredUser) -> rusqlite::Result<bool> {
    let StoredUser { user, password, epoch, revision } = new;
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO users VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    let inserted = statement.execute(params![
        user.id.to_string(),
        &*user.account,
        user.display_name,
        user.role.as_str(),
        user.team.as_deref(),
        user.disabled,
        user.created_at.as_millis(),
        password.as_ref().map(PasswordHash::expose),
        whole(*epoch),
        whole(*revision),
    ])?;
    Ok(inserted > 0)
}

/// All but the account and the creation, which never change.
fn update(connection: &Connection, new: &StoredUser) -> rusqlite::Result<()> {
    let StoredUser { user, password, epoch, revision } = new;
    let mut statement = connection.prepare_cached(
        "UPDATE users SET display_name = ?2, role = ?3, team = ?4, disabled = ?5, password = ?6, epoch = ?7, \
         revision = ?8 WHERE id = ?1",
    )?;
    statement.execute(params![
        user.id.to_string(),
        user.display_name,
        user.role.as_str(),
        user.team.as_deref(),
        user.disabled,
        password.as_ref().map(PasswordHash::expose),
        whole(*epoch),
        whole(*revision),
    ])?;
    Ok(())
}

/// Deletes the user's sessions and links of earlier epochs; all of them, if there is no such user any more.
fn forget_ended(connection: &Connection, id: &UserId) -> rusqlite::Result<()> {
    let id = id.to_string();
    for table in ["sessions", "links"] {
        let ended = format!(
            "DELETE FROM {table} WHERE user = ?1 AND NOT EXISTS \
             (SELECT 1 FROM users WHERE id = ?1 AND epoch = {table}.epoch AND NOT disabled)"
        );
        connection.execute(&ended, [&id])?;
    }
    Ok(())
}

fn is_admin(user: &StoredUser) -> bool {
    user.user.is_fleet_admin() && !user.user.disabled
}

/// Whether somebody else is a fleet admin who may log in.
fn others_administer(connection: &Connection, id: &UserId) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM users WHERE id <> ?1 AND role = 'admin' AND team IS NULL AND NOT disabled)",
        [id.to_string()],
        |row| row.get(0),
    )
}

fn read_user(row: &Row<'_>, first: usize) -> rusqlite::Result<StoredUser> {
    let account: Account = parsed(row, first + 1)?;
    let team: Option<String> = row.get(first + 4)?;
    let user = User {
        id: parsed(row, first)?,
        account,
        display_name: row.get(first + 2)?,
        role: parsed(row, first + 3)?,
        team: team.map(|team| team.parse()).transpose().map_err(|_| unreadable(first + 4))?,
        disabled: row.get(first + 5)?,
        created_at: moment(row, first + 6)?,
    };
    let password: Option<String> = row.get(first + 7)?;
    Ok(StoredUser {
        user,
        password: password.map(PasswordHash::new),
        epoch: row.get::<_, i64>(first + 8)?.unsigned_abs(),
        revision: row.get::<_, i64>(first + 9)?.unsigned_abs(),
    })
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|_| unreadable(column))
}

fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// Without the value: it may be a secret.
fn unreadable(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(FromSqlError::InvalidType))
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::SetPassword => "set_password",
        Purpose::LogIn => "log_in",
    }
}
