//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// The longest wait.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Nothing before the first attempt after a loss; then up to 50 ms, 100 ms, … 1 s, so that a fleet does not come back
/// in step.
pub fn backoff(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let most = (Duration::from_millis(25) * (1 << failures.min(6))).min(MAX_BACKOFF);
    // Without randomness the wait is the longest: right, and only less well spread.
    let share = getrandom::u32().unwrap_or(u32::MAX);
    most / 2 + (most / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_at_once_and_none_waits_longer_than_a_second() {
        assert_eq!(backoff(0), Duration::ZERO);
        for failures in 1..100 {
            let wait = backoff(failures);
            assert!(wait > Duration::ZERO && wait <= MAX_BACKOFF, "{failures}: {wait:?}");
        }
    }
}
