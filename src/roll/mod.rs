//! The roll of the fleet: who has to hear of a revocation, and who has.
//!
//! Each gateway keeps a line on the roll, in the store: who it is, and how far it has applied the log of each shard. It
//! writes the line each second and whenever it has applied something. Whoever revokes a key reads the roll *after* its
//! write, and so finds every gateway that may have loaded the key before: a gateway looks nothing up until it stands
//! on the roll. `receipt` waits for them and writes down who answered.
//!
//! A gateway leaves by a goodbye, after its last request: its last line says so. One that falls silent is taken off by
//! the others, but only after twice its `max_staleness` and a little: it looks up and proves only within `max_staleness`
//! of its last line, and uses what it has for `max_staleness` more. For as long it also counts where its line vanished
//! without a goodbye: a store that was restored has an older roll.

mod receipt;
#[cfg(test)]
mod tests;

pub use receipt::Receipt;

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::backoff;
use crate::clock::{Clock, Tick};
use crate::events::{FeedSink, Progress};
use crate::model::{GatewayId, Member, Timestamp};
use crate::observe::Metrics;
use crate::store::{self, KeyStore, StoreError};

use receipt::Desk;

/// Between two lines while nothing happens.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two lines while events come in.
const LINE_PACE: Duration = Duration::from_millis(2);
/// Between two looks for gateways that have fallen silent.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What is added to twice a gateway's `max_staleness` before its silence is the end.
const SILENCE_MARGIN: Duration = Duration::from_secs(10);
/// Failures in a row that are worth a word: at the start, the store is not there at once.
const WARN_AFTER: u32 = 3;
/// How long the store may take for a line, or for the roll.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// This gateway's place on the roll, and its view of the others.
pub struct Roll {
    store: Arc<dyn KeyStore>,
    sink: Arc<dyn FeedSink>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    progress: watch::Receiver<Option<Progress>>,
    myself: Myself,
    beat: AtomicU64,
    /// The members as they were read last.
    seen: Mutex<HashMap<GatewayId, Seen>>,
    receipt_timeout: Duration,
    desk: Desk,
}

/// What this gateway says of itself, and how it asks.
#[derive(Clone, Debug)]
pub struct RollSettings {
    /// Where it runs, for people: host and port.
    pub name: String,
    /// How long it trusts what it cannot prove.
    pub max_staleness: Duration,
    /// How long a receipt waits for the others.
    pub receipt_timeout: Duration,
}

/// A gateway as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its line.
    pub member: Member,
    /// Whether it is the one that says so.
    pub this: bool,
    /// How many events it has not applied, over all shards, as far as this gateway knows the logs. `None` if either
    /// has not read them yet.
    pub lag: Option<u64>,
    /// How long its line has certainly not changed.
    pub silent_for: Duration,
}

struct Myself {
    id: GatewayId,
    name: String,
    started_at: Timestamp,
    max_staleness_ms: u64,
}

struct Seen {
    member: Member,
    /// When its beat was first seen, after it had been read.
    since: Tick,
}

impl Seen {
    /// Whether it can have nothing left that it would trust, if its line has not changed until `now`.
    fn is_over(&self, now: Tick) -> bool {
        now.since(self.since) > self.member.max_staleness().saturating_mul(2) + SILENCE_MARGIN
    }
}

