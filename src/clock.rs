//! Time, injected.
//!
//! Elapsed time is `CLOCK_BOOTTIME`, which counts while the machine is suspended. Time of day is the fleet's: what the
//! store said last, or without one the wall clock as it stood at the start, plus what has elapsed since. A step of a
//! clock, this machine's or the store's, changes nothing here: it is noticed and told.
//! This is the only file that may read a raw clock; `clippy.toml` bans them everywhere else.
#![allow(clippy::disallowed_methods, reason = "the one place where raw clocks are read")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

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

    /// Whole milliseconds since boot.
    pub const fn as_millis(self) -> i64 {
        (self.0 / 1_000_000) as i64
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

    /// The fleet's time of day was `time` at some moment between `asked_at` and `answered_at`: time of day follows it, as
    /// far as two clocks can drift apart. An answer that was long on its way says little, and moves nothing that could be
    /// right. The first time, it is taken as it is. After that time of day never goes back: where it is ahead, it stands still.
    ///
    /// # Errors
    /// It is further off than that: a clock was set. Nothing changes.
    fn steer(&self, time: Timestamp, asked_at: Tick, answered_at: Tick) -> Result<(), Stepped>;

    /// How many milliseconds the machine's own time of day is ahead of the fleet's.
    fn machine_ahead_ms(&self) -> i64;
}

/// A clock was set to another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} ms {}", .ahead_ms.unsigned_abs(), if *.ahead_ms > 0 { "ahead" } else { "behind" })]
pub struct Stepped {
    /// By how many milliseconds it is ahead of what has elapsed.
    pub ahead_ms: i64,
}

/// A clock is corrected by so much without having been set to another time.
const TOLERANCE_MS: i64 = 1_000;
/// And two good clocks drift apart by at most a thousandth.
const DRIFT: i64 = 1_000;

/// The offset between elapsed time and time of day, which can be steered.
#[derive(Debug)]
struct TimeOfDay {
    /// Milliseconds to add to elapsed time.
    offset_ms: AtomicI64,
    /// When it was last steered, in nanoseconds of a [`Tick`]; 0 is never.
    steered: AtomicU64,
    /// The time of day that was reached when it was last found to be ahead: it does not go back behind that.
    reached_ms: AtomicI64,
}

impl TimeOfDay {
    fn starting(offset_ms: i64) -> TimeOfDay {
        TimeOfDay {
            offset_ms: AtomicI64::new(offset_ms),
            steered: AtomicU64::new(0),
            reached_ms: AtomicI64::new(i64::MIN),
        }
    }

    fn at(&self, tick: Tick) -> Timestamp {
        let now = self.offset_ms.load(Ordering::Acquire).saturating_add(tick.as_millis());
        Timestamp::from_millis(now.max(self.reached_ms.load(Ordering::Relaxed)))
    }

    fn steer(&self, time: Timestamp, asked_at: Tick, answered_at: Tick) -> Result<(), Stepped> {
        // What it can be: the store read its clock in between, and both are cut off to whole milliseconds.
        let (least, most) = (offset(time, answered_at) - 1, offset(time, asked_at) + 1);
        let (known, last) = (self.offset_ms.load(Ordering::Relaxed), self.steered.load(Ordering::Relaxed));
        let mut next = least.midpoint(most);
        if last > 0 {
            next = known.clamp(least, most);
            let tolerance = TOLERANCE_MS + answered_at.since(Tick(last)).as_millis() as i64 / DRIFT;
            let ahead_ms = next.saturating_sub(known);
            if ahead_ms.abs() > tolerance {
                return Err(Stepped { ahead_ms });
            }
            if ahead_ms < 0 {
                let reached = known.saturating_add(answered_at.as_millis());
                self.reached_ms.fetch_max(reached, Ordering::Relaxed);
            }
        }
        self.offset_ms.store(next, Ordering::Release);
        self.steered.store(answered_at.as_nanos(), Ordering::Relaxed);
        Ok(())
    }
}

fn offset(wall: Timestamp, tick: Tick) -> i64 {
    wall.as_millis().saturating_sub(tick.as_millis())
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    day: TimeOfDay,
}

impl SystemClock {
    /// Reads both clocks once; from then on the machine's time of day is asked only to be compared. Time of day is never
    /// ahead of it, or a key would be refused before it expires: what passes between the two readings is lost, not won.
    pub fn start() -> SystemClock {
        let wall = clock_gettime(ClockId::Realtime);
        let tick = boottime();
        let offset_ns = nanos(wall) - i128::from(tick.as_nanos());
        SystemClock { day: TimeOfDay::starting(offset_ns.div_euclid(1_000_000) as i64) }
    }

    /// It cannot be earlier than `floor`: somebody saw that time pass. For an embedded store, which has no other clock than
    /// this machine's.
    pub fn not_before(&self, floor: Timestamp) {
        let least = offset(floor, boottime());
        self.day.offset_ms.fetch_max(least, Ordering::Relaxed);
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let tick = boottime();
        Moment { tick, wall: self.day.at(tick) }
    }

    fn steer(&self, time: Timestamp, asked_at: Tick, answered_at: Tick) -> Result<(), Stepped> {
        self.day.steer(time, asked_at, answered_at)
    }

    fn machine_ahead_ms(&self) -> i64 {
        machine_time().as_millis().saturating_sub(self.now().wall.as_millis())
    }
}

