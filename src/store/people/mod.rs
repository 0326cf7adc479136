//! Where people, their sessions and their links are kept: the contract that both stores fulfil.

#[cfg(test)]
pub(crate) mod contract;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::StoreError;
use crate::model::{Account, Timestamp, TokenHash, User, UserId};

/// The contract of a store of people.
///
/// Each operation is one atomic step. One that returned `Err` may or may not have happened.
#[async_trait]
pub trait PeopleStore: Send + Sync + 'static {
    /// Writes a new user; false if the account, or the id, is there already.
    async fn add_user(&self, user: &StoredUser) -> Result<bool, StoreError>;

    /// The user of an id.
    async fn user(&self, id: &UserId) -> Result<Option<StoredUser>, StoreError>;

    /// The user of an account.
    async fn user_of(&self, account: &Account) -> Result<Option<StoredUser>, StoreError>;

    /// Everybody, by account.
    async fn users(&self) -> Result<Vec<StoredUser>, StoreError>;

    /// Writes `user` in place of the one with its id, if that one has the revision before; the account stays. With
    /// `keep_an_admin` not if no fleet admin who may log in would be left.
    async fn replace_user(&self, user: &StoredUser, keep_an_admin: bool) -> Result<Replacement, StoreError>;

    /// Removes a user with every session and link. With `keep_an_admin` as [`replace_user`](Self::replace_user).
    async fn remove_user(&self, id: &UserId, keep_an_admin: bool) -> Result<Replacement, StoreError>;

    /// Writes a session, which replaces none. The store may forget it at `forget_at`.
    async fn open_session(&self, session: &Session, forget_at: Timestamp) -> Result<(), StoreError>;

    /// A session and its user, in one step; `None` if there is no such session, or its user is disabled, was removed, or
    /// has begun another epoch since. Whether it has ended by its age is the caller's to judge.
    async fn session(&self, hash: &TokenHash) -> Result<Option<(Session, StoredUser)>, StoreError>;

    /// Notes that a session was used; nothing happens if it is not there any more.
    async fn touch_session(
        &self,
        hash: &TokenHash,
        seen_at: Timestamp,
        forget_at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Ends a session, if it is there.
    async fn end_session(&self, hash: &TokenHash) -> Result<(), StoreError>;

    /// Forgets sessions and links whose time to be forgotten has come; how many.
    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Writes a link. The store may forget it at its end.
    async fn add_link(&self, link: &Link) -> Result<(), StoreError>;

    /// A link that can still be taken, with its user, as [`session`](Self::session).
    async fn link(&self, hash: &TokenHash) -> Result<Option<(Link, StoredUser)>, StoreError>;

    /// Takes a link away; of all who try, one is told true.
    async fn take_link(&self, hash: &TokenHash) -> Result<bool, StoreError>;
}

/// A user with what only the store and the log-in know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUser {
    /// Who it is.
    #[serde(flatten)]
    pub user: User,
    /// What the password must hash to; without one, only a link lets in.
    pub password: Option<PasswordHash>,
    /// Sessions and links of an earlier epoch have ended. A new password, role or team begins a new one.
    pub epoch: u64,
    /// One more with each change.
    pub revision: u64,
}

/// A password as argon2 writes it (PHC string). Does not print: whoever has it can guess at leisure.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The hash that this PHC string is.
    pub fn new(phc: String) -> PasswordHash {
        PasswordHash(phc)
    }

    /// The PHC string.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

impl Drop for PasswordHash {
    fn drop(&mut self) {
        drop(Zeroizing::new(std::mem::take(&mut self.0)));
    }
}

/// A browser that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Of the id that the browser's cookie holds.
    pub hash: TokenHash,
    /// Whose.
    pub user: UserId,
    /// The user's when it was opened.
    pub epoch: u64,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, about.
    pub seen_at: Timestamp,
}

/// A link that works once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Of the secret in the link.
    pub hash: TokenHash,
    /// Whose.
    pub user: UserId,
    /// The user's when it was made.
    pub epoch: u64,
    /// What it is good for.
    pub purpose: Purpose,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What a link is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To set a password.
    SetPassword,
    /// To log in.
    LogIn,
}

/// What became of a change to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It was made.
    Done,
    /// There is no such user.
    Unknown,
    /// Somebody else has changed the user since; nothing was done.
    Outdated,
    /// It would leave no fleet admin; nothing was done.
    LastAdmin,
}
