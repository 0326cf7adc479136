//! Follows the logs of all shards: applies every event once it is heard of, knows how far it has come, and proves that
//! nothing is missing.
//!
//! Messages of the bus are hints: they are applied at once, and move the position only where they chain. The logs are the
//! truth: each second, and at once when a message does not chain, their ends are read. Where the log has more, it is
//! replayed from the place reached. Where it does not contain that place, everything may have been missed: a gap.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::trail::{Standing, Step, Trail};
use super::{FeedSink, Log, LogError, Progress};
use crate::backoff::backoff;
use crate::clock::{Clock, Tick};
use crate::model::{Gap, Head, Heads, KeyHash, LogEntry, Message, SHARDS, Shard};

/// Time between two proofs.
const PROOF_INTERVAL: Duration = Duration::from_secs(1);
/// After a question that was not answered.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// A question that is not answered within this is given up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Entries read from a log at a time.
const PAGE: usize = 500;

/// What the bus brings.
#[derive(Debug)]
pub enum News {
    /// A message.
    Message(Message),
    /// Messages may have been lost: the logs are to be read now.
    Doubt,
}

/// Follows the logs for one gateway.
pub struct Follower {
    log: Arc<dyn Log>,
    sink: Arc<dyn FeedSink>,
    clock: Arc<dyn Clock>,
    progress: watch::Sender<Option<Progress>>,
    trails: [Trail; SHARDS],
    /// The ends of the logs as they were read last, and the time from before the question.
    ends: Option<(Tick, Box<Heads>)>,
    /// Shards whose logs have more than was applied, to be replayed in turn.
    behind: VecDeque<Shard>,
    /// The ends are to be read again as soon as possible.
    doubt: bool,
    /// Whether the last question was answered; what changes is logged.
    answered: bool,
    asserting: JoinSet<()>,
}

/// What comes back from the store.
enum Reply {
    Ends(Tick, Result<Box<Heads>, LogError>),
    Page(Shard, Result<Vec<LogEntry>, LogError>),
}

impl Follower {
    /// A follower that has read nothing yet. Its progress is told through `progress`.
    pub fn new(
        log: Arc<dyn Log>,
        sink: Arc<dyn FeedSink>,
        clock: Arc<dyn Clock>,
        progress: watch::Sender<Option<Progress>>,
    ) -> Follower {
        Follower {
            log,
            sink,
            clock,
            progress,
            trails: Default::default(),
            ends: None,
            behind: VecDeque::new(),
            doubt: true,
            answered: true,
            asserting: JoinSet::new(),
        }
    }

