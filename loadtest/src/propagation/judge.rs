//! When a gateway stopped accepting a key, judged from what it answered.

use std::time::Duration;

/// One request. Times are since the beginning of its round.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    /// Just before its first byte was written.
    pub started: Duration,
    /// When its answer had been read.
    pub answered: Duration,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused,
    /// Neither, as 503.
    Unclear,
}

impl Verdict {
    pub fn of(status: u16) -> Verdict {
        match status {
            200 => Verdict::Accepted,
            401 => Verdict::Refused,
            _ => Verdict::Unclear,
        }
    }
}

/// When one gateway stopped accepting the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The start of the first request that was refused and after which none was accepted.
    pub refused: Duration,
    /// When the answer to that request had been read.
    pub told: Duration,
    /// The start of the last request that was accepted.
    pub accepted: Option<Duration>,
}

/// `None` if the gateway never refused for good. `polls` are in the order of their starts.
pub fn stop(polls: &[Poll]) -> Option<Stop> {
    let last = polls.iter().rposition(|poll| poll.verdict == Verdict::Accepted);
    let after = last.map_or(0, |last| last + 1);
    let first = polls[after..].iter().find(|poll| poll.verdict == Verdict::Refused)?;
    Some(Stop {
        refused: first.started,
        told: first.answered,
        accepted: last.map(|last| polls[last].started),
    })
}

/// How many requests that started at `since` or later were accepted.
pub fn accepted_since(polls: &[Poll], since: Duration) -> usize {
    polls.iter().filter(|poll| poll.started >= since && poll.verdict == Verdict::Accepted).count()
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Accepted, Refused, Unclear};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A request each 10 ms that takes 1 ms.
    fn polls(verdicts: &[Verdict]) -> Vec<Poll> {
        let poll = |(n, &verdict)| {
            let started = MS * 10 * n;
            Poll { started, answered: started + MS, verdict }
        };
        (0..).zip(verdicts).map(poll).collect()
    }

    #[test]
    fn a_gateway_stops_with_its_first_refusal_that_is_for_good() {
        let stopped = stop(&polls(&[Accepted, Refused, Accepted, Unclear, Refused, Refused]));
        assert_eq!(stopped, Some(Stop { refused: MS * 40, told: MS * 41, accepted: Some(MS * 20) }));
    }

    #[test]
    fn a_gateway_that_accepts_in_the_end_has_not_stopped() {
        assert_eq!(stop(&polls(&[Accepted, Refused, Accepted])), None);
        assert_eq!(stop(&polls(&[Accepted, Unclear])), None);
        assert_eq!(stop(&[]), None);
    }

    #[test]
    fn only_what_starts_later_is_wrong() {
        let polls = polls(&[Accepted, Accepted, Refused, Accepted]);
        assert_eq!(accepted_since(&polls, MS * 11), 1);
        assert_eq!(accepted_since(&polls, MS * 10), 2);
        assert_eq!(accepted_since(&polls, MS * 31), 0);
    }
}
