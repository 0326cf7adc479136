//! Is this key good? The cache, else the store, else a denial.
//!
//! [`Verifier::verify`] is asked once for each request. On a hit it is one SHA-256, one look in the cache and the
//! freshness rule; on a miss it is one round trip to the store, shared by all who wait for the same key.

pub mod board;
pub mod cache;
pub mod freshness;
pub mod memory;
pub mod near;
pub mod policy;
pub mod sync;

mod budget;
mod fleet;
mod flight;
mod loader;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Moment, Tick};
use crate::events::FeedSink;
use crate::model::{ApiKey, Denial, Environment, Event, EventKind, Gap, KeyHash, KeyId, Shard, Timestamp};
use crate::observe::Metrics;
use crate::observe::metrics::{Lookup, Refresh, Source, SteppedClock};
use crate::store::{KeyStore, StoreError};

use budget::Budget;
use cache::{CachedRecord, Capacity, RecordCache};
use fleet::Fleet;
use flight::Flights;
use freshness::Limits;
use loader::{Brought, Loader};
use memory::{Answer, Memory, Recalled, Reliance, Settled};
use near::{Held, NearCache};
use policy::PermitFor;

/// How often a load whose answer is outdated on arrival is repeated before the gateway gives up with 503.
const RELOADS: usize = 2;
/// Without a proof for so long, the feed of a shard is in doubt, and its keys are looked up again as they are used.
const DOUBT: Duration = Duration::from_secs(3);
/// A key in use is looked up again ahead of time at most once in so long.
const REVALIDATION_INTERVAL: Duration = Duration::from_secs(1);
/// How many revocations of a shard are remembered here, whatever the store says: many more than its log has entries, so that
/// what is forgotten here is no longer in the log either.
const DEATHS_KEPT: usize = 100_000;
/// And how long at least.
const DEATHS_KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);

/// What the verifier is made of.
pub struct VerifierSettings {
    /// Memory.
    pub capacity: Capacity,
    /// How long knowledge may go unproven.
    pub max_staleness: Duration,
    /// Look-ups per second of keys without a check.
    pub unchecked_per_second: u32,
    /// Look-ups at once of keys without a check.
    pub unchecked_at_once: usize,
}

/// Verifies keys. One for the whole process; shared by all workers.
pub struct Verifier {
    memory: Arc<Memory<RecordCache>>,
    flights: Flights<Brought>,
    loader: Loader,
    unchecked: Budget,
    fleet: Fleet,
    /// When this gateway was last known to stand on the roll of its fleet, in nanoseconds of a [`Tick`]; 0 is never.
    attended: AtomicU64,
    on_roll: watch::Sender<bool>,
    /// Whether the store's time of day was last seen to have been set.
    store_clock_stepped: AtomicBool,
    ttl: Duration,
    max_staleness: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What one worker has for itself.
pub struct Near {
    /// The keys that it has in use.
    cache: NearCache,
    /// Its way to the store.
    loader: Loader,
}

/// A key that is in the store, with a record that may be used now. Whether it opens anything is for
/// [`policy`] to say.
#[derive(Clone, Debug)]
pub struct Verified {
    hash: KeyHash,
    spelled: Environment,
    entry: Held,
    at: Moment,
}

/// Why a key opens nothing, and whose it is where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .denial.code())]
pub struct Refused {
    /// Why.
    pub denial: Denial,
    /// The key's public name.
    pub key_id: Option<KeyId>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Refused {
        Refused { denial, key_id: None }
    }
}

/// What a record that may be used needs besides.
enum Attention {
    None,
    Refresh,
    Revalidate,
}

/// How a key is spelled: what decides whether the store is worth asking.
#[derive(Clone, Copy)]
struct Spelling {
    environment: Environment,
    /// Whether the key carries its own check, so that keygate must have made it.
    checked: bool,
}

impl Verifier {
    /// A verifier that knows nothing yet. A load runs on the runtime of the request that causes it.
    pub fn new(
        store: Arc<dyn KeyStore>,
        settings: &VerifierSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Verifier {
        let limits = |ttl| Limits { ttl, max_staleness: settings.max_staleness };
        let capacity = settings.capacity;
        let reliance = Reliance { known: limits(capacity.ttl), unknown: limits(capacity.unknown_ttl) };
        let memory = Arc::new(Memory::new(RecordCache::new(capacity), reliance));
        let loader = Loader::new(store, Arc::clone(&memory), Arc::clone(&clock), Arc::clone(&metrics));
        Verifier {
            memory,
            flights: Flights::new(),
            unchecked: Budget::new(settings.unchecked_per_second, settings.unchecked_at_once),
            fleet: Fleet::new(loader.clone(), Arc::clone(&clock)),
            loader,
            attended: AtomicU64::new(0),
            on_roll: watch::Sender::new(false),
            store_clock_stepped: AtomicBool::new(false),
            ttl: capacity.ttl,
            max_staleness: settings.max_staleness,
            clock,
            metrics,
        }
    }

    /// What a worker has for itself. Must be called on its runtime.
    pub fn near(&self) -> Near {
        Near { cache: NearCache::default(), loader: self.loader.nearby() }
    }

    /// Verifies a key, for a worker that has `near` for itself. The request starts here: what was applied before is honoured.
    /// What is remembered is looked at before this returns, and only what is rare is left to wait for.
    ///
    /// # Errors
    /// [`Denial::KeyUnknown`] only if the store certainly has no such key; [`Denial::VerificationUnavailable`] if
    /// nobody could say; [`Denial::Overloaded`] if there was no room to ask.
    pub fn verify<'a>(
        &'a self,
        key: &'a ApiKey,
        near: &'a Near,
        now: Moment,
    ) -> impl Future<Output = Result<Verified, Refused>> + use<'a> {
        self.verify_by(&near.loader, key, &near.cache, now)
    }

