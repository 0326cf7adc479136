//! Waiting: for a condition, with a bound, and never for a time.
#![allow(
    clippy::disallowed_methods,
    reason = "a test bounds its waits by real time, and asks for dates relative to now"
)]

use std::sync::{Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine; a test that waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds; panics if it does not within `deadline`.
pub fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    eventually_some(what, deadline, || condition().then_some(()));
}

/// Waits until `probe` finds something, and returns it; panics if it does not within `deadline`.
pub fn eventually_some<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Waits until `probe` says the same for a good while: a stream that stands still, output that is complete.
pub fn settles<T: PartialEq>(what: &str, mut probe: impl FnMut() -> T) -> T {
    const SAME: usize = 30;
    let mut last = probe();
    let mut same = 0;
    eventually(what, PATIENCE, || {
        let next = probe();
        same = if next == last { same + 1 } else { 0 };
        last = next;
        same >= SAME
    });
    last
}

/// Whether the long tests are wanted, which take minutes.
pub fn full() -> bool {
    std::env::var_os("KEYGATE_TEST_FULL").is_some()
}

/// A point in time, on one clock for the whole process that nobody sets: since the clock was first read.
pub type Moment = Duration;

/// Now.
pub fn moment() -> Moment {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    FIRST.elapsed()
}

/// The moment of a date. One from before the clock was first read is its beginning.
pub fn moment_of(rfc3339: &str) -> Moment {
    let ahead = jiff::Timestamp::now().duration_until(date(rfc3339));
    if ahead.is_negative() {
        moment().saturating_sub(ahead.unsigned_abs())
    } else {
        moment() + ahead.unsigned_abs()
    }
}

fn date(rfc3339: &str) -> jiff::Timestamp {
    rfc3339.parse().unwrap_or_else(|_| panic!("not a date: {rfc3339}"))
}

/// Waits for what only the clock can tell: that a fault has lasted, that a deadline has passed.
pub fn wait_until(then: Moment) {
    std::thread::sleep(then.saturating_sub(moment()));
}

/// Leaves the processor to others between two looks at something.
pub fn pause(pause: Duration) {
    std::thread::sleep(pause);
}

/// How long `action` takes, and what it returns.
pub fn timed<T>(action: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = action();
    (started.elapsed(), result)
}

/// Now and `later`, as RFC 3339 in whole milliseconds, as keygate keeps dates.
pub fn rfc3339_in(later: Duration) -> String {
    let then = (jiff::Timestamp::now() + later).as_millisecond();
    jiff::Timestamp::from_millisecond(then).expect("it is soon").to_string()
}

/// Now less `ago`, as RFC 3339.
pub fn rfc3339_ago(ago: Duration) -> String {
    (jiff::Timestamp::now() - ago).to_string()
}

/// Whether the moment of a date is over, by this machine's clock.
pub fn has_passed(rfc3339: &str) -> bool {
    date(rfc3339) <= jiff::Timestamp::now()
}

/// Whether a date of something that happened since `before` can be right. What a gateway that has just started
/// on a busy machine knows of the fleet's time of day is not exact.
pub fn happened_since(before: Moment, rfc3339: &str) -> bool {
    const MARGIN: Duration = Duration::from_secs(1);
    let then = moment_of(rfc3339);
    then + MARGIN >= before && then <= moment() + MARGIN
}

/// Closed until it is opened, then open for ever.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until the gate is open; panics if it stays closed.
    pub fn wait(&self) {
        let open = self.open.lock().unwrap();
        let (open, _) = self.opened.wait_timeout_while(open, 3 * PATIENCE, |open| !*open).unwrap();
        assert!(*open, "a gate was never opened");
    }
}
