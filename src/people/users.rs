//! Adding, changing and removing users.

use std::time::Duration;

use super::{Password, People, PeopleError, within_deadline};
use crate::model::{Account, Role, SecretToken, Team, Timestamp, User, UserId, is_invisible};
use crate::store::people::{Purpose, Replacement, StoredUser};

/// How long a link may wait for whoever sets a password by it.
const SET_PASSWORD_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the demo's link may wait.
const LOG_IN_LIFE: Duration = Duration::from_secs(15 * 60);
const MAX_DISPLAY_NAME: usize = 100;
/// A change is tried so often when others change the same user.
const MAX_TRIES: usize = 5;

/// Who shall be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// What is typed to log in.
    pub account: String,
    /// What others see; the account if nothing is said.
    pub display_name: Option<String>,
    /// What the user may do.
    pub role: Role,
    /// Whose keys the user sees; `None` is for admins.
    pub team: Option<Team>,
    /// Without one, a link has to set it.
    pub password: Option<Password>,
}

/// What shall change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// What others see.
    pub display_name: Option<String>,
    /// What the user may do.
    pub role: Option<Role>,
    /// Whose keys the user sees; `Some(None)` is all, for admins.
    pub team: Option<Option<Team>>,
    /// Whether log-in is refused.
    pub disabled: Option<bool>,
    /// A new password.
    pub password: Option<Password>,
}

/// A user, as lists and pages show one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEntry {
    /// Who it is.
    pub user: User,
    /// Whether there is a password; else only a link lets in.
    pub has_password: bool,
    /// Another one after each change of the user.
    pub revision: u64,
}

impl From<StoredUser> for UserEntry {
    fn from(stored: StoredUser) -> UserEntry {
        UserEntry { has_password: stored.password.is_some(), revision: stored.revision, user: stored.user }
    }
}

/// Each takes a wall: a user of another team is not there for who asks.
impl People {
    /// Adds a user, for somebody behind `wall`; the new user's team is the caller's to choose.
    ///
    /// # Errors
    /// A member is not allowed; the account is taken, or [`PeopleError::AccountUnusable`] if by somebody who is not there
    /// behind `wall`; or the store failed.
    pub async fn add(&self, new: NewUser, wall: Option<&Team>) -> Result<UserEntry, PeopleError> {
        let account: Account = new.account.parse()?;
        let display_name = display_name(new.display_name.as_deref().unwrap_or(&account))?;
        check_team(new.role, new.team.as_ref())?;
        let password = match &new.password {
            Some(password) => {
                password.judge(&account)?;
                Some(self.passwords.hash(password).await?)
            }
            None => None,
        };
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        let user = User {
            id: UserId::new(random),
            account,
            display_name,
            role: new.role,
            team: new.team,
            disabled: false,
            created_at: self.now(),
        };
        let stored = StoredUser { user, password, epoch: 0, revision: 0 };
        if !within_deadline(self.store.add_user(&stored)).await? {
            let taker = within_deadline(self.store.user_of(&stored.user.account)).await?;
            let is_seen = wall.is_none() || taker.is_some_and(|taker| sees(wall, &taker.user));
            return Err(if is_seen { PeopleError::AccountTaken } else { PeopleError::AccountUnusable });
        }
        tracing::info!(user = %stored.user.id, role = %stored.user.role, "user added");
        Ok(stored.into())
    }

