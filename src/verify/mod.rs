//! Is this key good? The cache, else the store, else a denial.
//!
//! [`Verifier::verify`] is asked once for each request. On a hit it is one SHA-256, one look in the cache and the
//! freshness rule; on a miss it is one round trip to the store, shared by all who wait for the same key.

pub mod cache;
pub mod freshness;
pub mod policy;

mod budget;
mod fleet;
mod flight;
mod loader;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::{Clock, Moment, Tick};
use crate::events::FeedSink;
use crate::model::{ApiKey, Denial, Environment, Event, EventKind, KeyHash, Shard};
use crate::observe::Metrics;
use crate::observe::metrics::{Lookup, Source};
use crate::store::{KeyStore, StoreError};

use budget::Budget;
use cache::{Capacity, Entry, RecordCache};
use fleet::Fleet;
use flight::Flights;
use freshness::{Freshness, Limits, Verdict};
use loader::{Answer, LoadFailure, Loader};
use policy::PermitFor;

/// How often a load whose answer is outdated on arrival is repeated before the gateway gives up with 503.
const RELOADS: usize = 2;

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
    cache: Arc<RecordCache>,
    freshness: Arc<Freshness>,
    known_limits: Limits,
    unknown_limits: Limits,
    flights: Flights<Result<Answer, LoadFailure>>,
    loader: Loader,
    unchecked: Budget,
    fleet: Fleet,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// A key that is in the store, with a record that may be used now. Whether it opens anything is for
/// [`policy`] to say.
#[derive(Clone, Debug)]
pub struct Verified {
    hash: KeyHash,
    spelled: Environment,
    entry: Arc<Entry>,
}

/// How a key is spelled: what decides whether the store is worth asking.
#[derive(Clone, Copy)]
struct Spelling {
    environment: Environment,
    /// Whether the key carries its own check, so that keygate must have made it.
    checked: bool,
}