    /// Follows until nobody sends `news` any more.
    pub async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let mut question: Option<BoxFuture<'static, Reply>> = None;
        let mut pause = pin!(sleep(Duration::ZERO));
        loop {
            if question.is_none() {
                question = self.next_question();
            }
            tokio::select! {
                // News first: what is applied early need not be read.
                biased;
                heard = news.recv() => match heard {
                    Some(News::Message(message)) => self.take(&message),
                    Some(News::Doubt) => self.doubt = true,
                    None => return,
                },
                Some(reply) = OptionFuture::from(question.as_mut()) => {
                    question = None;
                    pause.set(sleep(self.hear(reply)));
                }
                Some(_) = self.asserting.join_next() => {}
                () = &mut pause, if question.is_none() => self.doubt = true,
            }
        }
    }

    /// What to ask next, if there is anything to ask now.
    fn next_question(&mut self) -> Option<BoxFuture<'static, Reply>> {
        let log = Arc::clone(&self.log);
        if let Some(shard) = self.behind.pop_front() {
            let after = self.trails[shard.index()].at().map_or(0, |at| at.seq);
            let page = async move { log.entries_after(shard, after, PAGE).await };
            return Some(in_time(page).map(move |page| Reply::Page(shard, page)).boxed());
        }
        if !std::mem::take(&mut self.doubt) {
            return None;
        }
        self.trails.iter_mut().for_each(Trail::asking);
        let asked_at = self.clock.now().tick;
        Some(
            in_time(async move { log.heads().await })
                .map(move |heads| Reply::Ends(asked_at, heads.map(Box::new)))
                .boxed(),
        )
    }

    /// Takes an answer; how long to wait before the next proof.
    fn hear(&mut self, reply: Reply) -> Duration {
        match reply {
            Reply::Ends(asked_at, Ok(heads)) => {
                self.say_answered(None);
                self.sink.fleet_time(heads.time, asked_at, self.clock.now().tick);
                self.ends = Some((asked_at, heads));
                self.behind.clear();
                Shard::all().for_each(|shard| self.compare(shard));
                self.tell_progress();
            }
            Reply::Page(shard, Ok(entries)) => self.replay(shard, &entries),
            Reply::Page(shard, Err(LogError::Unreadable(error))) => {
                tracing::error!(%error, %shard, "the log of a shard cannot be read");
                self.lose(shard, Gap::Unreadable);
            }
            Reply::Ends(_, Err(error)) | Reply::Page(_, Err(error)) => {
                self.say_answered(Some(&error));
                self.behind.clear();
                return RETRY_INTERVAL;
            }
        }
        PROOF_INTERVAL
    }

    /// A message of the bus: applied in any case, for it may be all that is ever heard of a revocation.
    fn take(&mut self, message: &Message) {
        let Message::Entry(entry) = message else { return self.sink.apply(message.event()) };
        let trail = &mut self.trails[entry.event.shard().index()];
        match trail.judge(entry) {
            Step::Known => {}
            Step::Next => {
                self.sink.apply(&entry.event);
                trail.advance(entry);
                self.tell_progress();
            }
            Step::Apart => {
                self.sink.apply(&entry.event);
                self.doubt = true;
            }
        }
    }

    /// Says what the end of a shard's log means for us.
    fn compare(&mut self, shard: Shard) {
        let Some((asked_at, heads)) = &self.ends else { return };
        match self.trails[shard.index()].compare(&heads.heads[shard.index()]) {
            Standing::Current => self.sink.current(shard, *asked_at),
            Standing::Behind => self.behind.push_back(shard),
            Standing::Unclear => self.doubt = true,
            Standing::Lost(why) => self.lose(shard, why),
        }
    }

    /// Applies what was read behind the place reached.
    fn replay(&mut self, shard: Shard, entries: &[LogEntry]) {
        let trail = &mut self.trails[shard.index()];
        for entry in entries {
            match trail.judge(entry) {
                Step::Known => {}
                Step::Next => {
                    self.sink.apply(&entry.event);
                    trail.advance(entry);
                }
                Step::Apart => {
                    let why = trail.why_apart(entry);
                    return self.lose(shard, why);
                }
            }
        }
        if entries.is_empty() && self.standing(shard) == Some(Standing::Behind) {
            return self.lose(shard, Gap::Trimmed);
        }
        self.compare(shard);
        self.tell_progress();
    }

    fn standing(&self, shard: Shard) -> Option<Standing> {
        let (_, heads) = self.ends.as_ref()?;
        Some(self.trails[shard.index()].compare(&heads.heads[shard.index()]))
    }

    /// Events of this shard may have been missed, and cannot be replayed. Everything loaded so far is given up *before*
    /// the new end counts as reached; and the store is told again what it may have forgotten.
    fn lose(&mut self, shard: Shard, why: Gap) {
        let Some((asked_at, heads)) = &self.ends else { return };
        self.sink.gap(shard, why);
        self.trails[shard.index()].restart(heads.heads[shard.index()]);
        self.sink.current(shard, *asked_at);
        if why != Gap::Start {
            let reason = why.as_str();
            tracing::warn!(%shard, reason, "events may have been missed; everything of this shard is loaded again");
        }
        let revoked = self.sink.revoked_in(shard);
        if !revoked.is_empty() {
            self.asserting.spawn(assert_revoked(Arc::clone(&self.log), revoked));
        }
        self.tell_progress();
    }

    fn tell_progress(&self) {
        let Some((_, heads)) = &self.ends else { return };
        let positions: Option<Vec<Head>> = self.trails.iter().map(Trail::at).collect();
        let Some(Ok(positions)) = positions.map(<[Head; SHARDS]>::try_from) else { return };
        let lag = |(end, at): (&Head, &Head)| end.seq.saturating_sub(at.seq);
        self.sink.lag(heads.heads.iter().zip(&positions).map(lag).sum());
        self.progress.send_replace(Some(Progress { positions, heads: heads.heads }));
    }

    fn say_answered(&mut self, error: Option<&LogError>) {
        match error {
            Some(error) if self.answered => tracing::warn!(%error, "the logs cannot be read; trying on"),
            None if !self.answered => tracing::info!("the logs can be read again"),
            Some(_) | None => {}
        }
        self.answered = error.is_none();
    }
}

/// Tells the store what it may have forgotten, until it has heard everything.
async fn assert_revoked(log: Arc<dyn Log>, revoked: Vec<KeyHash>) {
    let mut lost = 0;
    for hash in &revoked {
        let mut failures = 0;
        loop {
            match in_time(log.assert_revoked(hash)).await {
                Ok(was_lost) => {
                    lost += usize::from(was_lost);
                    break;
                }
                Err(LogError::Unreadable(error)) => {
                    tracing::error!(%error, "a revocation cannot be asserted: the store's record is damaged");
                    break;
                }
                Err(error) => tracing::debug!(%error, "a revocation cannot be asserted yet; trying on"),
            }
            failures += 1;
            sleep(backoff(failures)).await;
        }
    }
    if lost > 0 {
        tracing::warn!(lost, known = revoked.len(), "the store had lost revocations, and has them again");
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
    let silent = || LogError::Unreachable(Silent.into());
    timeout(ANSWER_DEADLINE, answer).await.unwrap_or_else(|_| Err(silent()))
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} ms", ANSWER_DEADLINE.as_millis())]
struct Silent;

#[cfg(test)]
mod tests;