    fn verify_by<'a>(
        &'a self,
        loader: &'a Loader,
        key: &'a ApiKey,
        near: &NearCache,
        now: Moment,
    ) -> impl Future<Output = Result<Verified, Refused>> + use<'a> {
        let hash = key.hash();
        self.decide(loader, key, hash, near.recall(&self.memory, &hash, now.tick), now)
    }

    /// Goes on from what is remembered of a key.
    async fn decide(
        &self,
        loader: &Loader,
        key: &ApiKey,
        hash: KeyHash,
        recalled: Recalled<Held>,
        now: Moment,
    ) -> Result<Verified, Refused> {
        let looked = match recalled {
            Recalled::Usable(entry) => {
                self.metrics.looked_up(Lookup::Hit);
                let at = self.clock.now();
                self.metrics.verified(Source::Cache, at.tick.since(now.tick));
                let verified = Verified { hash, spelled: key.environment(), entry, at };
                return match self.attention(&verified, now.tick) {
                    Attention::None => Ok(verified),
                    Attention::Refresh => {
                        self.refresh(loader, hash);
                        Ok(verified)
                    }
                    Attention::Revalidate => Box::pin(self.revalidate(loader, verified)).await,
                };
            }
            Recalled::Stale => Lookup::Stale,
            Recalled::Nothing => Lookup::Miss,
        };
        let spelling = Spelling {
            environment: key.environment(),
            // What was remembered was in the store: asking again is not a guess.
            checked: looked == Lookup::Stale || self.fleet.made(key),
        };
        // Boxed, as everything that is rare: a future is moved about with room for all that it might become.
        Box::pin(self.look_up(loader, hash, spelling, looked)).await
    }

    /// Judges a permit once more, for a request that had to wait before its head could be written.
    ///
    /// # Errors
    /// As [`Verifier::verify`] and [`policy::permit`].
    pub async fn confirm<E>(&self, permit: &PermitFor<E>) -> Result<(), Refused> {
        let Verified { hash, spelled, entry, .. } = permit.verified();
        let fresh = if self.memory.is_usable(hash, entry, self.clock.now().tick) {
            Verified { at: self.clock.now(), ..permit.verified().clone() }
        } else {
            self.look_up_again(&self.loader, *hash, *spelled).await?
        };
        policy::permit(fresh, permit.facts()).map(drop)
    }

    /// Asks the store for what the fleet shares; to be called at the start and each second.
    ///
    /// # Errors
    /// The store does not answer; what was known before stays known.
    pub async fn refresh_fleet(&self) -> Result<(), StoreError> {
        self.fleet.refresh().await
    }

    /// Waits until this gateway stands on the roll for the first time: only then a proof is worth anything.
    pub async fn until_attended(&self) {
        // The sender lives as long as this verifier.
        drop(self.on_roll.subscribe().wait_for(|&on_roll| on_roll).await);
    }

    /// Whether every shard was proved to be current at least once.
    pub fn is_synced(&self) -> bool {
        self.memory.oldest_proof() > Tick::from_nanos(0)
    }

    /// Tells the metrics what only looks from outside can see.
    pub fn report(&self) {
        self.metrics.cache_holds(self.memory.cache().entries());
        let now = self.clock.now().tick;
        self.metrics.currency_age(now.since(self.memory.oldest_proof()));
        self.metrics.roll_line_is(now.since(Tick::from_nanos(self.attended.load(Ordering::SeqCst))));
    }

    /// Frees the memory of revocations that are old, and that the store is seen to hold. To be called now and then.
    pub async fn forget_old_deaths(&self) {
        for shard in Shard::all() {
            let now = self.clock.now().tick;
            let mut deaths = self.memory.deaths(shard);
            deaths.sort_unstable_by_key(|(_, death)| std::cmp::Reverse(death.at));
            let beyond = deaths.into_iter().skip(DEATHS_KEPT);
            for (hash, _) in beyond.filter(|(_, death)| now.since(death.at) > DEATHS_KEPT_FOR) {
                if self.loader.holds_revocation(&hash).await {
                    self.memory.forget_death(&hash);
                }
            }
        }
    }

    /// What a record that may be used needs besides: a refresh at half of its time to live, so that it can outlast an outage
    /// as long, and each second a revalidation while the feed is in doubt.
    #[inline]
    fn attention(&self, Verified { hash, entry, .. }: &Verified, now: Tick) -> Attention {
        let age = now.since(entry.loaded.started);
        if age >= REVALIDATION_INTERVAL && self.memory.doubt(hash, now) > DOUBT {
            let due = now.since(entry.record.looked_at()) >= REVALIDATION_INTERVAL;
            if due { Attention::Revalidate } else { Attention::None }
        } else if age >= self.refresh_age(hash) && entry.record.claim_refresh(now, REVALIDATION_INTERVAL) {
            Attention::Refresh
        } else {
            Attention::None
        }
    }

    /// Half of the time to live and up to a tenth of it less: what was loaded together need not be refreshed together.
    fn refresh_age(&self, hash: &KeyHash) -> Duration {
        self.ttl / 2 - self.ttl / 10 / 256 * u32::from(hash.as_bytes()[16])
    }

    /// Has a record looked up again before it has to be. Nobody waits for the answer.
    #[cold]
    fn refresh(&self, loader: &Loader, hash: KeyHash) {
        if !self.may_look_up(self.clock.now().tick) {
            return;
        }
        let begin = || {
            let (load, metrics) = (loader.load(hash), Arc::clone(&self.metrics));
            Some(async move {
                let brought = load.await;
                metrics.refreshed(if brought.is_ok() { Refresh::Done } else { Refresh::Failed });
                brought
            })
        };
        drop(self.flights.start(hash, begin));
    }

    /// The feed is in doubt: the store is asked, and what it says holds. Where it does not answer, the record serves on
    /// within the rule.
    #[cold]
    async fn revalidate(&self, loader: &Loader, verified: Verified) -> Result<Verified, Refused> {
        let Verified { hash, spelled, ref entry, .. } = verified;
        // It was in the store when it was loaded, so asking again is not a guess.
        let answered = self.load(loader, hash, true, || None).await;
        let at = self.clock.now();
        let now = at.tick;
        entry.record.look_at(now);
        let Ok(answer) = answered else {
            self.metrics.refreshed(Refresh::Failed);
            if self.memory.is_usable(&hash, entry, now) {
                return Ok(Verified { at, ..verified });
            }
            return self.look_up_again(loader, hash, spelled).await;
        };
        self.metrics.refreshed(Refresh::Done);
        match self.memory.settle(&hash, answer, now) {
            Some(Settled::Known(entry)) => Ok(Verified { hash, spelled, entry: Held::Shared(entry), at }),
            Some(Settled::Unknown) => Err(Denial::KeyUnknown.into()),
            None => self.look_up_again(loader, hash, spelled).await,
        }
    }

    /// As [`Verifier::look_up`], for a key that was in the store a moment ago: asking again is not a guess, check or no check.
    async fn look_up_again(
        &self,
        loader: &Loader,
        hash: KeyHash,
        spelled: Environment,
    ) -> Result<Verified, Refused> {
        self.look_up(loader, hash, Spelling { environment: spelled, checked: true }, Lookup::Stale).await
    }

    /// What is behind the cache: what is known to be dead or unknown, else the store.
    async fn look_up(
        &self,
        loader: &Loader,
        hash: KeyHash,
        spelling: Spelling,
        looked: Lookup,
    ) -> Result<Verified, Refused> {
        if let Some(death) = self.memory.death(&hash) {
            self.metrics.looked_up(looked);
            return Err(Refused { denial: Denial::KeyRevoked, key_id: death.id });
        }
        if self.memory.recalls_unknown(&hash, self.clock.now().tick) {
            self.metrics.looked_up(Lookup::Unknown);
            return Err(Denial::KeyUnknown.into());
        }
        self.metrics.looked_up(looked);
        for _ in 0..=RELOADS {
            let answer = self.load(loader, hash, spelling.checked, || self.brought_meanwhile(&hash)).await?;
            let at = self.clock.now();
            match self.memory.settle(&hash, answer, at.tick) {
                Some(Settled::Known(entry)) => {
                    let entry = Held::Shared(entry);
                    return Ok(Verified { hash, spelled: spelling.environment, entry, at });
                }
                Some(Settled::Unknown) => return Err(Denial::KeyUnknown.into()),
                // Outdated on arrival: something happened to the key while it was loaded.
                None => {}
            }
        }
        Err(Denial::VerificationUnavailable.into())
    }

    /// What a load brought that ended after this request had looked: it need not be asked for once more.
    fn brought_meanwhile(&self, hash: &KeyHash) -> Option<Answer<CachedRecord>> {
        match self.memory.recall(hash, self.clock.now().tick) {
            Recalled::Usable(entry) => Some(Answer::Known(entry)),
            Recalled::Stale | Recalled::Nothing => None,
        }
    }

    /// The load under way, or what there is `meanwhile`, or else a new load. A key without a check needs the fleet's leave
    /// and a part of their budget.
    async fn load(
        &self,
        loader: &Loader,
        hash: KeyHash,
        checked: bool,
        meanwhile: impl Fn() -> Option<Answer<CachedRecord>>,
    ) -> Result<Answer<CachedRecord>, Denial> {
        let asked_at = self.clock.now().tick;
        if !self.fleet.is_known() || !self.may_look_up(asked_at) {
            return Err(Denial::VerificationUnavailable);
        }
        if !checked && !self.fleet.accepts_unchecked().await? {
            return Err(Denial::KeyUnknown);
        }
        let found = OnceLock::new();
        let load = || {
            // No load of this key is under way, and none can begin: what one brought before is in memory by now.
            if let Some(answer) = meanwhile() {
                drop(found.set(answer));
                return None;
            }
            let allowance = if checked { None } else { Some(self.unchecked.spend(asked_at)?) };
            let load = loader.load(hash);
            Some(async move {
                let brought = load.await;
                drop(allowance);
                brought
            })
        };
        let mut brought = self.flights.join(hash, load).await;
        if brought.is_err() {
            // It ended with the worker that began it, which was done before this one.
            brought = self.flights.join(hash, load).await;
        }
        self.metrics.verified(Source::Store, self.clock.now().tick.since(asked_at));
        match brought {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(failure))) => Err(failure.denial()),
            Ok(None) => found.into_inner().ok_or(Denial::Overloaded),
            Err(flight::Lost) => Err(Denial::VerificationUnavailable),
        }
    }

    /// Whether no load is under way.
    #[cfg(test)]
    fn flights_are_over(&self) -> bool {
        self.flights.are_over()
    }

    /// Whether this gateway stands on the roll, so that whoever revokes a key knows of it. Only then may it look
    /// anything up, and prove anything; see `docs/revocation.md`.
    fn may_look_up(&self, now: Tick) -> bool {
        let attended = self.attended.load(Ordering::SeqCst);
        attended > 0 && now.since(Tick::from_nanos(attended)) <= self.max_staleness
    }
}

