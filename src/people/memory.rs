//! People in memory, for tests that are about something else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;

use crate::model::{Account, Timestamp, TokenHash, UserId};
use crate::store::StoreError;
use crate::store::people::{Link, PeopleStore, Replacement, Session, StoredUser};

/// A [`PeopleStore`] that ends with the test.
#[derive(Default)]
pub(crate) struct MemoryPeople(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    users: HashMap<UserId, StoredUser>,
    sessions: HashMap<TokenHash, (Session, Timestamp)>,
    links: HashMap<TokenHash, Link>,
}

impl Memory {
    fn current(&self, id: &UserId, epoch: u64) -> Option<StoredUser> {
        self.users.get(id).filter(|stored| stored.epoch == epoch && !stored.user.disabled).cloned()
    }

    /// Whether this user, and nobody else, is a fleet admin who may log in.
    fn is_last_admin(&self, id: &UserId) -> bool {
        let mut admins = self.users.values().filter(|stored| is_admin(stored));
        admins.next().is_some_and(|stored| stored.user.id == *id) && admins.next().is_none()
    }
}

impl MemoryPeople {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl PeopleStore for MemoryPeople {
    async fn add_user(&self, user: &StoredUser) -> Result<bool, StoreError> {
        let mut memory = self.memory();
        let taken = memory.users.values().any(|stored| stored.user.account == user.user.account);
        if !taken {
            memory.users.insert(user.user.id, user.clone());
        }
        Ok(!taken)
    }

    async fn user(&self, id: &UserId) -> Result<Option<StoredUser>, StoreError> {
        Ok(self.memory().users.get(id).cloned())
    }

    async fn user_of(&self, account: &Account) -> Result<Option<StoredUser>, StoreError> {
        Ok(self.memory().users.values().find(|stored| stored.user.account == *account).cloned())
    }

    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        let mut users: Vec<_> = self.memory().users.values().cloned().collect();
        users.sort_by(|left, right| left.user.account.cmp(&right.user.account));
        Ok(users)
    }

    async fn replace_user(&self, user: &StoredUser, keep_an_admin: bool) -> Result<Replacement, StoreError> {
        let mut memory = self.memory();
        match memory.users.get(&user.user.id) {
            None => return Ok(Replacement::Unknown),
            Some(old) if old.revision + 1 != user.revision => return Ok(Replacement::Outdated),
            Some(_) if keep_an_admin && !is_admin(user) && memory.is_last_admin(&user.user.id) => {
                return Ok(Replacement::LastAdmin);
            }
            Some(_) => {}
        }
        memory.users.insert(user.user.id, user.clone());
        Ok(Replacement::Done)
    }

    async fn remove_user(&self, id: &UserId, keep_an_admin: bool) -> Result<Replacement, StoreError> {
        let mut memory = self.memory();
        if keep_an_admin && memory.is_last_admin(id) {
            return Ok(Replacement::LastAdmin);
        }
        Ok(memory.users.remove(id).map_or(Replacement::Unknown, |_| Replacement::Done))
    }

    async fn open_session(&self, session: &Session, forget_at: Timestamp) -> Result<(), StoreError> {
        self.memory().sessions.insert(session.hash, (session.clone(), forget_at));
        Ok(())
    }

    async fn session(&self, hash: &TokenHash) -> Result<Option<(Session, StoredUser)>, StoreError> {
        let memory = self.memory();
        let Some((session, _)) = memory.sessions.get(hash) else { return Ok(None) };
        Ok(memory.current(&session.user, session.epoch).map(|user| (session.clone(), user)))
    }

    async fn touch_session(
        &self,
        hash: &TokenHash,
        seen_at: Timestamp,
        forget_at: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some((session, until)) = self.memory().sessions.get_mut(hash) {
            session.seen_at = session.seen_at.max(seen_at);
            *until = (*until).max(forget_at);
        }
        Ok(())
    }

    async fn end_session(&self, hash: &TokenHash) -> Result<(), StoreError> {
        self.memory().sessions.remove(hash);
        Ok(())
    }

    async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut memory = self.memory();
        let before = memory.sessions.len() + memory.links.len();
        memory.sessions.retain(|_, (_, forget_at)| *forget_at > now);
        memory.links.retain(|_, link| link.expires_at > now);
        Ok((before - memory.sessions.len() - memory.links.len()) as u64)
    }

    async fn add_link(&self, link: &Link) -> Result<(), StoreError> {
        self.memory().links.insert(link.hash, link.clone());
        Ok(())
    }

    async fn link(&self, hash: &TokenHash) -> Result<Option<(Link, StoredUser)>, StoreError> {
        let memory = self.memory();
        let Some(link) = memory.links.get(hash) else { return Ok(None) };
        Ok(memory.current(&link.user, link.epoch).map(|user| (link.clone(), user)))
    }

    async fn take_link(&self, hash: &TokenHash) -> Result<bool, StoreError> {
        Ok(self.memory().links.remove(hash).is_some())
    }
}

fn is_admin(stored: &StoredUser) -> bool {
    stored.user.is_fleet_admin() && !stored.user.disabled
}

async fn in_memory() -> (std::sync::Arc<dyn PeopleStore>, ()) {
    (std::sync::Arc::new(MemoryPeople::default()), ())
}
crate::store::people::contract::people_suite!(super::in_memory);
