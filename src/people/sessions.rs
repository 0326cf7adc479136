//! Logging in and out.

use std::net::IpAddr;
use std::time::Duration;

use super::password::Tried;
use super::{Password, People, PeopleError, within_deadline};
use crate::model::{Account, CsrfToken, SecretToken, Timestamp, User, UserId};
use crate::store::StoreError;
use crate::store::people::{Link, PasswordHash, Purpose, Replacement, Session, StoredUser};

/// A session's use is noted again after so long, or after a thirtieth of the idle limit if that is less: a request
/// writes nothing mostly.
const TOUCH_INTERVAL: Duration = Duration::from_secs(60);

/// Who a browser's session belongs to.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// The user, as of this request.
    pub user: User,
    /// What the session's forms carry.
    pub csrf: CsrfToken,
}

impl People {
    /// Opens a session for whoever knows the password of an account. `source` is where the attempt comes from.
    ///
    /// # Errors
    /// [`PeopleError::WrongCredentials`] says nothing of whether there is such an account, and takes as much work in
    /// either case. [`PeopleError::Throttled`] says nothing of the password, which was not tried. Or it is
    /// [`PeopleError::Busy`], or the store failed.
    pub async fn log_in(
        &self,
        account: &str,
        password: &Password,
        source: IpAddr,
    ) -> Result<(SecretToken, User), PeopleError> {
        let account: Option<Account> = account.parse().ok();
        let found = self.authenticate(account.as_ref(), None, password, source).await?;
        let token = self.open(&found).await?;
        tracing::info!(user = %found.user.id, %source, "logged in");
        Ok((token, found.user))
    }

    /// The session of a token, if it has not ended.
    ///
    /// # Errors
    /// The store failed: whether there is a session is not known.
    pub async fn visit(&self, token: &SecretToken) -> Result<Option<LoggedIn>, StoreError> {
        let hash = token.hash();
        let Some((session, stored)) = within_deadline(self.store.session(&hash)).await? else {
            return Ok(None);
        };
        let now = self.now();
        if now.since(session.seen_at) >= self.limits.idle
            || now.since(session.created_at) >= self.limits.total
        {
            within_deadline(self.store.end_session(&hash)).await?;
            return Ok(None);
        }
        if now.since(session.seen_at) >= TOUCH_INTERVAL.min(self.limits.idle / 30) {
            let forget_at = self.forget_at(session.created_at, now);
            within_deadline(self.store.touch_session(&hash, now, forget_at)).await?;
        }
        Ok(Some(LoggedIn { user: stored.user, csrf: token.csrf() }))
    }

