//! The store of a fleet: Redis, standalone.
//!
//! `layout` says what stands where, `scripts` what happens in one step and `lua` how, `link` keeps the connection,
//! `identity` knows whose store it is, `list` merges the shards, `ledger` has what is noted beside the keys, `durable` asks what would outlast a crash. Without a
//! connection, and where what answers is not ours, every call fails at once.

mod durable;
mod identity;
mod layout;
mod ledger;
mod link;
mod list;
mod lua;
mod people;
mod scripts;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::streams::StreamRangeReply;
use redis::{Client, RedisResult};

use self::durable::{Durable, not_confirmed};
pub use self::layout::EVENTS_CHANNEL;
use self::layout::RecordFields;
use self::link::{Line, Link};
use self::people::PeopleScripts;
use self::scripts::{Revoked, Rotated, Scripts};
pub use self::settings::{RedisSettings, UnusableRedisUrl};
use super::{
    Change, Creation, Durability, Earlier, Edit, Editable, FleetSettings, KeyStore, ListQuery, Once, Origin,
    Page, Period, PeriodCount, Revocation, Rotation, StoreError, StoreReport, StoredKey, Told, UsageBatch,
};
use crate::model::{
    Event, GatewayId, Head, Heads, KeyHash, KeyId, KeyRecord, LogEntry, Member, Shard, Timestamp,
};

/// A [`KeyStore`] in Redis.
pub struct RedisStore {
    link: Link,
    scripts: Arc<Scripts>,
    people: Arc<PeopleScripts>,
    durable: Arc<Durable>,
}

impl RedisStore {
    /// Starts to connect and returns at once, whether or not Redis is there. Must be called within a tokio runtime: the
    /// connection lives there, and may be used from any other.
    ///
    /// Once connected, it founds the fleet if the store holds nothing at all and no identity is prescribed.
    ///
    /// # Errors
    /// The URL or the certificates cannot be used.
    pub fn connect(settings: RedisSettings) -> Result<RedisStore, UnusableRedisUrl> {
        let client = settings.client()?;
        let durable = Arc::new(Durable::new(&settings));
        Ok(RedisStore {
            link: Link::start(client, settings),
            scripts: Arc::new(Scripts::new()),
            people: Arc::new(PeopleScripts::new()),
            durable,
        })
    }

    /// Whether there is a connection. What answers need not be the fleet's store.
    pub fn ready(&self) -> bool {
        self.link.is_up()
    }

    /// Waits until there is a connection. Cancel-safe.
    pub async fn wait_ready(&self) {
        self.link.wait_until_up().await;
    }

    /// The client, for the feed's own connection to the same Redis.
    pub fn client(&self) -> Client {
        self.link.client().clone()
    }

    /// Where the log of each shard ends, and the store's time of day. One round trip, which also looks at everything that
    /// makes it the fleet's store and fit to be.
    ///
    /// # Errors
    /// [`StoreError::NotOurs`] unless it certainly is.
    pub async fn heads(&self) -> Result<Heads, StoreError> {
        let line = self.link.line()?;
        self.link.identity().survey(&line).await?.heads()
    }

    /// At most `limit` entries of the log of `shard` with numbers above `seq`, in order. The log reaches back some 20,000
    /// entries: the first one need not be `seq + 1`.
    ///
    /// # Errors
    /// Also [`StoreError::Corrupt`] if there is something else in the log.
    pub async fn entries_after(
        &self,
        shard: Shard,
        seq: u64,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let ours = self.ours()?;
        let (entries, store_id): (StreamRangeReply, Option<String>) = redis::pipe()
            .atomic()
            .cmd("XRANGE")
            .arg(layout::log_key(shard))
            .arg(format!("({seq}-0"))
            .arg("+")
            .arg("COUNT")
            .arg(limit)
            .cmd("HGET")
            .arg(layout::head_key(shard))
            .arg(layout::STORE_ID)
            .query_async(&mut ours.line.connection())
            .await
            .or_failed(&ours.line)?;
        ours.check(store_id.as_deref()).await?;
        entries.ids.iter().map(read_entry).collect()
    }

    /// The connection of the moment, if what is behind it is the fleet's store as far as is known.
    fn ours(&self) -> Result<Ours<'_>, StoreError> {
        let line = self.link.line()?;
        Ok(Ours { store: self, line, store_id: self.link.identity().ours()? })
    }
}