    /// Everybody behind `wall`, by account.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self, wall: Option<&Team>) -> Result<Vec<UserEntry>, PeopleError> {
        let users = within_deadline(self.store.users()).await?;
        let seen = users.into_iter().filter(|stored| sees(wall, &stored.user));
        Ok(seen.map(UserEntry::from).collect())
    }

    /// One user.
    ///
    /// # Errors
    /// There is no such user behind `wall`, or the store failed.
    pub async fn get(&self, id: &UserId, wall: Option<&Team>) -> Result<UserEntry, PeopleError> {
        Ok(self.find(id, wall).await?.into())
    }

    /// Changes a user whose revision the caller has `seen`. A new role, team or password, and disabling, end the user's
    /// sessions and links. With `keep_an_admin` the last fleet admin stays one.
    ///
    /// # Errors
    /// [`PeopleError::EditedMeanwhile`]; there is no such user behind `wall`; a member is not allowed; or the store failed.
    pub async fn update(
        &self,
        id: &UserId,
        wall: Option<&Team>,
        seen: impl Fn(u64) -> bool,
        change: UserChange,
        keep_an_admin: bool,
    ) -> Result<UserEntry, PeopleError> {
        let as_seen = |found: StoredUser| {
            let is_seen = seen(found.revision);
            if is_seen { Ok(found) } else { Err(PeopleError::EditedMeanwhile(Box::new(found.into()))) }
        };
        let found = as_seen(self.find(id, wall).await?)?;
        let display_name = change.display_name.as_deref().map(display_name).transpose()?;
        let password = match &change.password {
            Some(password) => {
                password.judge(&found.user.account)?;
                Some(self.passwords.hash(password).await?)
            }
            None => None,
        };
        for _ in 0..MAX_TRIES {
            let before = as_seen(self.find(id, wall).await?)?;
            let mut after = before.clone();
            let user = &mut after.user;
            user.display_name = display_name.clone().unwrap_or_else(|| before.user.display_name.clone());
            user.role = change.role.unwrap_or(before.user.role);
            user.team = change.team.clone().unwrap_or_else(|| before.user.team.clone());
            user.disabled = change.disabled.unwrap_or(before.user.disabled);
            check_team(user.role, user.team.as_ref())?;
            let takes = password.is_some()
                || user.role != before.user.role
                || user.team != before.user.team
                || (user.disabled && !before.user.disabled);
            after.password = password.clone().or(before.password);
            after.epoch += u64::from(takes);
            after.revision += 1;
            match within_deadline(self.store.replace_user(&after, keep_an_admin)).await? {
                Replacement::Done => {
                    tracing::info!(user = %id, ended_sessions = takes, "user changed");
                    return Ok(after.into());
                }
                Replacement::Unknown => return Err(PeopleError::NotFound),
                Replacement::LastAdmin => return Err(PeopleError::LastAdmin),
                Replacement::Outdated => {}
            }
        }
        Err(PeopleError::Outdated)
    }

    /// Removes a user, and ends the user's sessions and links.
    ///
    /// # Errors
    /// There is no such user behind `wall`; it is the last fleet admin and `keep_an_admin`; or the store failed.
    pub async fn remove(
        &self,
        id: &UserId,
        wall: Option<&Team>,
        keep_an_admin: bool,
    ) -> Result<(), PeopleError> {
        self.find(id, wall).await?;
        match within_deadline(self.store.remove_user(id, keep_an_admin)).await? {
            Replacement::Done => {
                tracing::info!(user = %id, "user removed");
                Ok(())
            }
            Replacement::Unknown => Err(PeopleError::NotFound),
            Replacement::LastAdmin => Err(PeopleError::LastAdmin),
            Replacement::Outdated => Err(PeopleError::Outdated),
        }
    }

    /// Makes a link by which a user sets a password, once, within 24 hours; its secret, and when it ends.
    ///
    /// # Errors
    /// There is no such user behind `wall`, or the store failed.
    pub async fn password_link(
        &self,
        id: &UserId,
        wall: Option<&Team>,
    ) -> Result<(SecretToken, Timestamp), PeopleError> {
        let stored = self.find(id, wall).await?;
        if stored.user.disabled {
            return Err(PeopleError::Invalid { field: "disabled", what: "must be false for a link to work" });
        }
        self.make_link(&stored, Purpose::SetPassword, SET_PASSWORD_LIFE).await
    }

    /// Makes a link that logs a user in, once, within 15 minutes; its secret, and when it ends. For the demo.
    ///
    /// # Errors
    /// There is no such user, or the store failed.
    pub async fn log_in_link(&self, id: &UserId) -> Result<(SecretToken, Timestamp), PeopleError> {
        let stored = self.find(id, None).await?;
        self.make_link(&stored, Purpose::LogIn, LOG_IN_LIFE).await
    }

    /// Changes what is kept of a user, trying again if others change it too. `None` if `change` says, of what is there by
    /// then, that it does not apply.
    pub(super) async fn change(
        &self,
        id: &UserId,
        change: impl Fn(&mut StoredUser) -> bool,
    ) -> Result<Option<StoredUser>, PeopleError> {
        for _ in 0..MAX_TRIES {
            let mut stored = self.find(id, None).await?;
            if !change(&mut stored) {
                return Ok(None);
            }
            stored.revision += 1;
            match within_deadline(self.store.replace_user(&stored, false)).await? {
                Replacement::Done => return Ok(Some(stored)),
                Replacement::Unknown => return Err(PeopleError::NotFound),
                Replacement::Outdated | Replacement::LastAdmin => {}
            }
        }
        Err(PeopleError::Outdated)
    }

    async fn find(&self, id: &UserId, wall: Option<&Team>) -> Result<StoredUser, PeopleError> {
        let found = within_deadline(self.store.user(id)).await?;
        found.filter(|stored| sees(wall, &stored.user)).ok_or(PeopleError::NotFound)
    }
}

fn sees(wall: Option<&Team>, user: &User) -> bool {
    wall.is_none_or(|team| user.team.as_ref() == Some(team))
}

fn check_team(role: Role, team: Option<&Team>) -> Result<(), PeopleError> {
    match (role, team) {
        (Role::Viewer | Role::Editor, None) => {
            Err(PeopleError::Invalid { field: "team", what: "is required; only an admin may have none" })
        }
        _ => Ok(()),
    }
}

fn display_name(text: &str) -> Result<String, PeopleError> {
    let name = text.trim();
    if (1..=MAX_DISPLAY_NAME).contains(&name.chars().count()) && !name.chars().any(is_invisible) {
        Ok(name.to_owned())
    } else {
        Err(PeopleError::Invalid { field: "display_name", what: "must be 1 to 100 visible characters" })
    }
}