impl Verifier {
    /// A verifier that knows nothing yet. Loads run on `runtime`.
    pub fn new(
        store: Arc<dyn KeyStore>,
        settings: &VerifierSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Verifier {
        let cache = Arc::new(RecordCache::new(settings.capacity));
        let freshness = Arc::new(Freshness::new());
        let limits = |ttl| Limits { ttl, max_staleness: settings.max_staleness };
        let loader = Loader::new(
            store,
            Arc::clone(&cache),
            Arc::clone(&freshness),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        );
        Verifier {
            known_limits: limits(settings.capacity.ttl),
            unknown_limits: limits(settings.capacity.unknown_ttl),
            flights: Flights::on(runtime),
            unchecked: Budget::new(settings.unchecked_per_second, settings.unchecked_at_once),
            fleet: Fleet::new(loader.clone(), Arc::clone(&clock)),
            loader,
            cache,
            freshness,
            clock,
            metrics,
        }
    }

    /// Verifies a key. The request starts here: what was applied before is honoured.
    ///
    /// # Errors
    /// [`Denial::KeyUnknown`] only if the store certainly has no such key; [`Denial::VerificationUnavailable`] if
    /// nobody could say; [`Denial::Overloaded`] if there was no room to ask.
    pub async fn verify(&self, key: &ApiKey, now: Moment) -> Result<Verified, Denial> {
        let hash = key.hash();
        let looked = match self.remembered(&hash, now.tick) {
            Ok(entry) => return Ok(Verified { hash, spelled: key.environment(), entry }),
            Err(looked) => looked,
        };
        let spelling = Spelling {
            environment: key.environment(),
            // What was remembered was in the store: asking again is not a guess.
            checked: looked == Lookup::Stale || self.fleet.made(key),
        };
        // Boxed, as everything that is rare: a future is moved about with room for all that it might become.
        Box::pin(self.look_up(hash, spelling, looked)).await
    }

    /// Judges a permit once more, for a request that had to wait before its head could be written.
    ///
    /// # Errors
    /// As [`Verifier::verify`] and [`policy::permit`].
    pub async fn confirm<E>(&self, permit: &PermitFor<E>) -> Result<(), Denial> {
        let Verified { hash, spelled, entry } = permit.verified();
        let now = self.clock.now();
        let fresh = match self.judge_known(hash, entry, now.tick) {
            Verdict::Usable => permit.verified().clone(),
            // It was in the store a moment ago, so asking again is not a guess, check or no check.
            Verdict::Outdated | Verdict::TooOld | Verdict::Unproven => {
                self.look_up(*hash, Spelling { environment: *spelled, checked: true }, Lookup::Stale).await?
            }
        };
        policy::permit(fresh, permit.facts(), self.clock.now()).map(drop)
    }

    /// Asks the store for what the fleet shares; to be called at the start and each second.
    ///
    /// # Errors
    /// The store does not answer; what was known before stays known.
    pub async fn refresh_fleet(&self) -> Result<(), StoreError> {
        self.fleet.refresh().await
    }

    /// Tells the metrics what only looks from outside can see.
    pub fn report(&self) {
        self.metrics.cache_holds(self.cache.entries());
        self.metrics.currency_age(self.clock.now().tick.since(self.freshness.oldest_proof()));
    }

    /// The hit path: a record that may be used now, or what the cache said instead.
    #[inline]
    fn remembered(&self, hash: &KeyHash, now: Tick) -> Result<Arc<Entry>, Lookup> {
        let entry = self.cache.known(hash).ok_or(Lookup::Miss)?;
        match self.judge_known(hash, &entry, now) {
            Verdict::Usable => {
                self.metrics.looked_up(Lookup::Hit);
                self.metrics.verified(Source::Cache, self.clock.now().tick.since(now));
                Ok(entry)
            }
            Verdict::Outdated | Verdict::TooOld | Verdict::Unproven => Err(Lookup::Stale),
        }
    }

    /// What is behind the cache: what is known to be dead or unknown, else the store.
    async fn look_up(&self, hash: KeyHash, spelling: Spelling, looked: Lookup) -> Result<Verified, Denial> {
        let verified = |entry| Verified { hash, spelled: spelling.environment, entry };
        if self.freshness.is_revoked(&hash) {
            self.metrics.looked_up(looked);
            return Err(Denial::KeyRevoked);
        }
        if self.is_remembered_as_unknown(&hash) {
            self.metrics.looked_up(Lookup::Unknown);
            return Err(Denial::KeyUnknown);
        }
        self.metrics.looked_up(looked);
        for _ in 0..=RELOADS {
            let answer = self.load(hash, spelling.checked).await?;
            let now = self.clock.now().tick;
            match answer {
                Answer::Known(entry) if self.judge_known(&hash, &entry, now) == Verdict::Usable => {
                    return Ok(verified(entry));
                }
                Answer::Unknown(loaded)
                    if self.freshness.judge(&hash, loaded, now, self.unknown_limits) == Verdict::Usable =>
                {
                    return Err(Denial::KeyUnknown);
                }
                // Outdated on arrival: something happened to the key while it was loaded.
                Answer::Known(_) | Answer::Unknown(_) => {}
            }
        }
        Err(Denial::VerificationUnavailable)
    }

    /// One load, or the one under way. A key without a check needs the fleet's leave and a part of their budget.
    async fn load(&self, hash: KeyHash, checked: bool) -> Result<Answer, Denial> {
        if !self.fleet.is_known() {
            return Err(Denial::VerificationUnavailable);
        }
        if !checked && !self.fleet.accepts_unchecked().await? {
            return Err(Denial::KeyUnknown);
        }
        let asked_at = self.clock.now().tick;
        let load = || {
            let allowance = if checked { None } else { Some(self.unchecked.spend(asked_at)?) };
            let load = self.loader.load(hash);
            Some(async move {
                let answer = load.await;
                drop(allowance);
                answer
            })
        };
        let answer = self.flights.join(hash, load).await;
        self.metrics.verified(Source::Store, self.clock.now().tick.since(asked_at));
        match answer {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(failure))) => Err(failure.denial()),
            Ok(None) => Err(Denial::Overloaded),
            Err(flight::Lost) => Err(Denial::VerificationUnavailable),
        }
    }

    fn judge_known(&self, hash: &KeyHash, entry: &Entry, now: Tick) -> Verdict {
        self.freshness.judge(hash, entry.loaded, now, self.known_limits)
    }

    fn is_remembered_as_unknown(&self, hash: &KeyHash) -> bool {
        let now = self.clock.now().tick;
        self.cache.unknown(hash).is_some_and(|loaded| {
            self.freshness.judge(hash, loaded, now, self.unknown_limits) == Verdict::Usable
        })
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
            EventKind::Revoked => self.freshness.revoke(&event.hash),
            EventKind::Created | EventKind::Changed => self.freshness.outdate(&event.hash),
            EventKind::Fleet => self.fleet.hint(),
        }
        self.cache.forget(&event.hash);
    }

    fn gap(&self, shard: Shard) {
        self.freshness.outdate_shard(shard);
        self.fleet.hint();
        self.metrics.feed_gap();
    }

    fn current(&self, shard: Shard, asked_at: Tick) {
        self.freshness.prove(shard, asked_at);
    }

    fn connected(&self, connected: bool) {
        self.metrics.feed_connected(connected);
    }
}
