//! Eight threads at once, for many steps: three readers, two writers, an evictor, the feed behind a bus that loses, doubles
//! and reorders, and one that lets time pass, trims the logs and puts an older store in place.

use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::model::{EventKind, KeyHash, LogEntry};

use super::rig::feed::Feed;
use super::rig::gateway::{Gateway, Outcome};
use super::rig::store::Store;
use super::rig::witness::Witness;
use super::rig::{KEYS, key};
use super::sync::Mutex;

/// The same orders every time; `SHUTTLE_RANDOM_SEED` asks for others.
const SEED: u64 = 1;
/// Where a thread is interrupted, in the schedules that interrupt rarely.
const INTERRUPTIONS: usize = 4;
const TTL: u64 = 12;
const MAX_STALENESS: u64 = 6;

/// The storm in this many orders, at each step any thread.
pub fn in_random_order(schedules: usize) {
    run(RandomScheduler::new_from_seed(SEED, schedules));
}

/// The storm in this many orders, each of few interruptions.
pub fn with_few_interruptions(schedules: usize) {
    run(PctScheduler::new_from_seed(SEED, INTERRUPTIONS, schedules));
}

fn run(scheduler: impl Scheduler + 'static) {
    Runner::new(scheduler, Config::new()).run(storm);
}

#[derive(Clone)]
struct Scene {
    store: Arc<Store>,
    gateway: Arc<Gateway>,
    witness: Arc<Witness>,
    bus: Arc<Mutex<Vec<LogEntry>>>,
}

fn storm() {
    let witness = Arc::new(Witness::new());
    let store = Arc::new(Store::new(&witness));
    let gateway = Arc::new(Gateway::new(&store, &witness, TTL, MAX_STALENESS, flip()));
    let scene = Scene { store, gateway, witness, bus: Arc::default() };
    // The last key is made later.
    for number in 0..KEYS - 1 {
        scene.store.write(EventKind::Created, key(number));
    }
    let parts: [fn(&Scene); 8] = [
        Scene::read,
        Scene::read,
        Scene::read,
        Scene::revoke,
        Scene::change,
        Scene::evict,
        Scene::follow,
        Scene::disturb,
    ];
    let threads = parts.map(|part| {
        let scene = scene.clone();
        thread::spawn(move || part(&scene))
    });
    for thread in threads {
        thread.join().expect("whoever panics ends the model");
    }
}

impl Scene {
    fn read(&self) {
        for _ in 0..3 {
            let hash = any_key();
            match self.gateway.request(hash) {
                Outcome::Accepted(entry) if flip() => drop(self.gateway.confirm(hash, entry)),
                Outcome::Accepted(_) if flip() => self.gateway.refresh(hash),
                _ => {}
            }
        }
    }

    fn revoke(&self) {
        self.write(EventKind::Changed, key(0));
        self.write(EventKind::Revoked, key(0));
        self.write(EventKind::Revoked, any_key());
    }

    fn change(&self) {
        self.write(EventKind::Created, key(KEYS - 1));
        self.write(EventKind::Changed, any_key());
    }

    /// A change in the store; it is published, and if it was made by way of this gateway, it takes effect here at once.
    fn write(&self, kind: EventKind, hash: KeyHash) {
        let entry = self.store.write(kind, hash);
        self.bus.lock().expect("no thread panics here").push(entry.clone());
        if flip() {
            self.gateway.apply(&entry);
        }
    }

    fn evict(&self) {
        for _ in 0..3 {
            self.gateway.evict(&any_key());
        }
    }

    fn follow(&self) {
        let mut feed = Feed::new(&self.gateway, &self.store, &self.witness);
        for _ in 0..3 {
            let ends = feed.ask();
            let mut doubt = false;
            while let Some(entry) = self.next_message() {
                doubt |= feed.take(&entry);
            }
            feed.hear(&ends);
            if doubt {
                let ends = feed.ask();
                feed.hear(&ends);
            }
        }
    }

    /// Any message of the bus, which may bring it again; or none, and some are lost.
    fn next_message(&self) -> Option<LogEntry> {
        let mut bus = self.bus.lock().expect("no thread panics here");
        let number = thread_rng().gen_range(0..=bus.len());
        if number == bus.len() {
            bus.truncate(1);
            return None;
        }
        Some(if flip() { bus[number].clone() } else { bus.remove(number) })
    }

    fn disturb(&self) {
        let snapshot = self.store.snapshot();
        for _ in 0..3 {
            self.witness.advance(thread_rng().gen_range(0..MAX_STALENESS));
            match thread_rng().gen_range(0..6) {
                0 => self.store.restore(&snapshot),
                1 => self.store.trim(),
                _ => thread::yield_now(),
            }
        }
    }
}

fn any_key() -> KeyHash {
    key(thread_rng().gen_range(0..KEYS))
}

fn flip() -> bool {
    thread_rng().r#gen()
}
