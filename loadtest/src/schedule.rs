//! When requests are due.

use std::iter::{self, Peekable};
use std::time::Duration;

/// When requests are due, as times since the start, in order.
pub enum Schedule {
    /// At these times, all before the end.
    Arrivals(Peekable<Box<dyn Iterator<Item = Duration>>>),
    /// Always: as many as can be answered.
    FlatOut,
}

/// Arrivals of clients that know nothing of each other: `rate` a second on average, at random. The same seed makes the
/// same arrivals.
pub fn poisson(rate: f64, span: Duration, seed: u64) -> Schedule {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut at = 0.0;
    let arrivals = iter::from_fn(move || {
        at += -(1.0 - random.f64()).ln() / rate;
        // A rate of 0 has its first arrival at infinity.
        Duration::try_from_secs_f64(at).ok().filter(|&at| at < span)
    });
    Schedule::Arrivals((Box::new(arrivals) as Box<dyn Iterator<Item = Duration>>).peekable())
}

/// Always due: as many as can be answered.
pub fn flat_out() -> Schedule {
    Schedule::FlatOut
}

/// So many, one after the other, `rate` a second.
pub fn evenly(count: usize, rate: f64) -> Schedule {
    let arrivals = (0..count).map(move |nth| Duration::from_secs_f64(nth as f64 / rate));
    Schedule::Arrivals((Box::new(arrivals) as Box<dyn Iterator<Item = Duration>>).peekable())
}

/// So many, all due at the beginning.
pub fn burst(count: usize) -> Schedule {
    Schedule::Arrivals(
        (Box::new(iter::repeat_n(Duration::ZERO, count)) as Box<dyn Iterator<Item = Duration>>).peekable(),
    )
}

impl Schedule {
    /// The next request that is due by `now`: when it was. It is begun by whoever takes it.
    pub fn take(&mut self, now: Duration) -> Option<Duration> {
        match self {
            Schedule::Arrivals(arrivals) => arrivals.next_if(|&due| due <= now),
            Schedule::FlatOut => Some(now),
        }
    }

    /// When there is something to take.
    pub fn next_due(&mut self) -> Option<Duration> {
        match self {
            Schedule::Arrivals(arrivals) => arrivals.peek().copied(),
            Schedule::FlatOut => Some(Duration::ZERO),
        }
    }

    /// When requests were due that nobody took.
    pub fn left_over(self) -> impl Iterator<Item = Duration> {
        match self {
            Schedule::Arrivals(arrivals) => Some(arrivals).into_iter().flatten(),
            Schedule::FlatOut => None.into_iter().flatten(),
        }
    }
}

/// The first moment of the raster `offset + n * every` that is not before `now`: what was missed is left out.
pub fn next_on_raster(offset: Duration, every: Duration, now: Duration) -> Duration {
    let passed = now.saturating_sub(offset).as_nanos().div_ceil(every.as_nanos().max(1));
    offset + every * u32::try_from(passed).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_the_rate_that_was_asked_for() {
        let span = Duration::from_secs(10);
        let arrivals: Vec<_> = poisson(2000.0, span, 1).left_over().collect();
        assert!(arrivals.is_sorted() && arrivals.iter().all(|&at| at < span));
        // 20,000 are expected, give or take 141: this is seven times as much.
        assert!(arrivals.len().abs_diff(20_000) < 1000, "{}", arrivals.len());
    }

    #[test]
    fn the_same_seed_makes_the_same_arrivals() {
        let some = |seed| poisson(100.0, Duration::from_secs(1), seed).left_over().collect::<Vec<_>>();
        assert_eq!(some(7), some(7));
        assert_ne!(some(7), some(8));
    }

    #[test]
    fn no_rate_is_no_arrival() {
        assert_eq!(poisson(0.0, Duration::from_secs(1), 1).next_due(), None);
    }

    #[test]
    fn as_many_come_as_were_asked_for() {
        let due: Vec<_> = evenly(5, 1000.0).left_over().collect();
        assert_eq!(due, [0, 1, 2, 3, 4].map(Duration::from_millis));
        assert_eq!(burst(3).left_over().collect::<Vec<_>>(), [Duration::ZERO; 3]);
    }

    #[test]
    fn only_what_is_due_is_taken() {
        let mut schedule = poisson(100.0, Duration::from_secs(1), 1);
        let first = schedule.next_due().unwrap();
        assert_eq!(schedule.take(first / 2), None);
        assert_eq!(schedule.take(first * 2), Some(first));
        assert_eq!(flat_out().take(first), Some(first));
    }

    #[test]
    fn a_raster_goes_on_where_it_would_have_been() {
        let ms = Duration::from_millis;
        assert_eq!(next_on_raster(ms(3), ms(10), ms(0)), ms(3));
        assert_eq!(next_on_raster(ms(3), ms(10), ms(3)), ms(3));
        assert_eq!(next_on_raster(ms(3), ms(10), ms(4)), ms(13));
        assert_eq!(next_on_raster(ms(3), ms(10), ms(57)), ms(63));
    }
}
