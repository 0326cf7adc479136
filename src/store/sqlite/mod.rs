//! The embedded store: one SQLite file, one process.
//!
//! One thread writes, and a change is on the disk before it is told or acknowledged. Reads have connections of
//! their own and never wait for a write. Nothing here blocks a runtime's thread.

mod error;
mod ledger;
mod list;
mod lock;
mod people;
mod queries;
mod readers;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

pub use self::error::SqliteOpenError;
use self::error::store_error;
use self::lock::Lock;
use self::readers::Readers;
use self::writer::{Changed, Writer};
use super::{
    Change, ChangeKind, Creation, Durability, Earlier, Edit, Editable, FleetSettings, KeyStore, ListQuery,
    Mismatch, Once, Origin, Page, Period, PeriodCount, Revocation, Rotation, StoreError, StoreReport,
    StoredKey, Told, UsageBatch,
};
use crate::clock::{Clock, Tick};
use crate::model::{
    Event, EventKind, GatewayId, Head, KeyHash, KeyId, KeyRecord, Member, SHARDS, Shard, Timestamp,
};

/// While nothing is written, the time of day is noted so often.
const NOTE_TIME_INTERVAL: Duration = Duration::from_secs(60);

/// Called for each event when its change is durable and before the change is acknowledged, on the writing thread.
pub type OnCommit = Box<dyn Fn(&Event) + Send + Sync>;

/// A [`KeyStore`] in a file.
pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    // Before the readers, which hold the lock: writing ends first.
    writer: Writer,
    readers: Arc<Readers>,
    high_water: Option<Timestamp>,
    pinned: Option<String>,
    /// An identity is prescribed, and the file has none: it may be the wrong one, or have lost everything.
    nameless: AtomicBool,
    present: Mutex<Present>,
    canaries: Arc<Mutex<[Option<Tick>; SHARDS]>>,
}

