//! Keys behind the wall of whoever asks. Handlers get keys in no other way.

use std::sync::Arc;
use std::time::Duration;

use crate::keys::{
    Happening, ImportReport, ImportedKey, InvalidField, KeyEdit, KeyError, KeyService, KeyUsage, Made,
    NewKey, Revision, RevokedKey, RotatedKey,
};
use crate::model::{ApiKey, KeyFormat, KeyId, KeyRecord};
use crate::people::{Role, Team};
use crate::store::{ListQuery, Once, Page, StoreReport, StoredKey};

use super::problem::Problem;
use super::session::Caller;

/// All keys, for those who say for whom.
#[derive(Clone)]
pub struct Keys(Arc<KeyService>);

impl Keys {
    /// The keys of this service.
    pub fn new(keys: Arc<KeyService>) -> Keys {
        Keys(keys)
    }

    /// Those that `caller` may know of.
    pub(super) fn seen_by(&self, caller: &Caller) -> SeenKeys {
        SeenKeys { keys: Arc::clone(&self.0), wall: caller.wall().cloned() }
    }

    /// Those that `caller` may know of and change.
    ///
    /// # Errors
    /// 403 for a viewer.
    pub(super) fn edited_by(&self, caller: &Caller) -> Result<EditedKeys, Problem> {
        caller.may(Role::Editor)?;
        Ok(EditedKeys { seen: self.seen_by(caller) })
    }

    /// All of them, with the store they are in.
    ///
    /// # Errors
    /// 403 for everybody but the machine and fleet admins.
    pub(super) fn of_the_fleet(&self, caller: &Caller) -> Result<FleetKeys, Problem> {
        caller.for_the_fleet()?;
        Ok(FleetKeys(Arc::clone(&self.0)))
    }
}

/// Keys of one team, or of all: a key of another is not there.
#[derive(Clone)]
pub(super) struct SeenKeys {
    keys: Arc<KeyService>,
    wall: Option<Team>,
}

impl SeenKeys {
    /// How keys are spelled here.
    pub(super) fn format(&self) -> &KeyFormat {
        self.keys.format()
    }

    /// As [`KeyService::list`].
    pub(super) async fn list(&self, query: &ListQuery) -> Result<Page, KeyError> {
        let Some(wall) = &self.wall else { return self.keys.list(query).await };
        if query.team.as_deref().is_some_and(|team| team != &**wall) {
            return Ok(Page::default());
        }
        self.keys.list(&ListQuery { team: Some(wall.to_string()), ..query.clone() }).await
    }

    /// As [`KeyService::get`].
    pub(super) async fn get(&self, id: &KeyId) -> Result<StoredKey, KeyError> {
        let key = self.keys.get(id).await?;
        self.check(&key.record.team)?;
        Ok(key)
    }

    /// As [`KeyService::usage`].
    pub(super) async fn usage(&self, id: &KeyId, days: usize) -> Result<KeyUsage, KeyError> {
        self.get(id).await?;
        self.keys.usage(id, days).await
    }

    /// As [`KeyService::history`].
    pub(super) async fn history(&self, id: &KeyId) -> Result<Vec<Happening>, KeyError> {
        self.get(id).await?;
        self.keys.history(id).await
    }

    /// The key that somebody holds, if it is there behind the wall. As much is asked of the store for a key of another team
    /// as for one that does not exist.
    pub(super) async fn find(&self, key: &ApiKey) -> Result<Option<StoredKey>, KeyError> {
        match self.keys.find(key).await? {
            Some(record) if self.check(&record.team).is_ok() => self.keys.get(&record.id).await.map(Some),
            _ => Ok(None),
        }
    }

    fn check(&self, team: &str) -> Result<(), KeyError> {
        match &self.wall {
            Some(wall) if **wall != *team => Err(KeyError::NotFound),
            _ => Ok(()),
        }
    }
}