fn machine_time() -> Timestamp {
    Timestamp::from_millis(nanos(clock_gettime(ClockId::Realtime)).div_euclid(1_000_000) as i64)
}

fn boottime() -> Tick {
    Tick(nanos(clock_gettime(ClockId::Boottime)) as u64)
}

fn nanos(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// A clock that stands still until it is told to move. For tests and models.
#[derive(Clone, Debug)]
pub struct ManualClock {
    elapsed: Arc<AtomicU64>,
    day: Arc<TimeOfDay>,
}

impl ManualClock {
    /// A clock that stands at `epoch`.
    pub fn at(epoch: Timestamp) -> ManualClock {
        let day = TimeOfDay::starting(offset(epoch, Tick(0)));
        ManualClock { elapsed: Arc::new(AtomicU64::new(0)), day: Arc::new(day) }
    }

    /// Lets `elapsed` pass.
    pub fn advance(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).expect("a test does not wait for centuries");
        self.elapsed.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let tick = Tick(self.elapsed.load(Ordering::SeqCst));
        Moment { tick, wall: self.day.at(tick) }
    }

    fn steer(&self, time: Timestamp, asked_at: Tick, answered_at: Tick) -> Result<(), Stepped> {
        self.day.steer(time, asked_at, answered_at)
    }

    fn machine_ahead_ms(&self) -> i64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    #[test]
    fn the_system_clock_moves_forward_and_knows_the_day() {
        let clock = SystemClock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.tick >= first.tick);
        assert!(second.wall >= first.wall);
        assert!(first.wall > Timestamp::from_millis(1_700_000_000_000));
        assert!(clock.machine_ahead_ms().abs() < 60_000);
    }

    #[test]
    fn time_of_day_is_never_ahead_of_the_machine_that_it_was_started_by() {
        for _ in 0..2_000 {
            let clock = SystemClock::start();
            // What has elapsed is cut off to whole milliseconds at other moments than time of day: look for a whole one.
            for _ in 0..20 {
                let read = clock.now().wall;
                assert!(read <= machine_time());
            }
        }
    }

    #[test]
    fn a_time_that_somebody_saw_pass_does_not_come_again() {
        let clock = SystemClock::start();
        let seen = clock.now().wall.plus(HOUR);
        clock.not_before(seen);
        assert!(clock.now().wall >= Timestamp::from_millis(seen.as_millis() - 1));
        clock.not_before(START);
        assert!(clock.now().wall >= Timestamp::from_millis(seen.as_millis() - 1));
    }

    /// As if the answer had taken no time.
    fn steer(clock: &ManualClock, time: Timestamp) -> Result<(), Stepped> {
        let now = clock.now().tick;
        clock.steer(time, now, now)
    }

    fn off_ms(clock: &ManualClock, time: Timestamp) -> i64 {
        clock.now().wall.as_millis() - time.as_millis()
    }

    #[test]
    fn the_first_word_of_the_store_counts_and_later_ones_as_far_as_clocks_drift() {
        let clock = ManualClock::at(START);
        clock.advance(Duration::from_secs(1));
        assert_eq!(steer(&clock, START.plus(HOUR)), Ok(()));
        assert_eq!(clock.now().wall, START.plus(HOUR));
        clock.advance(Duration::from_secs(60));
        let slewed = clock.now().wall.plus(Duration::from_millis(900));
        assert_eq!(steer(&clock, slewed), Ok(()));
        assert!(off_ms(&clock, slewed).abs() <= 1);
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_moves_nothing() {
        let clock = ManualClock::at(START);
        clock.advance(Duration::from_secs(1));
        steer(&clock, START).unwrap();
        let asked_at = clock.now().tick;
        clock.advance(Duration::from_millis(800));
        let before = clock.now();
        // The store stood still and read its clock at the very end, or at the very beginning.
        for read in [before.wall, START] {
            assert_eq!(clock.steer(read, asked_at, before.tick), Ok(()));
            assert_eq!(clock.now(), before);
        }
    }

    #[test]
    fn time_of_day_stands_still_where_it_was_ahead_and_never_goes_back() {
        let clock = ManualClock::at(START);
        clock.advance(Duration::from_secs(1));
        steer(&clock, START).unwrap();
        clock.advance(Duration::from_secs(1));
        let reached = clock.now().wall;
        let behind = Timestamp::from_millis(reached.as_millis() - 500);
        assert_eq!(steer(&clock, behind), Ok(()));
        assert_eq!(clock.now().wall, reached);
        clock.advance(Duration::from_millis(400));
        assert_eq!(clock.now().wall, reached);
        clock.advance(Duration::from_millis(400));
        assert!(off_ms(&clock, behind.plus(Duration::from_millis(800))).abs() <= 1);
    }

    #[test]
    fn a_step_of_the_stores_clock_changes_nothing_and_is_told() {
        let clock = ManualClock::at(START);
        clock.advance(Duration::from_secs(1));
        steer(&clock, START).unwrap();
        clock.advance(Duration::from_secs(1));
        let before = clock.now();
        let hour_ms = 3_600_000;
        for ahead_ms in [hour_ms, -hour_ms, 1_003, -1_003] {
            let set = Timestamp::from_millis(before.wall.as_millis() + ahead_ms);
            // By a millisecond it could be right.
            assert_eq!(steer(&clock, set), Err(Stepped { ahead_ms: ahead_ms - ahead_ms.signum() }));
            assert_eq!(clock.now(), before);
        }
    }
}
