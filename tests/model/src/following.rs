//! The gateway's follower, as it is, with a store and a bus that do it every wrong. Time is virtual, and what happens is drawn
//! from a seed: a story that fails can be told again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::clock::{Clock, Moment, Stepped, Tick};
use crate::events::follower::{Follower, News};
use crate::events::{FeedSink, Log, LogError, Progress};
use crate::ledger::Ledger;
use crate::model::{
    Event, EventKind, Gap, Head, Heads, KeyHash, KeyId, LogEntry, Message, Nonce, SHARDS, Shard, Timestamp,
};
use crate::property::Property;

/// Shards in which anything happens.
const BUSY: usize = 2;
/// What happens in one story.
const STEPS: usize = 40;

/// Tells the stories of these seeds.
pub fn stories(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.expect("a runtime without sockets can be made").block_on(story(seed));
        }));
        if let Err(panic) = told {
            println!("in the story of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

async fn story(seed: u64) {
    let world = Arc::new(World::new(seed));
    let (news, heard) = mpsc::channel(1_000);
    let (tell, progress) = watch::channel(None);
    let sink = Arc::new(Sink { world: Arc::clone(&world), progress: progress.clone() });
    let clock = Arc::clone(&world) as Arc<dyn Clock>;
    let follower = Follower::new(Arc::clone(&world) as Arc<dyn Log>, sink, clock, tell);
    let following = tokio::spawn(follower.run(heard));
    let watching = tokio::spawn(watch_over(Arc::clone(&world), progress.clone()));

    let mut snapshot = world.state().logs.clone();
    let mut delayed = Vec::new();
    for _ in 0..STEPS {
        match world.draw(12) {
            0 => world.state().silent = true,
            1 => world.state().silent = false,
            2 => snapshot = world.state().logs.clone(),
            3 if world.draw(4) == 0 => world.state().logs = snapshot.clone(),
            4 if world.draw(2) == 0 => world.trim(),
            5 => drop(news.try_send(News::Doubt)),
            _ => delayed.push(world.write()),
        }
        // The bus brings a message now, later, twice or never.
        while world.draw(3) > 0 && !delayed.is_empty() {
            let number = world.draw(delayed.len());
            let entry = delayed[number].clone();
            if world.draw(5) > 0 {
                delayed.swap_remove(number);
            }
            if world.draw(4) > 0 {
                drop(news.try_send(News::Message(Message::Entry(entry))));
            }
        }
        if world.draw(2) == 0 {
            world.pause(400).await;
        }
    }

    world.state().silent = false;
    let well_again = world.now().tick;
    sleep(Duration::from_secs(2)).await;
    world.expect_caught_up(well_again, &progress);
    drop(news);
    for task in [following, watching] {
        if let Err(failure) = task.await {
            std::panic::resume_unwind(failure.into_panic());
        }
    }
}

/// Everything that is told of the progress is true.
async fn watch_over(world: Arc<World>, mut progress: watch::Receiver<Option<Progress>>) {
    while progress.changed().await.is_ok() {
        let told = *progress.borrow_and_update();
        world.expect_reached(told);
    }
}

/// The store, the clock, and the ledger of what took effect.
struct World {
    state: Mutex<State>,
    chance: Mutex<fastrand::Rng>,
    began: Instant,
}

struct State {
    logs: Vec<(Head, Vec<LogEntry>)>,
    ledger: Ledger,
    names: u64,
    silent: bool,
    /// The ends that were read, by the time of the question.
    answers: BTreeMap<Tick, [Head; SHARDS]>,
    proofs: BTreeMap<Shard, Tick>,
    revoked: Vec<KeyHash>,
}

#[allow(clippy::disallowed_methods, reason = "the virtual time of a story")]
impl World {
    fn new(seed: u64) -> World {
        let origin = |shard: Shard| Head { seq: 0, nonce: Nonce::from_u64(1_000_000 + shard.index() as u64) };
        let state = State {
            logs: Shard::all().map(|shard| (origin(shard), Vec::new())).collect(),
            ledger: Ledger::default(),
            names: 0,
            silent: false,
            answers: BTreeMap::new(),
            proofs: BTreeMap::new(),
            revoked: Vec::new(),
        };
        let chance = Mutex::new(fastrand::Rng::with_seed(seed));
        World { state: Mutex::new(state), chance, began: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn draw(&self, below: usize) -> usize {
        self.chance.lock().unwrap_or_else(std::sync::PoisonError::into_inner).usize(..below)
    }

    async fn pause(&self, below_ms: usize) {
        sleep(Duration::from_millis(1 + self.draw(below_ms) as u64)).await;
    }

    fn write(&self) -> LogEntry {
        let kind = if self.draw(2) == 0 { EventKind::Revoked } else { EventKind::Changed };
        let mut bytes = [0; 32];
        (bytes[0], bytes[1]) = ((self.draw(BUSY) as u8) << 4, self.draw(4) as u8);
        let hash = KeyHash::from_bytes(bytes);
        let mut state = self.state();
        state.names += 1;
        let name = state.names;
        // The event says its entry's name in its date.
        let event = Event { kind, hash, id: None, at: Timestamp::from_millis(name as i64) };
        let (end, entries) = &mut state.logs[event.shard().index()];
        let head = Head { seq: end.seq + 1, nonce: Nonce::from_u64(name) };
        let entry = LogEntry { head, prev: end.nonce, event };
        *end = head;
        entries.push(entry.clone());
        state.ledger.written(&entry);
        entry
    }

    fn trim(&self) {
        for (_, entries) in &mut self.state().logs {
            entries.drain(..self.draw(entries.len() + 1));
        }
    }

    /// The store takes its time, or does not answer: with an error, or not at all.
    async fn answers(&self) -> Result<(), LogError> {
        self.pause(30).await;
        if !self.state().silent {
            return Ok(());
        }
        if self.draw(2) == 0 {
            sleep(Duration::from_secs(3_600)).await;
        }
        Err(LogError::Unreachable("silent".into()))
    }

    fn expect_reached(&self, progress: Option<Progress>) {
        for place in progress.iter().flat_map(|progress| &progress.positions) {
            self.state().ledger.expect_in_effect(Property::PositionIsReached, place);
        }
    }

    fn expect_caught_up(&self, since: Tick, progress: &watch::Receiver<Option<Progress>>) {
        let told = progress.borrow().map(|progress| progress.positions);
        let state = self.state();
        let ends: Vec<Head> = state.logs.iter().map(|(end, _)| *end).collect();
        if told.is_none_or(|positions| positions.as_slice() != ends) {
            Property::CatchesUp.broken("there is more in the logs than was reached");
        }
        if Shard::all().any(|shard| state.proofs.get(&shard).is_none_or(|proof| *proof < since)) {
            Property::CatchesUp.broken("a shard is not proved");
        }
    }
}

#[async_trait]
impl Log for World {
    async fn heads(&self) -> Result<Heads, LogError> {
        let asked_at = self.now().tick;
        self.answers().await?;
        let ends: Vec<Head> = self.state().logs.iter().map(|(end, _)| *end).collect();
        let heads = ends.try_into().expect("there is a log for each shard");
        self.state().answers.insert(asked_at, heads);
        self.pause(30).await;
        Ok(Heads { time: Timestamp::from_millis(0), heads })
    }

    async fn entries_after(&self, shard: Shard, seq: u64, limit: usize) -> Result<Vec<LogEntry>, LogError> {
        self.answers().await?;
        let limit = limit.min(1 + self.draw(3));
        let entries = self.state().logs[shard.index()].1.clone();
        self.pause(30).await;
        Ok(entries.into_iter().filter(|entry| entry.head.seq > seq).take(limit).collect())
    }

    async fn assert_revoked(&self, _: &KeyHash) -> Result<bool, LogError> {
        self.answers().await.map(|()| false)
    }
}

#[allow(clippy::disallowed_methods, reason = "the virtual time of a story")]
impl Clock for World {
    fn now(&self) -> Moment {
        let nanos = Instant::now().duration_since(self.began).as_nanos() as u64;
        Moment { tick: Tick::from_nanos(1 + nanos), wall: Timestamp::from_millis(0) }
    }

    fn steer(&self, _: Timestamp, _: Tick, _: Tick) -> Result<(), Stepped> {
        Ok(())
    }

    fn machine_ahead_ms(&self) -> i64 {
        0
    }
}

/// The gateway, as its follower sees it.
struct Sink {
    world: Arc<World>,
    progress: watch::Receiver<Option<Progress>>,
}

impl FeedSink for Sink {
    fn apply(&self, event: &Event) {
        // Whatever was told so far was told without this event.
        self.world.expect_reached(*self.progress.borrow());
        let mut state = self.world.state();
        state.ledger.in_effect(Nonce::from_u64(event.at.as_millis() as u64));
        if event.kind == EventKind::Revoked {
            state.revoked.push(event.hash);
        }
    }

    fn gap(&self, shard: Shard, _: Gap) {
        let mut state = self.world.state();
        for nonce in state.ledger.of_shard(shard) {
            state.ledger.in_effect(nonce);
        }
    }

    fn current(&self, shard: Shard, asked_at: Tick) {
        let mut state = self.world.state();
        match state.answers.get(&asked_at) {
            Some(ends) => {
                let end = ends[shard.index()];
                state.ledger.expect_in_effect(Property::ProofIsComplete, &end);
            }
            None => Property::ProofIsComplete.broken("it dates from when nothing was asked"),
        }
        state.proofs.insert(shard, asked_at);
    }

    fn fleet_time(&self, _: Timestamp, _: Tick, _: Tick) {}

    fn lag(&self, _: u64) {}

    fn connected(&self, _: bool) {}

    fn revoked_in(&self, shard: Shard) -> Vec<KeyHash> {
        let revoked = self.world.state().revoked.clone();
        revoked.into_iter().filter(|hash| Shard::of(hash) == shard).collect()
    }

    fn attended(&self, _: Tick) {}

    fn hash_of(&self, _: &KeyId) -> Option<KeyHash> {
        None
    }
}