/// The same, for those who may change them.
#[derive(Clone)]
pub(super) struct EditedKeys {
    seen: SeenKeys,
}

impl EditedKeys {
    /// How keys are spelled here.
    pub(super) fn format(&self) -> &KeyFormat {
        self.seen.format()
    }

    /// As [`KeyService::create_once`]; behind a wall the key is the own team's.
    pub(super) async fn create_once(
        &self,
        new: NewKey,
        once: Option<Once>,
    ) -> Result<Made<(KeyRecord, ApiKey)>, KeyError> {
        let Some(wall) = &self.seen.wall else { return self.seen.keys.create_once(new, once).await };
        if new.team.as_deref().is_some_and(|team| team != &**wall) {
            return Err(InvalidField { field: "team", what: "must be your own" }.into());
        }
        let made = self.seen.keys.create_once(NewKey { team: Some(wall.to_string()), ..new }, once).await?;
        // Whoever sends a request again may have changed teams since.
        if let Made::Before(key) = &made {
            self.seen.check(&key.record.team)?;
        }
        Ok(made)
    }

    /// As [`KeyService::revoke`]. Behind a wall the store must say first whose key it is.
    pub(super) async fn revoke(&self, id: &KeyId) -> Result<RevokedKey, KeyError> {
        self.check(id).await?;
        self.seen.keys.revoke(id).await
    }

    /// As [`KeyService::revoke_key`].
    pub(super) async fn revoke_key(&self, key: &ApiKey) -> Result<RevokedKey, KeyError> {
        if self.seen.wall.is_some() {
            let record = self.seen.keys.find(key).await?.ok_or(KeyError::NotFound)?;
            self.seen.check(&record.team)?;
        }
        self.seen.keys.revoke_key(key).await
    }

    /// Revokes a key that is not there behind the wall, if it is there at all: who holds a key can do worse with it.
    /// Nothing is told of it, and what becomes of it goes on behind the answer, which takes the same time in any case.
    pub(super) fn revoke_unseen(&self, key: ApiKey) {
        let keys = Arc::clone(&self.seen.keys);
        tokio::spawn(async move {
            if let Err(error) = keys.revoke_key(&key).await {
                tracing::debug!(%error, "a key that was reported as leaked was not revoked");
            }
        });
    }

    /// As [`KeyService::rotate_once`].
    pub(super) async fn rotate_once(
        &self,
        id: &KeyId,
        grace: Duration,
        once: Option<Once>,
    ) -> Result<Made<(RotatedKey, ApiKey)>, KeyError> {
        self.check(id).await?;
        self.seen.keys.rotate_once(id, grace, once).await
    }

    /// As [`KeyService::edit`].
    pub(super) async fn edit(
        &self,
        id: &KeyId,
        seen: impl Fn(Revision) -> bool,
        edit: KeyEdit,
    ) -> Result<StoredKey, KeyError> {
        self.check(id).await?;
        self.seen.keys.edit(id, seen, edit).await
    }

    /// Whose key it is never changes: who passes here passes for good.
    async fn check(&self, id: &KeyId) -> Result<(), KeyError> {
        if self.seen.wall.is_some() {
            self.seen.get(id).await?;
        }
        Ok(())
    }
}

/// What concerns all teams.
#[derive(Clone)]
pub(super) struct FleetKeys(Arc<KeyService>);

impl FleetKeys {
    /// As [`KeyService::import`].
    pub(super) async fn import(&self, keys: Vec<ImportedKey>) -> Result<ImportReport, KeyError> {
        self.0.import(keys).await
    }

    /// As [`KeyService::inspect_store`].
    pub(super) async fn inspect_store(&self) -> Result<StoreReport, KeyError> {
        self.0.inspect_store().await
    }

    /// As [`KeyService::accept_store`].
    pub(super) async fn accept_store(&self, found: Option<&str>) -> Result<StoreReport, KeyError> {
        self.0.accept_store(found).await
    }
}
