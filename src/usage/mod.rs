//! When was a key last used, and who still tries one that is dead?
//!
//! A request leaves a note in memory and goes on; the [`flusher`] writes the notes to the store in batches. The
//! latest use of a key wins, and uses are counted; so are attempts with a key that is revoked or has expired, which
//! are evidence of a leak or of a forgotten service. What cannot be written yet is kept and merged, up to a bound.

pub mod flusher;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thread_local::ThreadLocal;

use crate::model::{KeyId, Timestamp};
use crate::observe::Metrics;
use crate::store::Activity;

type Notes = HashMap<KeyId, Activity, foldhash::fast::RandomState>;

/// What became of a request with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It was permitted.
    Permitted,
    /// It was permitted, with a key that was rotated and whose grace has not ended.
    InGrace,
    /// It was refused, because the key is revoked or has expired.
    Refused,
}

impl Use {
    fn at(self, at: Timestamp) -> Activity {
        match self {
            Use::Permitted => Activity { last_used_at: Some(at), uses: 1, ..Activity::default() },
            Use::InGrace => {
                Activity { last_used_at: Some(at), uses: 1, uses_in_grace: 1, ..Activity::default() }
            }
            Use::Refused => Activity { last_refused_at: Some(at), refusals: 1, ..Activity::default() },
        }
    }
}

/// Notes of uses. Each thread has a sheet of its own, so that workers do not wait for each other; only the flusher, who takes
/// them, and then only for as long as it takes to put an empty one in its place.
pub struct Usage {
    sheets: ThreadLocal<Mutex<Notes>>,
    /// Keys on the sheets; on two of them it counts twice.
    noted: AtomicUsize,
    /// Keys that the flusher has taken and not written yet.
    taken: AtomicUsize,
    max_pending: usize,
    metrics: Arc<Metrics>,
}

impl Usage {
    /// Keeps notes of at most `max_pending` keys, and twice as many at the flusher while the store is away: in the
    /// batches that were sent, and behind them. Beyond that, uses of further keys are not kept, and counted as dropped.
    pub fn new(max_pending: usize, metrics: Arc<Metrics>) -> Usage {
        Usage {
            sheets: ThreadLocal::new(),
            noted: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            max_pending,
            metrics,
        }
    }

    /// A request with the key was decided. Never waits for the store.
    pub fn note(&self, key: KeyId, what: Use, at: Timestamp) {
        if what == Use::Refused {
            self.metrics.dead_key_tried();
        }
        let note = what.at(at);
        match open(self.sheets.get_or_default()).entry(key) {
            Entry::Occupied(mut noted) => noted.get_mut().merge(note),
            Entry::Vacant(vacant) => {
                if self.noted.fetch_add(1, Ordering::Relaxed) < self.max_pending {
                    vacant.insert(note);
                } else {
                    self.noted.fetch_sub(1, Ordering::Relaxed);
                    self.metrics.usage_dropped();
                }
            }
        }
    }

    /// How many keys wait to be written; one that was used again while it waited counts twice.
    pub fn pending(&self) -> usize {
        self.noted.load(Ordering::Relaxed) + self.taken.load(Ordering::Relaxed)
    }

    /// Takes all notes. A thread that is just writing one is waited for, so that none is lost.
    fn take(&self) -> Notes {
        let mut taken = Notes::default();
        for sheet in &self.sheets {
            // As much room as it had: the worker need not make it anew.
            let mut empty = Notes::with_capacity_and_hasher(open(sheet).len(), Default::default());
            std::mem::swap(&mut *open(sheet), &mut empty);
            let sheet = empty;
            self.noted.fetch_sub(sheet.len(), Ordering::Relaxed);
            for (key, note) in sheet {
                taken.entry(key).or_default().merge(note);
            }
        }
        taken
    }
}

/// A sheet is a sum of whole notes at any moment, whoever panicked over it.
fn open(sheet: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    sheet.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shard;

    fn usage(max_pending: usize) -> Usage {
        Usage::new(max_pending, Arc::new(Metrics::new()))
    }

    fn key(n: u8) -> KeyId {
        KeyId::new(Shard::all().next().unwrap(), [n; 10])
    }

    #[tokio::test]
    async fn the_latest_use_wins_and_all_are_counted() {
        let usage = usage(10);
        for at in [5, 9, 7] {
            usage.note(key(1), Use::Permitted, Timestamp::from_millis(at));
        }
        let taken = usage.take();
        let last_used_at = Some(Timestamp::from_millis(9));
        assert_eq!(taken[&key(1)], Activity { last_used_at, uses: 3, ..Activity::default() });
        assert!(usage.take().is_empty());
    }

    #[tokio::test]
    async fn uses_in_grace_and_attempts_after_death_are_counted_apart() {
        let metrics = Arc::new(Metrics::new());
        let usage = Usage::new(1, Arc::clone(&metrics));
        let noted = [(Use::Permitted, 5), (Use::InGrace, 6), (Use::Refused, 9), (Use::Refused, 8)];
        for (what, at) in noted {
            usage.note(key(1), what, Timestamp::from_millis(at));
        }
        let expected = Activity {
            last_used_at: Some(Timestamp::from_millis(6)),
            uses: 2,
            uses_in_grace: 1,
            last_refused_at: Some(Timestamp::from_millis(9)),
            refusals: 2,
        };
        // What has no room any more is still counted in total.
        usage.note(key(2), Use::Refused, Timestamp::from_millis(10));
        assert!(metrics.render().contains("keygate_dead_key_attempts_total 3"));
        assert_eq!(usage.take()[&key(1)], expected);
    }

    #[tokio::test]
    async fn notes_are_bounded_but_noted_keys_go_on() {
        let usage = usage(2);
        for n in [1, 2, 3, 1] {
            usage.note(key(n), Use::Permitted, Timestamp::from_millis(i64::from(n)));
        }
        assert_eq!(usage.pending(), 2);
        let taken = usage.take();
        assert_eq!(taken.get(&key(1)).unwrap().uses, 2);
        assert!(!taken.contains_key(&key(3)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_use_is_lost_while_notes_are_taken() {
        let usage = Arc::new(usage(1_000));
        let writers: Vec<_> = (0..4u8)
            .map(|n| {
                let usage = Arc::clone(&usage);
                tokio::task::spawn_blocking(move || {
                    for at in 0..20_000 {
                        usage.note(key(n % 2), Use::Permitted, Timestamp::from_millis(at));
                    }
                })
            })
            .collect();
        let mut counted = 0;
        let mut writing = true;
        while writing {
            writing = writers.iter().any(|writer| !writer.is_finished());
            let taken = usage.take();
            counted += taken.values().map(|note| note.uses).sum::<u64>();
        }
        assert_eq!(counted, 80_000);
    }
}