#[async_trait]
impl KeyStore for RedisStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        let ours = self.ours()?;
        // That there is no record means "unknown" only in a shard that is ours, so the shard is read after the record: what is not
        // ours becomes ours by an acceptance alone, which leaves records as they are. A transaction would say no more.
        let (fields, store_id): (RecordFields, Option<String>) = redis::pipe()
            .cmd("HMGET")
            .arg(layout::record_key(hash))
            .arg(&layout::RECORD_FIELDS)
            .cmd("HGET")
            .arg(layout::head_key(Shard::of(hash)))
            .arg(layout::STORE_ID)
            .query_async(&mut ours.line.connection())
            .await
            .or_failed(&ours.line)?;
        ours.check(store_id.as_deref()).await?;
        layout::read_record(hash, fields)
    }

    /// By a connection of its own to the same process of Redis, which is used for as long as the first one stands.
    fn nearby(&self) -> Option<Arc<dyn KeyStore>> {
        let RedisStore { link, scripts, people, durable } = self;
        Some(Arc::new(RedisStore {
            link: link.start_beside(),
            scripts: Arc::clone(scripts),
            people: Arc::clone(people),
            durable: Arc::clone(durable),
        }))
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        list::key(&self.ours()?, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        list::page(&self.ours()?, query).await
    }

    async fn create_from(&self, record: &KeyRecord, origin: &Origin) -> Result<Creation, StoreError> {
        in_its_shard(record)?;
        let ours = self.ours()?;
        let script = self.scripts.create(&ours.store_id, record, origin)?;
        let outcome: String = ours.hear(script.invoke_async(&mut ours.line.connection()).await).await?;
        Ok(match outcome.as_str() {
            "created" => Creation::Created,
            "already there" => Creation::AlreadyThere,
            earlier => Creation::Repeated(layout::read_earlier(earlier)?),
        })
    }

    async fn recall(&self, shard: Shard, name: &[u8; 32]) -> Result<Option<Earlier>, StoreError> {
        ledger::recall(&self.ours()?, shard, name).await
    }

    async fn edit(&self, before: &KeyRecord, after: &Editable) -> Result<Option<Edit>, StoreError> {
        ledger::edit(&self.ours()?, before, after).await
    }

    async fn changes(&self, id: &KeyId) -> Result<Vec<Change>, StoreError> {
        ledger::changes(&self.ours()?, id).await
    }

    async fn counts(
        &self,
        id: &KeyId,
        period: Period,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<PeriodCount>, StoreError> {
        ledger::counts(&self.ours()?, id, period, count, now).await
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        let ours = self.ours()?;
        // Two steps are safe: the hash behind an id never changes.
        let Some(hash) = list::read_hash(&ours, id).await? else { return Ok(None) };
        let script = self.scripts.revoke(&ours.store_id, &hash, id)?;
        let (record, newly, head): Revoked =
            ours.hear(script.invoke_async(&mut ours.line.connection()).await).await?;
        let record = layout::read_record(&hash, record)?.ok_or_else(|| lost_record(id))?;
        Ok(Some(Revocation { record, newly, told: Told::Logged(scripts::read_head(head)?) }))
    }

    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, StoreError> {
        let ours = self.ours()?;
        let script = self.scripts.assert_revoked(&ours.store_id, hash)?;
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }

    async fn rotate_once(
        &self,
        old: &KeyId,
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        in_its_shard(new)?;
        if new.id.shard() != old.shard() {
            return Err(StoreError::Corrupt(format!("{}: it is not in the shard of {old}", new.id)));
        }
        let ours = self.ours()?;
        let Some(hash) = list::read_hash(&ours, old).await? else { return Ok(None) };
        let new = KeyRecord { replaces: Some(*old), ..new.clone() };
        let script = self.scripts.rotate(&ours.store_id, (&hash, old), &new, retires_at, once)?;
        let (outcome, record, head): Rotated =
            ours.hear(script.invoke_async(&mut ours.line.connection()).await).await?;
        Ok(Some(match outcome.as_str() {
            "rotated" => Rotation::Rotated {
                old: layout::read_record(&hash, record)?.ok_or_else(|| lost_record(old))?,
                told: Told::Logged(scripts::read_head(head)?),
            },
            "revoked" => Rotation::Revoked,
            "rotated before" => Rotation::RotatedBefore,
            "already there" => Rotation::AlreadyThere,
            "missing" => return Err(lost_record(old)),
            earlier => Rotation::Repeated(layout::read_earlier(earlier)?),
        }))
    }

    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let ours = self.ours()?;
        let script = self.scripts.record_uses(&ours.store_id, batch);
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        let ours = self.ours()?;
        let fields = redis::cmd("HMGET")
            .arg(layout::FLEET_KEY)
            .arg(&[layout::STORE_ID, layout::CHECK_SECRETS, layout::ACCEPT_UNCHECKED_KEYS])
            .query_async(&mut ours.line.connection())
            .await
            .or_failed(&ours.line)?;
        let fleet = layout::read_fleet(fields)?;
        ours.check(fleet.as_ref().map(|fleet| fleet.store_id.as_str())).await?;
        fleet.ok_or_else(|| StoreError::Corrupt("the settings of the fleet: they vanished".to_owned()))
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        let ours = self.ours()?;
        let script = self.scripts.accept_unchecked_keys(&ours.store_id, accept);
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }

    async fn canary(&self, shard: Shard, interval: Duration) -> Result<(), StoreError> {
        let ours = self.ours()?;
        // An expiry of 0 is an error in Redis.
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let script = self.scripts.canary(&ours.store_id, shard, interval_ms)?;
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }

    async fn confirm_durable(&self, shard: Shard, within: Duration) -> Durability {
        let confirm = async {
            let store_id = self.ours()?.store_id;
            self.durable.confirm(&self.link, &self.scripts, &store_id, shard, within).await
        };
        confirm.await.unwrap_or_else(|error| not_confirmed(error.to_string()))
    }

    async fn attend(&self, member: &Member) -> Result<(), StoreError> {
        let ours = self.ours()?;
        let script = self.scripts.attend(&ours.store_id, member)?;
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }

    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError> {
        let ours = self.ours()?;
        let script = self.scripts.leave(&ours.store_id, id, beat);
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }

    async fn holds(&self, shard: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        let ours = self.ours()?;
        let mut pipe = redis::pipe();
        for place in places {
            let id = format!("{}-0", place.seq);
            pipe.cmd("XRANGE").arg(layout::log_key(shard)).arg(&id).arg(&id);
        }
        let found: Vec<StreamRangeReply> =
            pipe.query_async(&mut ours.line.connection()).await.or_failed(&ours.line)?;
        places
            .iter()
            .zip(&found)
            .map(|(place, found)| match found.ids.first() {
                Some(entry) => Ok(read_entry(entry)?.head == *place),
                None => Ok(false),
            })
            .collect()
    }

    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        let ours = self.ours()?;
        let (lines, store_id): (Vec<(String, Vec<u8>)>, Option<String>) = redis::pipe()
            .atomic()
            .cmd("HGETALL")
            .arg(layout::ROLL_KEY)
            .cmd("HGET")
            .arg(layout::FLEET_KEY)
            .arg(layout::STORE_ID)
            .query_async(&mut ours.line.connection())
            .await
            .or_failed(&ours.line)?;
        ours.check(store_id.as_deref()).await?;
        // A line that cannot be read still stands for somebody. One whose id cannot be is none of ours.
        Ok(lines
            .iter()
            .filter_map(|(id, line)| {
                let id = id.parse().ok()?;
                Some(serde_json::from_slice(line).unwrap_or_else(|_| layout::unreadable_member(id)))
            })
            .collect())
    }

    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        self.link.identity().inspect(&*self.link.line()?).await
    }

    async fn accept(&self, found: Option<&str>) -> Result<(), StoreError> {
        self.link.identity().accept(&*self.link.line()?, found).await
    }
}

