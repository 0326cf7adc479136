//! How far one shard's log was applied here, and what that says of an entry or of the log's end. Pure.

use std::collections::VecDeque;

use crate::model::{Gap, Head, LogEntry};

/// How many of the places passed last are remembered, beside where the last question found us.
const REMEMBERED: usize = 1_024;

/// The way that this gateway went along one log.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The place reached, and those passed before it, oldest first. Empty before the log was first read.
    passed: VecDeque<Head>,
    /// The place reached when the end of the log was last asked for.
    asked_from: Option<Head>,
}

/// What an entry is to a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next one: apply it, then [`advance`](Trail::advance).
    Next,
    /// Applied already.
    Known,
    /// Neither: something between is missing, or this is another log.
    Apart,
}

/// What the end of the log is to a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything up to that end was applied.
    Current,
    /// There is more to read.
    Behind,
    /// It cannot be said: the trail moved on so far since the question that this end is forgotten. Ask again.
    Unclear,
    /// That log does not contain what was applied here.
    Lost(Gap),
}

impl Trail {
    /// The place reached; `None` before the log was first read.
    pub fn at(&self) -> Option<Head> {
        self.passed.back().copied()
    }

    /// The end of the log will be asked for now. To be called before the question is sent.
    pub fn asking(&mut self) {
        self.asked_from = self.at();
        self.passed.drain(..self.passed.len().saturating_sub(1));
    }

    /// What `entry` is to us.
    pub fn judge(&self, entry: &LogEntry) -> Step {
        match self.at() {
            Some(at) if entry.follows(&at) => Step::Next,
            Some(_) if self.passed.contains(&entry.head) => Step::Known,
            Some(_) | None => Step::Apart,
        }
    }

    /// `entry` is the next one and was applied.
    pub fn advance(&mut self, entry: &LogEntry) {
        debug_assert_eq!(self.judge(entry), Step::Next, "only the next entry moves the position");
        if self.passed.len() == REMEMBERED {
            self.passed.pop_front();
        }
        self.passed.push_back(entry.head);
    }

    /// Where we stand, if the log ended at `head` when it was asked for after [`asking`](Trail::asking).
    pub fn compare(&self, head: &Head) -> Standing {
        let Some(at) = self.at() else { return Standing::Lost(Gap::Start) };
        if self.passed.contains(head) || self.asked_from == Some(*head) {
            Standing::Current
        } else if head.seq > at.seq {
            Standing::Behind
        } else if self.asked_from.is_some_and(|asked_from| head.seq <= asked_from.seq)
            || self.passed.front().is_some_and(|oldest| head.seq >= oldest.seq)
        {
            // It ended before what had been applied, or has another entry in its place.
            Standing::Lost(Gap::Forked)
        } else {
            Standing::Unclear
        }
    }

    /// Why `entry`, read from the log behind the place reached, is not the next one.
    pub fn why_apart(&self, entry: &LogEntry) -> Gap {
        match self.at() {
            None => Gap::Start,
            Some(at) if entry.head.seq > at.seq.saturating_add(1) => Gap::Trimmed,
            Some(_) => Gap::Forked,
        }
    }

    /// From here on, whatever was before. Only after everything that rested on the old trail was given up.
    pub fn restart(&mut self, head: Head) {
        self.passed.clear();
        self.passed.push_back(head);
        self.asked_from = Some(head);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Event, Nonce, Shard, Timestamp};

    fn head(seq: u64, nonce: u64) -> Head {
        Head { seq, nonce: Nonce::from_u64(nonce) }
    }

    fn entry(seq: u64, prev: u64, nonce: u64) -> LogEntry {
        let event = Event::canary(Shard::all().next().unwrap(), Timestamp::from_millis(0));
        LogEntry { head: head(seq, nonce), prev: Nonce::from_u64(prev), event }
    }

    fn at(seq: u64, nonce: u64) -> Trail {
        let mut trail = Trail::default();
        trail.restart(head(seq, nonce));
        trail.asking();
        trail
    }

