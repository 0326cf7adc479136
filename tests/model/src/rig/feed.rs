//! A gateway's feed: the steps of `events::follower` around the real trail, in its order. `tests/mirror.rs` holds that order
//! against the gateway's own file.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Tick;
use crate::events::trail::{Standing, Step, Trail};
use crate::model::{Head, LogEntry, Shard};

use super::gateway::Gateway;
use super::shards;
use super::store::Store;
use super::witness::Witness;

/// The feed of one gateway.
pub struct Feed {
    gateway: Arc<Gateway>,
    store: Arc<Store>,
    witness: Arc<Witness>,
    trails: BTreeMap<Shard, Trail>,
}

/// The ends of the logs as they were read, and the time from before the question.
pub struct Ends {
    asked_at: Tick,
    heads: Vec<(Shard, Head)>,
}

impl Feed {
    /// A feed that has read nothing yet.
    pub fn new(gateway: &Arc<Gateway>, store: &Arc<Store>, witness: &Arc<Witness>) -> Feed {
        let trails = shards().map(|shard| (shard, Trail::default())).collect();
        Feed { gateway: Arc::clone(gateway), store: Arc::clone(store), witness: Arc::clone(witness), trails }
    }

    /// A message of the bus. Whether the ends of the logs are to be read at once.
    pub fn take(&mut self, entry: &LogEntry) -> bool {
        match self.trail(entry.event.shard()).judge(entry) {
            Step::Known => false,
            Step::Next => {
                self.follow(entry);
                false
            }
            Step::Apart => {
                self.gateway.apply(entry);
                true
            }
        }
    }

    /// Asks for the ends of the logs.
    pub fn ask(&mut self) -> Ends {
        self.trails.values_mut().for_each(Trail::asking);
        let asked_at = self.witness.now();
        Ends { asked_at, heads: self.store.ends() }
    }

    /// Takes the answer, and replays what is missing.
    pub fn hear(&mut self, ends: &Ends) {
        for (shard, end) in &ends.heads {
            if self.compare(*shard, end, ends.asked_at) == Standing::Behind {
                self.replay(*shard, end, ends.asked_at);
            }
        }
    }

    fn compare(&mut self, shard: Shard, end: &Head, asked_at: Tick) -> Standing {
        let standing = self.trail(shard).compare(end);
        match standing {
            Standing::Current => self.prove(shard, end, asked_at),
            Standing::Lost(_) => self.lose(shard, end, asked_at),
            Standing::Behind | Standing::Unclear => {}
        }
        standing
    }

    fn replay(&mut self, shard: Shard, end: &Head, asked_at: Tick) {
        let after = self.trail(shard).at().map_or(0, |at| at.seq);
        let entries = self.store.entries_after(shard, after);
        for entry in &entries {
            match self.trail(shard).judge(entry) {
                Step::Known => {}
                Step::Next => self.follow(entry),
                Step::Apart => return self.lose(shard, end, asked_at),
            }
        }
        if self.compare(shard, end, asked_at) == Standing::Behind && entries.is_empty() {
            self.lose(shard, end, asked_at);
        }
    }

    /// The next entry: applied first, then passed.
    fn follow(&mut self, entry: &LogEntry) {
        self.gateway.apply(entry);
        self.trail(entry.event.shard()).advance(entry);
        self.tell(entry.event.shard());
    }

    /// Everything loaded so far is given up before the new end counts as reached.
    fn lose(&mut self, shard: Shard, end: &Head, asked_at: Tick) {
        self.gateway.gap(shard);
        self.trail(shard).restart(*end);
        self.prove(shard, end, asked_at);
        self.tell(shard);
    }

    fn prove(&self, shard: Shard, end: &Head, asked_at: Tick) {
        self.witness.proves(end);
        self.gateway.prove(shard, asked_at);
    }

    fn tell(&mut self, shard: Shard) {
        if let Some(place) = self.trail(shard).at() {
            self.witness.stands_at(&place);
        }
    }

    fn trail(&mut self, shard: Shard) -> &mut Trail {
        self.trails.get_mut(&shard).expect("every key's shard has a trail")
    }
}
