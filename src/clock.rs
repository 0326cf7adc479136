//! Time, injected.
//!
//! Elapsed time is `CLOCK_BOOTTIME`, which counts while the machine is suspended. Time of day is the wall clock
//! as it stood at the start plus what has elapsed since: a step of the wall clock changes nothing here.
//! This is the only file that may read a raw clock; `clippy.toml` bans them everywhere else.
#![allow(clippy::disallowed_methods, reason = "the one place where raw clocks are read")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::model::Timestamp;

/// A point in elapsed time: nanoseconds since the machine was booted, suspension included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// The tick `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Tick {
        Tick(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long it is from `earlier` to this tick; zero if `earlier` is later.
    pub const fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This tick and `elapsed` more; saturates.
    pub fn plus(self, elapsed: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The two times of one moment, from one reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Elapsed time: for ages, limits and durations.
    pub tick: Tick,
    /// Time of day: for expiry dates and last-used dates.
    pub wall: Timestamp,
}

/// Where everything in keygate gets its time from.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Moment,
}

impl SystemClock {
    /// Reads both clocks once; from then on the wall clock is not asked again.
    pub fn start() -> SystemClock {
        let wall = clock_gettime(ClockId::Realtime);
        let millis = wall.tv_sec * 1_000 + wall.tv_nsec / 1_000_000;
        SystemClock { started: Moment { tick: boottime(), wall: Timestamp::from_millis(millis) } }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let tick = boottime();
        Moment { tick, wall: self.started.wall.plus(tick.since(self.started.tick)) }
    }
}

fn boottime() -> Tick {
    let time = clock_gettime(ClockId::Boottime);
    Tick(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// A clock that stands still until it is told to move. For tests and models.
#[derive(Clone, Debug)]
pub struct ManualClock {
    elapsed: Arc<AtomicU64>,
    epoch: Timestamp,
}

impl ManualClock {
    /// A clock that stands at `epoch`.
    pub fn at(epoch: Timestamp) -> ManualClock {
        ManualClock { elapsed: Arc::new(AtomicU64::new(0)), epoch }
    }

    /// Lets `elapsed` pass.
    pub fn advance(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).expect("a test does not wait for centuries");
        self.elapsed.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let nanos = self.elapsed.load(Ordering::SeqCst);
        Moment { tick: Tick(nanos), wall: self.epoch.plus(Duration::from_nanos(nanos)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_forward_and_knows_the_day() {
        let clock = SystemClock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.tick >= first.tick);
        assert!(second.wall >= first.wall);
        assert!(first.wall > Timestamp::from_millis(1_700_000_000_000));
    }
}