/// What the feed tells takes effect here.
impl FeedSink for Verifier {
    fn apply(&self, event: &Event) {
        self.apply_own(event);
        self.metrics.applied_event(event.kind, self.clock.now().wall.since(event.at));
    }

    fn apply_own(&self, event: &Event) {
        match event.kind {
            EventKind::Revoked => self.memory.revoke(&event.hash, event.id, self.clock.now().tick),
            EventKind::Created | EventKind::Changed => self.memory.outdate(&event.hash),
            EventKind::Fleet => self.fleet.hint(),
            EventKind::Canary => {}
        }
    }

    fn gap(&self, shard: Shard, why: Gap) {
        self.memory.outdate_shard(shard);
        self.fleet.hint();
        self.metrics.feed_gap(why);
    }

    fn current(&self, shard: Shard, asked_at: Tick) {
        if self.may_look_up(asked_at) {
            self.memory.prove(shard, asked_at);
        }
    }

    fn fleet_time(&self, time: Timestamp, asked_at: Tick, answered_at: Tick) {
        let steered = self.clock.steer(time, asked_at, answered_at);
        let stepped_before = self.store_clock_stepped.swap(steered.is_err(), Ordering::Relaxed);
        if let (Err(step), false) = (steered, stepped_before) {
            tracing::warn!(%step, "the store's time of day was set; this gateway goes by the time that has passed");
            self.metrics.clock_stepped(SteppedClock::Store);
        }
    }

    fn lag(&self, events: u64) {
        self.metrics.feed_lags(events);
    }

    fn connected(&self, connected: bool) {
        self.metrics.feed_connected(connected);
    }

    fn revoked_in(&self, shard: Shard) -> Vec<KeyHash> {
        self.memory.deaths(shard).into_iter().map(|(hash, _)| hash).collect()
    }

    fn attended(&self, at: Tick) {
        self.attended.fetch_max(at.as_nanos(), Ordering::SeqCst);
        self.on_roll.send_if_modified(|on_roll| !std::mem::replace(on_roll, true));
    }

    fn hash_of(&self, id: &KeyId) -> Option<KeyHash> {
        self.memory.cache().hash_of(id)
    }
}
