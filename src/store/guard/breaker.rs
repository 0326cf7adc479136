//! The circuit breaker: after some failures in a row nobody asks for a while, then one may try.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Tick;

/// Closed, open, or with one attempt under way that decides.
#[derive(Debug)]
pub(super) struct Breaker {
    most_failures: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everybody may ask; so many failures in a row so far.
    Closed { failures: u32 },
    /// Nobody may ask before this tick.
    Open { until: Tick },
    /// One asks, nobody else may. The circuit had been open until this tick.
    Probing { since: Tick },
}

/// The right to ask the store once. Dropped without a verdict, it counts as not asked.
#[derive(Debug)]
#[must_use]
pub(super) struct Attempt<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    /// Opens for `open_for` after `most_failures` failures in a row (0 counts as 1).
    pub(super) fn new(most_failures: u32, open_for: Duration) -> Breaker {
        Breaker { most_failures, open_for, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// The right to ask, if the circuit is closed or it is time for a probe.
    pub(super) fn admit(&self, now: Tick) -> Option<Attempt<'_>> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => Some(Attempt { breaker: self, is_probe: false }),
            State::Open { until } if now >= until => {
                *state = State::Probing { since: until };
                Some(Attempt { breaker: self, is_probe: true })
            }
            State::Open { .. } | State::Probing { .. } => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment: nothing can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The store answered.
    pub(super) fn succeeded(mut self) {
        let mut state = self.breaker.state();
        match *state {
            State::Closed { .. } => *state = State::Closed { failures: 0 },
            State::Probing { .. } if self.is_probe => *state = State::Closed { failures: 0 },
            // Asked before the circuit opened: old news.
            State::Open { .. } | State::Probing { .. } => {}
        }
        self.is_probe = false;
    }

    /// The store failed or did not answer.
    pub(super) fn failed(mut self, now: Tick) {
        let mut state = self.breaker.state();
        let open = State::Open { until: now.plus(self.breaker.open_for) };
        match *state {
            State::Closed { failures } if failures.saturating_add(1) >= self.breaker.most_failures => {
                *state = open;
            }
            State::Closed { failures } => *state = State::Closed { failures: failures + 1 },
            State::Probing { .. } if self.is_probe => *state = open,
            State::Open { .. } | State::Probing { .. } => {}
        }
        self.is_probe = false;
    }
}

/// A probe whose caller went away must not keep the circuit open for ever: the next one probes.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let mut state = self.breaker.state();
            if let State::Probing { since } = *state {
                *state = State::Open { until: since };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_probe_closes_it() {
        let breaker = Breaker::new(3, OPEN_FOR);
        breaker.admit(at(0)).unwrap().failed(at(0));
        breaker.admit(at(0)).unwrap().failed(at(0));
        breaker.admit(at(0)).unwrap().succeeded();
        for _ in 0..3 {
            breaker.admit(at(0)).unwrap().failed(at(10));
        }
        assert!(breaker.admit(at(1_009)).is_none());
        let probe = breaker.admit(at(1_010)).unwrap();
        assert!(breaker.admit(at(9_999)).is_none(), "only one probes");
        probe.succeeded();
        assert!(breaker.admit(at(1_010)).is_some());
    }

    #[test]
    fn a_failed_probe_opens_it_again() {
        let breaker = Breaker::new(1, OPEN_FOR);
        breaker.admit(at(0)).unwrap().failed(at(0));
        breaker.admit(at(1_000)).unwrap().failed(at(1_500));
        assert!(breaker.admit(at(2_499)).is_none());
        assert!(breaker.admit(at(2_500)).is_some());
    }

    #[test]
    fn an_abandoned_probe_leaves_room_for_the_next() {
        let breaker = Breaker::new(1, OPEN_FOR);
        breaker.admit(at(0)).unwrap().failed(at(0));
        drop(breaker.admit(at(1_000)).unwrap());
        assert!(breaker.admit(at(1_000)).is_some());
    }

    #[test]
    fn news_from_before_it_opened_changes_nothing() {
        let breaker = Breaker::new(1, OPEN_FOR);
        let (slow_success, slow_failure) = (breaker.admit(at(0)).unwrap(), breaker.admit(at(0)).unwrap());
        breaker.admit(at(0)).unwrap().failed(at(0));
        slow_success.succeeded();
        assert!(breaker.admit(at(999)).is_none());
        let probe = breaker.admit(at(1_000)).unwrap();
        slow_failure.failed(at(1_000));
        probe.succeeded();
        assert!(breaker.admit(at(1_000)).is_some());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit,
        Succeed(prop::sample::Index),
        Fail(prop::sample::Index),
        Abandon(prop::sample::Index),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Admit),
            2 => any::<prop::sample::Index>().prop_map(Step::Succeed),
            4 => any::<prop::sample::Index>().prop_map(Step::Fail),
            1 => any::<prop::sample::Index>().prop_map(Step::Abandon),
            2 => (0u64..700).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever the order: never two probes at once, nobody is let through while it is open, it opens exactly
        /// after `most_failures` in a row, and it can always recover.
        #[test]
        fn it_keeps_its_word(most_failures in 1u32..5, steps in prop::collection::vec(step(), 0..200)) {
            let breaker = Breaker::new(most_failures, OPEN_FOR);
            let mut now = 0;
            let mut under_way: Vec<Attempt<'_>> = Vec::new();
            for step in steps {
                let before = *breaker.state();
                match step {
                    Step::Wait(millis) => now += millis,
                    Step::Admit => {
                        let attempt = breaker.admit(at(now));
                        let expected = match before {
                            State::Closed { .. } => true,
                            State::Open { until } => at(now) >= until,
                            State::Probing { .. } => false,
                        };
                        prop_assert_eq!(attempt.is_some(), expected);
                        under_way.extend(attempt);
                    }
                    Step::Succeed(index) if !under_way.is_empty() => {
                        let attempt = under_way.swap_remove(index.index(under_way.len()));
                        let decides = attempt.is_probe || matches!(before, State::Closed { .. });
                        attempt.succeeded();
                        let expected = if decides { State::Closed { failures: 0 } } else { before };
                        prop_assert_eq!(*breaker.state(), expected);
                    }
                    Step::Fail(index) if !under_way.is_empty() => {
                        let attempt = under_way.swap_remove(index.index(under_way.len()));
                        let open = State::Open { until: at(now).plus(OPEN_FOR) };
                        let expected = match before {
                            State::Closed { failures } if failures + 1 < most_failures => State::Closed { failures: failures + 1 },
                            State::Closed { .. } => open,
                            State::Probing { .. } if attempt.is_probe => open,
                            other => other,
                        };
                        attempt.failed(at(now));
                        prop_assert_eq!(*breaker.state(), expected);
                    }
                    Step::Abandon(index) if !under_way.is_empty() => {
                        drop(under_way.swap_remove(index.index(under_way.len())));
                    }
                    Step::Succeed(_) | Step::Fail(_) | Step::Abandon(_) => {}
                }
                let probes = under_way.iter().filter(|attempt| attempt.is_probe).count();
                prop_assert_eq!(probes, usize::from(matches!(*breaker.state(), State::Probing { .. })));
            }
            under_way.clear();
            let probe = breaker.admit(at(now).plus(OPEN_FOR));
            prop_assert!(probe.is_some());
        }
    }
}