    /// Ends a session, if there is one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn log_out(&self, token: &SecretToken) -> Result<(), PeopleError> {
        Ok(within_deadline(self.store.end_session(&token.hash())).await?)
    }

    /// Ends every session of a user, on every device.
    ///
    /// # Errors
    /// There is no such user, or the store failed.
    pub async fn log_out_everywhere(&self, id: &UserId) -> Result<(), PeopleError> {
        let end_epoch = |stored: &mut StoredUser| {
            stored.epoch += 1;
            true
        };
        self.change(id, end_epoch).await?;
        tracing::info!(user = %id, "logged out everywhere");
        Ok(())
    }

    /// Gives a user who knows the password another one, ends every session, and opens one for whoever asked.
    ///
    /// # Errors
    /// As [`log_in`](Self::log_in); the new one is not allowed; or [`PeopleError::Outdated`], if meanwhile somebody else
    /// gave the user another password, or ended the sessions: nothing was done.
    pub async fn change_password(
        &self,
        id: &UserId,
        current: &Password,
        new: &Password,
        source: IpAddr,
    ) -> Result<SecretToken, PeopleError> {
        let user = within_deadline(self.store.user(id)).await?.ok_or(PeopleError::NotFound)?.user;
        new.judge(&user.account)?;
        let proven = self.authenticate(Some(&user.account), Some(id), current, source).await?;
        let hash = self.passwords.hash(new).await?;
        self.give_password(id, proven.epoch, hash).await?.ok_or(PeopleError::Outdated)
    }

    /// Makes a link that is good for one thing, once.
    pub(super) async fn make_link(
        &self,
        stored: &StoredUser,
        purpose: Purpose,
        life: Duration,
    ) -> Result<(SecretToken, Timestamp), PeopleError> {
        let token = SecretToken::random()?;
        let expires_at = self.now().plus(life);
        let link =
            Link { hash: token.hash(), user: stored.user.id, epoch: stored.epoch, purpose, expires_at };
        within_deadline(self.store.add_link(&link)).await?;
        Ok((token, expires_at))
    }

    /// What a link is good for, and for whom, if it still is. It stays as it is: those who look ahead do not use it up.
    ///
    /// # Errors
    /// [`PeopleError::LinkEnded`], or the store failed.
    pub async fn link(&self, token: &SecretToken) -> Result<(Purpose, User), PeopleError> {
        let found = within_deadline(self.store.link(&token.hash())).await?;
        match found {
            Some((link, stored)) if self.now() < link.expires_at => Ok((link.purpose, stored.user)),
            _ => Err(PeopleError::LinkEnded),
        }
    }

    /// Uses up a link that logs in.
    ///
    /// # Errors
    /// [`PeopleError::LinkEnded`], or the store failed.
    pub async fn log_in_by_link(&self, token: &SecretToken) -> Result<SecretToken, PeopleError> {
        let stored = self.good_link(token, Purpose::LogIn).await?;
        if !within_deadline(self.store.take_link(&token.hash())).await? {
            return Err(PeopleError::LinkEnded);
        }
        tracing::info!(user = %stored.user.id, "logged in by a link");
        self.open(&stored).await
    }

    /// Uses up a link that sets a password, ends every session, and opens one.
    ///
    /// The link ends by the write that sets the password, not before: whoever was refused has it still.
    ///
    /// # Errors
    /// [`PeopleError::LinkEnded`]; [`PeopleError::Busy`] or a password that is not allowed, and the link is still good; or
    /// the store failed.
    pub async fn set_password_by_link(
        &self,
        token: &SecretToken,
        new: &Password,
    ) -> Result<SecretToken, PeopleError> {
        let StoredUser { user, epoch, .. } = self.good_link(token, Purpose::SetPassword).await?;
        new.judge(&user.account)?;
        let hash = self.passwords.hash(new).await?;
        match self.give_password(&user.id, epoch, hash).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) | Err(PeopleError::NotFound) => Err(PeopleError::LinkEnded),
            Err(error) => Err(error),
        }
    }

    /// Forgets sessions and links that have ended; how many.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_expired(&self) -> Result<u64, PeopleError> {
        Ok(within_deadline(self.store.forget_expired(self.now())).await?)
    }

    /// How many passwords were hashed so far, tried ones included.
    pub fn hashings(&self) -> u64 {
        self.passwords.hashings()
    }

    /// Whose link this is, if it is good for `purpose`.
    async fn good_link(&self, token: &SecretToken, purpose: Purpose) -> Result<StoredUser, PeopleError> {
        match within_deadline(self.store.link(&token.hash())).await? {
            Some((link, stored)) if link.purpose == purpose && self.now() < link.expires_at => Ok(stored),
            _ => Err(PeopleError::LinkEnded),
        }
    }

    /// Who has this account and this password; with `id`, only if it is that user's account still.
    async fn authenticate(
        &self,
        account: Option<&Account>,
        id: Option<&UserId>,
        password: &Password,
        source: IpAddr,
    ) -> Result<StoredUser, PeopleError> {
        let attempt =
            self.throttle.begin(account, source, self.clock.now().tick).map_err(PeopleError::Throttled)?;
        let tried = async {
            let found = match account {
                Some(account) => within_deadline(self.store.user_of(account)).await?,
                None => None,
            };
            let found =
                found.filter(|found| id.is_none_or(|id| found.user.id == *id) && !found.user.disabled);
            let hash = found.as_ref().and_then(|found| found.password.as_ref());
            let tried = self.passwords.verify(password, hash).await?;
            Ok::<_, PeopleError>((found, tried))
        };
        match tried.await {
            Ok((Some(found), tried @ (Tried::Right | Tried::RightButOutdated))) => {
                attempt.succeeded();
                if tried == Tried::RightButOutdated {
                    self.rehash(&found, password).await;
                }
                Ok(found)
            }
            Ok(_) => {
                tracing::info!(%source, "a log-in failed");
                Err(PeopleError::WrongCredentials)
            }
            Err(error) => {
                attempt.abandoned();
                Err(error)
            }
        }
    }

    /// Hashes a password anew that was hashed with less than is asked for today. That it fails is no harm.
    async fn rehash(&self, found: &StoredUser, password: &Password) {
        let rehashed = async {
            let hash = self.passwords.hash(password).await?;
            let stored = StoredUser { password: Some(hash), revision: found.revision + 1, ..found.clone() };
            Ok::<_, PeopleError>(within_deadline(self.store.replace_user(&stored, false)).await?)
        };
        match rehashed.await {
            Ok(Replacement::Done) => tracing::info!(user = %found.user.id, "a password was hashed anew"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a password could not be hashed anew"),
        }
    }

    /// Sets a password by what was proven at `epoch`, which ends it with every session and link. `None` if another epoch
    /// has begun since: the proof does not hold any more, and nothing is done.
    async fn give_password(
        &self,
        id: &UserId,
        epoch: u64,
        hash: PasswordHash,
    ) -> Result<Option<SecretToken>, PeopleError> {
        let given = self.change(id, |stored| {
            let is_current = stored.epoch == epoch;
            if is_current {
                stored.password = Some(hash.clone());
                stored.epoch += 1;
            }
            is_current
        });
        let Some(stored) = given.await? else { return Ok(None) };
        tracing::info!(user = %id, "a password was set");
        self.open(&stored).await.map(Some)
    }

    /// A new session, with an id that nobody has seen before.
    async fn open(&self, stored: &StoredUser) -> Result<SecretToken, PeopleError> {
        let token = SecretToken::random()?;
        let now = self.now();
        let session = Session {
            hash: token.hash(),
            user: stored.user.id,
            epoch: stored.epoch,
            created_at: now,
            seen_at: now,
        };
        within_deadline(self.store.open_session(&session, self.forget_at(now, now))).await?;
        Ok(token)
    }

    fn forget_at(&self, created_at: Timestamp, seen_at: Timestamp) -> Timestamp {
        created_at.plus(self.limits.total).min(seen_at.plus(self.limits.idle))
    }
}
