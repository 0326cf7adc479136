//! Waiting: for a condition, with a bound, and never for a time.
#![allow(
    clippy::disallowed_methods,
    reason = "a test bounds its waits by real time, and asks for dates relative to now"
)]

use std::sync::{Condvar, Mutex};
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

/// How long `action` takes, and what it returns.
pub fn timed<T>(action: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = action();
    (started.elapsed(), result)
}

/// Now and `later`, as RFC 3339.
pub fn rfc3339_in(later: Duration) -> String {
    (jiff::Timestamp::now() + later).to_string()
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