    #[test]
    fn nothing_is_known_before_the_log_was_read() {
        let trail = Trail::default();
        assert_eq!(trail.judge(&entry(1, 0, 1)), Step::Apart);
        assert_eq!(trail.compare(&head(0, 0)), Standing::Lost(Gap::Start));
    }

    #[test]
    fn only_an_entry_that_chains_moves_the_position() {
        let mut trail = at(7, 70);
        assert_eq!(trail.judge(&entry(8, 71, 80)), Step::Apart, "another predecessor");
        assert_eq!(trail.judge(&entry(9, 70, 90)), Step::Apart, "one is missing");
        assert_eq!(trail.judge(&entry(8, 70, 80)), Step::Next);
        trail.advance(&entry(8, 70, 80));
        assert_eq!(trail.at(), Some(head(8, 80)));
        assert_eq!(trail.judge(&entry(8, 70, 80)), Step::Known);
        assert_eq!(trail.judge(&entry(8, 70, 81)), Step::Apart, "another entry in its place");
    }

    #[test]
    fn an_end_that_was_passed_is_current_and_a_later_one_is_not() {
        let mut trail = at(7, 70);
        assert_eq!(trail.compare(&head(7, 70)), Standing::Current);
        assert_eq!(trail.compare(&head(8, 80)), Standing::Behind);
        // It moves on between the question and the answer.
        trail.advance(&entry(8, 70, 80));
        assert_eq!(trail.compare(&head(7, 70)), Standing::Current);
        assert_eq!(trail.compare(&head(8, 80)), Standing::Current);
    }

    #[test]
    fn an_end_before_what_was_applied_or_with_another_name_is_another_log() {
        let trail = at(7, 70);
        for end in [head(6, 60), head(0, 1), head(7, 71)] {
            assert_eq!(trail.compare(&end), Standing::Lost(Gap::Forked), "{end}");
        }
        let mut moved = at(7, 70);
        moved.advance(&entry(8, 70, 80));
        assert_eq!(moved.compare(&head(8, 81)), Standing::Lost(Gap::Forked));
        assert_eq!(moved.compare(&head(7, 71)), Standing::Lost(Gap::Forked));
    }

    #[test]
    fn an_end_that_is_forgotten_is_neither_proof_nor_loss() {
        let mut trail = at(0, 1_000_000);
        let mut before = 1_000_000;
        for seq in 1..=2 * REMEMBERED as u64 {
            trail.advance(&entry(seq, before, seq));
            before = seq;
        }
        assert_eq!(trail.compare(&head(5, 5)), Standing::Unclear);
        assert_eq!(trail.compare(&head(0, 1_000_000)), Standing::Current, "where it was when it asked");
        trail.asking();
        assert_eq!(trail.compare(&head(5, 5)), Standing::Lost(Gap::Forked), "asked again, it is certain");
        assert_eq!(trail.compare(&head(2 * REMEMBERED as u64, before)), Standing::Current);
    }

    proptest! {
        /// Two logs with a common beginning: a trail along the one never takes the other for it, wherever they part.
        #[test]
        fn a_fork_is_never_taken_for_the_log(common in 0u64..20, ours in 1u64..20, theirs in 0u64..40) {
            let mut trail = at(0, 1);
            let mut nonce = 1;
            for seq in 1..=common + ours {
                let next = seq * 10;
                trail.advance(&entry(seq, nonce, next));
                nonce = next;
            }
            trail.asking();
            let seq = common + theirs;
            let end = head(seq, if theirs == 0 { (common * 10).max(1) } else { seq * 10 + 1 });
            let standing = trail.compare(&end);
            prop_assert_ne!(standing, Standing::Current);
            if standing == Standing::Behind {
                // The entry behind ours is read, and does not follow.
                let read = entry(common + ours + 1, (common + ours) * 10 + 1, (common + ours + 1) * 10 + 1);
                prop_assert_eq!(trail.judge(&read), Step::Apart);
                prop_assert_eq!(trail.why_apart(&read), Gap::Forked);
            }
        }
    }
}
