//! The deadlines of a worker's connections, looked at in rounds.
//!
//! A timer for each request would be set and cleared at each request, and it hardly ever rings. So a worker has one: at each
//! round it looks at every connection, and wakes the ones that have waited for too long. Nothing on a request's path reads a
//! clock for it. A deadline is kept to within two rounds, and never falls early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;

use crate::clock::{Clock, Tick};

use super::Deadlines;
use super::watch::{Busy, Watch};

/// While draining, a round is no longer than this.
const DRAIN_ROUND: Duration = Duration::from_millis(100);

/// After so many rounds in which no conversation has ended, nobody is going to need at once what is free.
const TIDY_ROUNDS: u8 = 2;

/// What there is to give back to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Tidy {
    Nothing,
    /// What has been free for a moment.
    Some,
    /// All that is free.
    All,
}

/// What the connections of one worker share.
pub(in crate::proxy) struct Rounds {
    clock: Arc<dyn Clock>,
    deadlines: Deadlines,
    /// As of the last round.
    now: Cell<Tick>,
    draining: Cell<bool>,
    drain_began: Notify,
    /// How many rounds more it is about what ended conversations have left.
    tidy: Cell<u8>,
    watches: RefCell<Slab<Rc<Watch>>>,
}

/// A connection's place among those that are looked at; given up when it is dropped.
pub(super) struct Place {
    rounds: Rc<Rounds>,
    number: usize,
}

impl Rounds {
    /// Of a worker without connections.
    pub(in crate::proxy) fn new(clock: Arc<dyn Clock>, deadlines: Deadlines) -> Rounds {
        Rounds {
            now: Cell::new(clock.now().tick),
            clock,
            deadlines,
            draining: Cell::new(false),
            drain_began: Notify::new(),
            tidy: Cell::new(0),
            watches: RefCell::default(),
        }
    }

    /// Waits for the next round, and makes it.
    pub(in crate::proxy) async fn next(&self) {
        tokio::select! {
            () = tokio::time::sleep(self.interval()) => {}
            () = self.drain_began.notified() => {}
        }
        self.look();
    }

    /// A conversation has ended, and what it needed is free.
    pub(super) fn something_is_free(&self) {
        self.tidy.set(TIDY_ROUNDS);
    }

    /// What to do about memory in this round.
    pub(in crate::proxy) fn tidy(&self) -> Tidy {
        let left = self.tidy.get();
        self.tidy.set(left.saturating_sub(1));
        match left {
            0 => Tidy::Nothing,
            1 => Tidy::All,
            _ => Tidy::Some,
        }
    }

    /// Each connection ends with its next answer, or soon.
    pub(in crate::proxy) fn drain(&self) {
        self.draining.set(true);
        for (_, watch) in &*self.watches.borrow() {
            watch.drain();
        }
        self.drain_began.notify_one();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// As of the last round.
    pub(super) fn now(&self) -> Tick {
        self.now.get()
    }

    pub(super) fn enter(self: &Rc<Rounds>, watch: &Rc<Watch>) -> Place {
        Place { rounds: Rc::clone(self), number: self.watches.borrow_mut().insert(Rc::clone(watch)) }
    }

    /// The time from one round to the next.
    pub(super) fn interval(&self) -> Duration {
        let longest = if self.draining.get() { DRAIN_ROUND } else { Duration::from_secs(1) };
        (self.deadlines.shortest() / 4).clamp(Duration::from_millis(10), longest)
    }

    fn look(&self) {
        let now = self.clock.now().tick;
        self.now.set(now);
        for (_, watch) in &*self.watches.borrow() {
            watch.look(now, &self.deadlines);
        }
    }

    /// A moment that has not passed for at least `limit`, though it is told by the last round.
    fn after(&self, limit: Duration) -> Tick {
        self.now.get().plus(self.interval()).plus(limit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.rounds.watches.borrow_mut().remove(self.number);
    }
}

/// How long a request waits for something. Costs nothing while that comes at once.
pub(in crate::proxy) struct Patience {
    limit: Duration,
    over_at: Option<Tick>,
}

impl Patience {
    /// A wait of `limit`, which begins when it is first asked whether it is over.
    pub(in crate::proxy) fn of(limit: Duration) -> Patience {
        Patience { limit, over_at: None }
    }

    /// What was waited for has come: the next wait begins anew.
    pub(in crate::proxy) fn renew(&mut self) {
        self.over_at = None;
    }

    /// Whether the wait is over. If not, the task of the connection is polled again when it may be.
    pub(in crate::proxy) fn is_over(&mut self, busy: &Busy) -> bool {
        let watch = busy.watch();
        let rounds = watch.rounds();
        let over_at = *self.over_at.get_or_insert_with(|| rounds.after(self.limit));
        let over = rounds.now.get() >= over_at;
        if !over {
            watch.wake_at(over_at);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::model::Timestamp;

    const LIMIT: Duration = Duration::from_secs(8);

    fn rounds() -> (ManualClock, Rc<Rounds>) {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let deadlines = Deadlines { head: LIMIT, idle: LIMIT, write: LIMIT, shortest_wait: LIMIT };
        (clock.clone(), Rc::new(Rounds::new(Arc::new(clock), deadlines)))
    }

    #[test]
    fn a_wait_is_never_over_early_and_at_most_two_rounds_late() {
        let (clock, rounds) = rounds();
        let watch = Watch::new(Rc::clone(&rounds));
        let _place = rounds.enter(&watch);
        let busy = watch.begin_service();
        // The wait begins at the end of a round, of which the rounds know only the beginning.
        rounds.look();
        clock.advance(Duration::from_millis(999));
        let mut patience = Patience::of(LIMIT);
        assert!(!patience.is_over(&busy));
        clock.advance(Duration::from_millis(1));
        let mut waited = Duration::from_millis(1);
        loop {
            rounds.look();
            if patience.is_over(&busy) {
                break;
            }
            clock.advance(Duration::from_secs(1));
            waited += Duration::from_secs(1);
        }
        assert!(waited >= LIMIT && waited <= LIMIT + Duration::from_secs(2), "{waited:?}");
        patience.renew();
        assert!(!patience.is_over(&busy));
    }

    #[test]
    fn a_round_is_short_where_deadlines_are() {
        let (_, rounds) = rounds();
        assert_eq!(rounds.interval(), Duration::from_secs(1));
        rounds.drain();
        assert_eq!(rounds.interval(), DRAIN_ROUND);
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let short = Duration::from_millis(200);
        let deadlines = Deadlines { head: LIMIT, idle: LIMIT, write: LIMIT, shortest_wait: short };
        assert_eq!(Rounds::new(clock, deadlines).interval(), Duration::from_millis(50));
    }

    #[test]
    fn what_is_free_is_given_back_by_and_by_and_all_of_it_when_nobody_ends_any_more() {
        let (_, rounds) = rounds();
        assert_eq!(rounds.tidy(), Tidy::Nothing);
        for _ in 0..3 {
            rounds.something_is_free();
            assert_eq!(rounds.tidy(), Tidy::Some);
        }
        assert_eq!([rounds.tidy(), rounds.tidy()], [Tidy::All, Tidy::Nothing]);
    }

    #[test]
    fn who_has_left_is_not_looked_at() {
        let (_, rounds) = rounds();
        let watch = Watch::new(Rc::clone(&rounds));
        let place = rounds.enter(&watch);
        assert_eq!(rounds.watches.borrow().len(), 1);
        drop(place);
        assert!(rounds.watches.borrow().is_empty());
    }
}