/// Who is on the roll. One process has the file, and its roll ends with it.
#[derive(Default)]
struct Present {
    members: HashMap<GatewayId, Member>,
    time_noted: Option<Tick>,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it; its directory must exist. Blocks: for the start of the process.
    ///
    /// `pinned` is the identity that it must have, where one is prescribed; a database that has none yet is opened, and not
    /// used before it is accepted.
    ///
    /// # Errors
    /// Another process has it open, it is no database of keygate's, one of a newer keygate or one with another identity,
    /// or the file cannot be read or written.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        pinned: Option<&str>,
        on_commit: OnCommit,
    ) -> Result<SqliteStore, SqliteOpenError> {
        let path = lock::resolve(path)?;
        let lock = Lock::take(&path)?;
        make_private(&path)?;
        let database = |source| SqliteOpenError::Database { path: path.clone(), source };

        let mut connection = schema::connect_writer(&path).map_err(database)?;
        schema::migrate(&mut connection, &path)?;
        let found = queries::fleet(&connection).map_err(database)?.map(|fleet| fleet.store_id);
        let nameless = match (found, pinned) {
            (Some(found), Some(pinned)) if found != pinned => {
                return Err(SqliteOpenError::Identity { path, found, pinned: pinned.to_owned() });
            }
            (found, pinned) => found.is_none() && pinned.is_some(),
        };
        let high_water = queries::high_water(&connection).map_err(database)?;
        let readers = Readers::open(&path, lock).map_err(database)?;
        let writer = Writer::start(connection, path, Arc::clone(&clock), on_commit)
            .map_err(SqliteOpenError::Thread)?;
        Ok(SqliteStore {
            clock,
            writer,
            readers,
            high_water,
            pinned: pinned.map(str::to_owned),
            nameless: AtomicBool::new(nameless),
            present: Mutex::default(),
            canaries: Arc::default(),
        })
    }

    /// The latest time of day that this file knew of when it was opened: it is not earlier now.
    pub fn high_water(&self) -> Option<Timestamp> {
        self.high_water
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.is_ours().await?;
        self.read_anyway(query).await
    }

    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Changed<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.is_ours().await?;
        self.writer.write(change).await
    }

    async fn read_anyway<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Readers::take(&self.readers).await?;
        let read = tokio::task::spawn_blocking(move || query(reader.connection()?));
        read.await.map_err(StoreError::unavailable)?.map_err(store_error)
    }

    async fn is_ours(&self) -> Result<(), StoreError> {
        if !self.nameless.load(Ordering::Acquire) {
            return Ok(());
        }
        let entries = self.read_anyway(queries::entries).await?;
        Err(StoreError::NotOurs(nameless(entries)))
    }

    /// Writes the settings of a fleet into a file that has none, or reads those that it has.
    async fn found_fleet(&self, new: FleetSettings) -> Result<FleetSettings, StoreError> {
        let change = move |connection: &Connection| match queries::fleet(connection)? {
            Some(fleet) => Ok(((fleet, false), Vec::new())),
            None => {
                queries::insert_fleet(connection, &new)?;
                Ok(((new, true), Vec::new()))
            }
        };
        let (fleet, founded) = self.writer.write(change).await?;
        if founded {
            tracing::info!(store_id = fleet.store_id, "the database was new: a fleet was founded in it");
        }
        Ok(fleet)
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        let hash = *hash;
        self.read(move |connection| queries::find(connection, &hash)).await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        let id = *id;
        self.read(move |connection| queries::get(connection, &id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let query = query.clone();
        self.read(move |connection| list::list(connection, &query)).await
    }

    async fn create_from(&self, record: &KeyRecord, origin: &Origin) -> Result<Creation, StoreError> {
        let (record, origin, clock) = (record.clone(), *origin, Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            let now = clock.now().wall;
            if let Some(earlier) = recall(connection, origin.once(), now)? {
                return Ok((Creation::Repeated(earlier), Vec::new()));
            }
            if !queries::insert(connection, &record)? {
                return Ok((Creation::AlreadyThere, Vec::new()));
            }
            match &origin {
                Origin::Made => {}
                Origin::MadeOnce(once) => ledger::note_once(connection, once, &record, now)?,
                Origin::Imported => ledger::note_change(connection, &record.id, &ChangeKind::Imported, now)?,
            }
            Ok((Creation::Created, vec![event(EventKind::Created, &record, now)]))
        };
        self.write(change).await
    }

    async fn recall(&self, _: Shard, name: &[u8; 32]) -> Result<Option<Earlier>, StoreError> {
        let (name, now) = (*name, self.clock.now().wall);
        self.read(move |connection| ledger::recall(connection, &name, now)).await
    }

    async fn edit(&self, before: &KeyRecord, after: &Editable) -> Result<Option<Edit>, StoreError> {
        let (before, after, clock) = (before.clone(), after.clone(), Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            match queries::get(connection, &before.id)?.map(|key| key.record) {
                None => return Ok((None, Vec::new())),
                Some(record) if record != before || record.revoked_at.is_some() => {
                    return Ok((Some(Edit::Changed(record)), Vec::new()));
                }
                Some(_) => {}
            }
            let now = clock.now().wall;
            ledger::edit(connection, &before.id, &after)?;
            let record = after.clone().put_into(&before);
            let what = ChangeKind::Edited { before: Editable::of(&before), after };
            ledger::note_change(connection, &record.id, &what, now)?;
            let events = vec![event(EventKind::Changed, &record, now)];
            Ok((Some(Edit::Edited { record, told: Told::Everybody }), events))
        };
        self.write(change).await
    }

    async fn changes(&self, id: &KeyId) -> Result<Vec<Change>, StoreError> {
        let id = *id;
        self.read(move |connection| ledger::changes(connection, &id)).await
    }

    async fn counts(
        &self,
        id: &KeyId,
        period: Period,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<PeriodCount>, StoreError> {
        let id = *id;
        self.read(move |connection| ledger::counts(connection, &id, period, count, now)).await
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        let (id, clock) = (*id, Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            let now = clock.now().wall;
            let newly = queries::revoke(connection, &id, now)?;
            let Some(StoredKey { record, .. }) = queries::get(connection, &id)? else {
                return Ok((None, Vec::new()));
            };
            let events = vec![event(EventKind::Revoked, &record, now)];
            Ok((Some(Revocation { record, newly, told: Told::Everybody }), events))
        };
        self.write(change).await
    }

    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, StoreError> {
        let (hash, clock) = (*hash, Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            let now = clock.now().wall;
            let was_lost = queries::assert_revoked(connection, &hash, now)?;
            let id = queries::find(connection, &hash)?.map(|record| record.id);
            let told = Event { kind: EventKind::Revoked, hash, id, at: now };
            Ok((was_lost, was_lost.then_some(told).into_iter().collect()))
        };
        self.write(change).await
    }

    async fn rotate_once(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        let new = KeyRecord { replaces: Some(*old), ..new.clone() };
        let (old, once, clock) = (*old, once.copied(), Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            let refused = |rotation| Ok((Some(rotation), Vec::new()));
            let now = clock.now().wall;
            if let Some(earlier) = recall(connection, once.as_ref(), now)? {
                return refused(Rotation::Repeated(earlier));
            }
            match queries::get(connection, &old)?.map(|key| key.record) {
                None => return Ok((None, Vec::new())),
                Some(old) if old.revoked_at.is_some() => return refused(Rotation::Revoked),
                Some(old) if old.retires_at.is_some() || old.replaced_by.is_some() => {
                    return refused(Rotation::RotatedBefore);
                }
                Some(_) => {}
            }
            if !queries::insert(connection, &new)? {
                return refused(Rotation::AlreadyThere);
            }
            queries::retire(connection, &old, &new.id, retires_at)?;
            let Some(StoredKey { record: old, .. }) = queries::get(connection, &old)? else {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            };
            if let Some(once) = &once {
                ledger::note_once(connection, once, &new, now)?;
            }
            let events = vec![event(EventKind::Created, &new, now), event(EventKind::Changed, &old, now)];
            Ok((Some(Rotation::Rotated { old, told: Told::Everybody }), events))
        };
        self.write(change).await
    }

    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let (batch, clock) = (batch.clone(), Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            queries::record_uses(connection, &batch, clock.now().wall)?;
            Ok(((), Vec::new()))
        };
        self.write(change).await
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        match self.read(queries::fleet).await? {
            Some(fleet) => Ok(fleet),
            None => self.found_fleet(FleetSettings::random()?).await,
        }
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        self.fleet().await?;
        let clock = Arc::clone(&self.clock);
        let change = move |connection: &Connection| {
            queries::accept_unchecked_keys(connection, accept)?;
            Ok(((), vec![Event::of_fleet(clock.now().wall)]))
        };
        self.write(change).await
    }

    async fn canary(&self, shard: Shard, interval: Duration) -> Result<(), StoreError> {
        let (canaries, clock) = (Arc::clone(&self.canaries), Arc::clone(&self.clock));
        let change = move |_: &Connection| {
            let now = clock.now();
            let mut canaries = canaries.lock().unwrap_or_else(PoisonError::into_inner);
            let last = &mut canaries[shard.index()];
            if last.is_some_and(|last| now.tick.since(last) < interval) {
                return Ok(((), Vec::new()));
            }
            *last = Some(now.tick);
            Ok(((), vec![Event::canary(shard, now.wall)]))
        };
        self.write(change).await
    }

    async fn confirm_durable(&self, _: Shard, _: Duration) -> Durability {
        // Whatever was acknowledged was synced before.
        Durability::Durable
    }

    async fn attend(&self, member: &Member) -> Result<(), StoreError> {
        self.is_ours().await?;
        let now = self.clock.now().tick;
        let mut present = self.present();
        present.members.insert(member.id, member.clone());
        let is_due = present.time_noted.is_none_or(|noted| now.since(noted) >= NOTE_TIME_INTERVAL);
        if is_due || member.gone {
            present.time_noted = Some(now);
            // Nobody waits for it: a full disk must not take a gateway off the roll.
            self.writer.note_time();
        }
        Ok(())
    }

    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError> {
        self.is_ours().await?;
        let mut present = self.present();
        if present.members.get(&id).is_some_and(|member| member.beat == beat) {
            present.members.remove(&id);
        }
        Ok(())
    }

    /// There is no log: everybody is told before a change is acknowledged.
    async fn holds(&self, _: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        Ok(vec![false; places.len()])
    }

    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        self.is_ours().await?;
        Ok(self.present().members.values().cloned().collect())
    }

    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        let read = |connection: &Connection| Ok((queries::fleet(connection)?, queries::entries(connection)?));
        let (fleet, entries) = self.read_anyway(read).await?;
        let found = fleet.map(|fleet| fleet.store_id);
        let mismatch = self.nameless.load(Ordering::Acquire).then(|| nameless(entries));
        Ok(StoreReport { ours: self.pinned.clone().or_else(|| found.clone()), found, entries, mismatch })
    }

    async fn accept(&self, found: Option<&str>) -> Result<(), StoreError> {
        if let Err(StoreError::NotOurs(mismatch)) = self.is_ours().await {
            let (None, Some(pinned)) = (found, self.pinned.clone()) else {
                return Err(StoreError::NotOurs(mismatch));
            };
            let new = FleetSettings { store_id: pinned, ..FleetSettings::random()? };
            let fleet = self.found_fleet(new).await?;
            tracing::warn!(store_id = fleet.store_id, "the database was accepted as the fleet's");
            self.nameless.store(false, Ordering::Release);
        }
        Ok(())
    }
}

/// What a request did that is made once, if it is one and came before.
fn recall(connection: &Connection, once: Option<&Once>, now: Timestamp) -> rusqlite::Result<Option<Earlier>> {
    once.map_or(Ok(None), |once| ledger::recall(connection, &once.name, now))
}

fn event(kind: EventKind, record: &KeyRecord, at: Timestamp) -> Event {
    Event { kind, hash: record.hash, id: Some(record.id), at }
}

/// What a file is that has no identity, where one is prescribed.
fn nameless(entries: u64) -> Mismatch {
    if entries == 0 { Mismatch::Empty } else { Mismatch::Nameless }
}

/// The file holds the secrets of the fleet: a new one is for its owner only, and so are SQLite's files beside it,
/// which take its mode. Only under the lock: closing the file would end the locks of another connection to it.
fn make_private(path: &Path) -> Result<(), SqliteOpenError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| SqliteOpenError::File { path: path.to_owned(), source })
}