impl Roll {
    /// A gateway with a new random id. `progress` is what its feed has applied; [`Roll::run`] puts it on the roll.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn new(
        settings: RollSettings,
        store: Arc<dyn KeyStore>,
        sink: Arc<dyn FeedSink>,
        progress: watch::Receiver<Option<Progress>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Roll, getrandom::Error> {
        let myself = Myself {
            id: GatewayId::from_u64(getrandom::u64()?),
            name: settings.name,
            started_at: clock.now().wall,
            max_staleness_ms: u64::try_from(settings.max_staleness.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Roll {
            store,
            sink,
            clock,
            metrics,
            progress,
            myself,
            beat: AtomicU64::new(0),
            seen: Mutex::default(),
            receipt_timeout: settings.receipt_timeout,
            desk: Desk::default(),
        })
    }

    /// Who this gateway is.
    pub fn id(&self) -> GatewayId {
        self.myself.id
    }

    /// Keeps this gateway's line until `shutdown`, which must come after its last request, then takes it off the roll.
    /// Meanwhile it takes off those who have fallen silent.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            // It ends between two lines: one that is still on its way would come after the goodbye.
            () = self.keep_line(shutdown) => {}
            () = self.keep_sweeping() => {}
        }
        let goodbye = Member { gone: true, ..self.line() };
        if let Err(error) = within_deadline(self.store.attend(&goodbye)).await {
            tracing::warn!(%error, "this gateway could not say goodbye; receipts wait for it until it is taken off the roll");
        }
    }

    /// Everybody on the roll, by name, as it is in the store now.
    ///
    /// # Errors
    /// The roll cannot be read.
    pub async fn gateways(&self) -> Result<Vec<Gateway>, StoreError> {
        let asked_at = self.clock.now().tick;
        let members = self.read().await?;
        let heads = self.progress.borrow().map(|progress| progress.heads);
        let seen = self.seen();
        let mut gateways: Vec<Gateway> = members
            .into_iter()
            .map(|member| Gateway {
                this: member.id == self.myself.id,
                lag: heads.filter(|heads| heads.len() == member.positions.len()).map(|heads| {
                    let behind = |(head, position): (u64, u64)| head.saturating_sub(position);
                    let positions = member.positions.iter().map(|position| position.seq);
                    heads.iter().map(|head| head.seq).zip(positions).map(behind).sum()
                }),
                silent_for: seen.get(&member.id).map_or(Duration::ZERO, |seen| asked_at.since(seen.since)),
                member,
            })
            .collect();
        gateways.sort_by(|left, right| {
            (&left.member.name, left.member.id).cmp(&(&right.member.name, right.member.id))
        });
        Ok(gateways)
    }

    async fn keep_line(&self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut progress = self.progress.clone();
        let mut failures: u32 = 0;
        loop {
            progress.mark_unchanged();
            let wait = match self.write_line().await {
                Ok(()) => {
                    if failures >= WARN_AFTER {
                        tracing::info!("this gateway stands on the roll again");
                    }
                    failures = 0;
                    LINE_INTERVAL
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == WARN_AFTER {
                        tracing::warn!(%error, "this gateway cannot write its line on the roll");
                    }
                    backoff(failures)
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(LINE_PACE) => {}
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(wait.saturating_sub(LINE_PACE)) => {}
                // While lines cannot be written, news are no reason to try sooner.
                Ok(()) = progress.changed(), if failures == 0 => {}
            }
        }
    }

    /// Writes this gateway's line once.
    async fn write_line(&self) -> Result<(), StoreError> {
        let asked_at = self.clock.now().tick;
        within_deadline(self.store.attend(&self.line())).await?;
        self.sink.attended(asked_at);
        Ok(())
    }

    /// This gateway's next line.
    fn line(&self) -> Member {
        let positions = self.progress.borrow().map(|progress| progress.positions.to_vec());
        Member {
            id: self.myself.id,
            name: self.myself.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.myself.started_at,
            max_staleness_ms: self.myself.max_staleness_ms,
            beat: 1 + self.beat.fetch_add(1, Ordering::Relaxed),
            positions: positions.unwrap_or_default(),
            gone: false,
        }
    }

    async fn keep_sweeping(&self) {
        loop {
            self.sweep().await;
            tokio::time::sleep(SWEEP_INTERVAL).await;
        }
    }

    /// Looks at everybody, and takes off who has been silent, or gone, for too long.
    async fn sweep(&self) {
        let asked_at = self.clock.now().tick;
        if let Err(error) = self.read().await {
            return tracing::debug!(%error, "the roll cannot be read");
        }
        let over: Vec<Member> = {
            let seen = self.seen();
            let others = seen.values().filter(|seen| seen.member.id != self.myself.id);
            others.filter(|seen| seen.is_over(asked_at)).map(|seen| seen.member.clone()).collect()
        };
        for member in over {
            if !member.gone {
                tracing::warn!(gateway = %member.id, name = member.name, "a gateway has been silent for long, and is taken off the roll");
            }
            // If it has spoken meanwhile, its beat is another one and it stays.
            if let Err(error) = within_deadline(self.store.leave(member.id, member.beat)).await {
                tracing::debug!(%error, "a silent gateway could not be taken off the roll");
            }
        }
    }

    /// Reads the roll, and remembers since when each line has not changed. Everybody who counts: who is on the roll, and
    /// who was and has neither said goodbye nor been silent for long enough.
    async fn read(&self) -> Result<Vec<Member>, StoreError> {
        let lines = within_deadline(self.store.roll()).await?;
        let now = self.clock.now().tick;
        let mut seen = self.seen();
        seen.retain(|id, known| lines.iter().any(|line| line.id == *id) || !known.is_over(now));
        for line in lines {
            let same = seen.get(&line.id).filter(|known| known.member.beat == line.beat);
            let since = same.map_or(now, |known| known.since);
            seen.insert(line.id, Seen { member: line, since });
        }
        let members: Vec<Member> =
            seen.values().filter(|seen| !seen.member.gone).map(|seen| seen.member.clone()).collect();
        self.metrics.fleet_has(members.len());
        Ok(members)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<GatewayId, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within_deadline<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    store::within(STORE_DEADLINE, asked).await
}