/// A connection, and the identity that must be found behind it.
struct Ours<'a> {
    store: &'a RedisStore,
    line: Arc<Line>,
    store_id: String,
}

impl Ours<'_> {
    /// Fails unless what was found in the same step, or after what was read, is our identity.
    async fn check(&self, found: Option<&str>) -> Result<(), StoreError> {
        if found == Some(self.store_id.as_str()) { Ok(()) } else { Err(self.not_ours().await) }
    }

    /// What a script answered.
    async fn hear<T>(&self, answer: RedisResult<T>) -> Result<T, StoreError> {
        match answer {
            Err(error) if error.code() == Some(scripts::NOT_OURS) => Err(self.not_ours().await),
            answer => answer.or_failed(&self.line),
        }
    }

    /// Finds out what it is, then.
    async fn not_ours(&self) -> StoreError {
        let survey = async { self.store.link.identity().survey(&*self.store.link.first()?).await };
        match survey.await {
            Ok(survey) => survey.heads().err().unwrap_or_else(|| StoreError::unavailable(JustChanged)),
            Err(error) => error,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the store became the fleet's this very moment")]
struct JustChanged;

fn in_its_shard(record: &KeyRecord) -> Result<(), StoreError> {
    if record.id.shard() == Shard::of(&record.hash) {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("{}: its id and its hash name different shards", record.id)))
}

fn lost_record(id: &KeyId) -> StoreError {
    StoreError::Corrupt(format!("the record of {id}: its id is there and it is not"))
}

fn read_entry(entry: &redis::streams::StreamId) -> Result<LogEntry, StoreError> {
    let read = || {
        let seq = entry.id.strip_suffix("-0")?.parse().ok()?;
        let nonce = |field: &str| entry.get::<String>(field)?.parse().ok();
        let event = Event::decode(&entry.get::<Vec<u8>>("event")?).ok()?;
        Some(LogEntry { head: Head { seq, nonce: nonce("nonce")? }, prev: nonce("prev")?, event })
    };
    read().ok_or_else(|| StoreError::Corrupt(format!("entry {} of a log", entry.id)))
}

/// Turns an error of redis-rs into the store's.
trait Answer<T> {
    fn or_failed(self, line: &Line) -> Result<T, StoreError>;
}

impl<T> Answer<T> for RedisResult<T> {
    fn or_failed(self, line: &Line) -> Result<T, StoreError> {
        self.map_err(|error| line.failed(error))
    }
}
