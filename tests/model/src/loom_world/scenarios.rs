//! Short stories, told in every order. Each names what it is about; the witness and the properties say what must hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::model::Builder;
use loom::thread;

use crate::model::{EventKind, LogEntry};
use crate::property::Property;

use super::rig::feed::Feed;
use super::rig::gateway::{Gateway, Outcome};
use super::rig::key;
use super::rig::store::Store;
use super::rig::witness::Witness;
use super::sync::Map;

/// How often a thread is interrupted at most, of its own will apart.
const PREEMPTIONS: usize = 3;
/// Ticks that are never over.
const FOR_EVER: u64 = u64::MAX / 4;

/// A store, a gateway and its witness.
#[derive(Clone)]
struct Stage {
    store: Arc<Store>,
    gateway: Arc<Gateway>,
    witness: Arc<Witness>,
}

impl Stage {
    fn new(ttl: u64, max_staleness: u64, cache_forgets: bool) -> Stage {
        let witness = Arc::new(Witness::new());
        let store = Arc::new(Store::new(&witness));
        let gateway = Arc::new(Gateway::new(&store, &witness, ttl, max_staleness, cache_forgets));
        Stage { store, gateway, witness }
    }

    fn write(&self, kind: EventKind) -> LogEntry {
        self.store.write(kind, key(0))
    }

    /// A change that this gateway makes, or hears of at once.
    fn change(&self, kind: EventKind) {
        let entry = self.write(kind);
        self.gateway.apply(&entry);
    }

    /// A request, and once more if it is accepted and has to wait. So little happens here that nobody is turned away.
    fn request(&self) {
        let mut outcome = self.gateway.request(key(0));
        if let Outcome::Accepted(entry) = outcome {
            outcome = self.gateway.confirm(key(0), entry);
        }
        if let Outcome::Unavailable = outcome {
            Property::TwoReloadsSuffice.broken("a request was turned away");
        }
    }

    fn thread(&self, what: impl FnOnce(&Stage) + 'static) -> thread::JoinHandle<()> {
        let stage = self.clone();
        thread::spawn(move || what(&stage))
    }
}

/// Tells a story in every order; how many there were.
pub(super) fn every_order(story: impl Fn() + Send + Sync + 'static) -> u64 {
    let orders = Arc::new(AtomicU64::new(0));
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 10_000;
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        story();
    });
    orders.load(Ordering::Relaxed)
}

/// Two readers, a revoker and an evictor.
pub fn a_key_in_use_is_revoked(cache_forgets: bool) -> u64 {
    every_order(move || {
        let stage = Stage::new(FOR_EVER, FOR_EVER, cache_forgets);
        stage.write(EventKind::Created);
        stage.request();
        let threads = [
            stage.thread(|stage| stage.change(EventKind::Revoked)),
            stage.thread(|stage| stage.gateway.evict(&key(0))),
            stage.thread(Stage::request),
        ];
        stage.request();
        join(threads);
    })
}

/// Two readers who miss, of whom one may join the load of the other, and a revoker.
pub fn a_key_is_revoked_while_it_is_loaded() -> u64 {
    every_order(|| {
        let stage = Stage::new(FOR_EVER, FOR_EVER, true);
        stage.write(EventKind::Created);
        let threads = [stage.thread(|stage| stage.change(EventKind::Revoked)), stage.thread(Stage::request)];
        stage.request();
        join(threads);
    })
}

/// A key of which it is remembered that there is none; it is made, and changed while somebody loads it.
pub fn an_unknown_key_is_created_and_changed() -> u64 {
    every_order(|| {
        let stage = Stage::new(FOR_EVER, FOR_EVER, false);
        stage.request();
        let change = |stage: &Stage| {
            stage.change(EventKind::Created);
            stage.change(EventKind::Changed);
        };
        let threads = [stage.thread(change), stage.thread(Stage::request)];
        stage.request();
        join(threads);
    })
}

/// A revocation is applied here, and then the store forgets it.
pub fn the_store_forgets_a_revocation() -> u64 {
    every_order(|| {
        let stage = Stage::new(FOR_EVER, FOR_EVER, true);
        stage.write(EventKind::Created);
        let snapshot = stage.store.snapshot();
        let revoke = move |stage: &Stage| {
            stage.change(EventKind::Revoked);
            stage.store.restore(&snapshot);
        };
        let threads = [stage.thread(revoke), stage.thread(Stage::request)];
        stage.request();
        join(threads);
    })
}

/// The store forgets a revocation before it is heard of here.
pub fn a_forgotten_revocation_is_heard() -> u64 {
    every_order(|| {
        let stage = Stage::new(FOR_EVER, FOR_EVER, false);
        stage.write(EventKind::Created);
        let snapshot = stage.store.snapshot();
        let entry = stage.write(EventKind::Revoked);
        stage.store.restore(&snapshot);
        let threads = [stage.thread(move |stage| stage.gateway.apply(&entry))];
        stage.request();
        join(threads);
    })
}

/// Two events at once: one of another key in the same slot, and a revocation.
pub fn two_events_at_once() -> u64 {
    every_order(|| {
        let stage = Stage::new(FOR_EVER, FOR_EVER, false);
        stage.write(EventKind::Created);
        let other = stage.store.write(EventKind::Created, key(2));
        let threads = [
            stage.thread(move |stage| stage.gateway.apply(&other)),
            stage.thread(|stage| stage.change(EventKind::Revoked)),
        ];
        stage.request();
        join(threads);
    })
}

/// The feed was away for longer than the bound, and a revocation with it. It comes back: the revocation is applied, or
/// given up in a gap, and the shard is proved to be current.
pub fn the_feed_comes_back(with_a_gap: bool) -> u64 {
    every_order(move || {
        let stage = Stage::new(FOR_EVER, 10, false);
        stage.write(EventKind::Created);
        let mut feed = Feed::new(&stage.gateway, &stage.store, &stage.witness);
        if !with_a_gap {
            let ends = feed.ask();
            feed.hear(&ends);
        }
        stage.request();
        stage.write(EventKind::Revoked);
        stage.witness.advance(20);
        let come_back = move |_: &Stage| {
            let ends = feed.ask();
            feed.hear(&ends);
        };
        let threads = [stage.thread(come_back)];
        stage.request();
        join(threads);
    })
}

/// Two changes, of which the feed may hear the second first, the first twice, or nothing at all, while it reads the log.
pub fn the_bus_loses_and_reorders() -> u64 {
    every_order(|| {
        let stage = Stage::new(FOR_EVER, FOR_EVER, false);
        stage.write(EventKind::Created);
        let mut feed = Feed::new(&stage.gateway, &stage.store, &stage.witness);
        let ends = feed.ask();
        feed.hear(&ends);
        let bus = Arc::new(Map::default());
        let publish = Arc::clone(&bus);
        let write = move |stage: &Stage| {
            for message in 0..2 {
                let kind = [EventKind::Changed, EventKind::Revoked][message];
                publish.insert(message, stage.write(kind));
            }
        };
        let follow = move |_: &Stage| {
            let ends = feed.ask();
            for message in [1, 0, 0] {
                if let Some(entry) = bus.get(&message) {
                    feed.take(&entry);
                }
            }
            feed.hear(&ends);
            let ends = feed.ask();
            feed.hear(&ends);
        };
        let threads = [stage.thread(write), stage.thread(follow)];
        stage.request();
        join(threads);
    })
}

fn join<const N: usize>(threads: [thread::JoinHandle<()>; N]) {
    for thread in threads {
        thread.join().expect("whoever panics ends the model");
    }
}
