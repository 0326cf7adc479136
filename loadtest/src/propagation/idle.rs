//! The idle fleet: from the call to the last gateway's refusal.
//!
//! One thread polls all gateways and calls the admin API, each on a connection of its own, so that the order of what it
//! sees is the order in which it happened.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use super::judge::{Poll, Stop, Verdict, accepted_since, stop};
use crate::limit::Limit;
use crate::progress::Progress;
use crate::rig::gateway::{Gateway, create_key, revoke_request, use_request};
use crate::rig::http::{Answer, Connection};
use crate::rig::metrics::{Digest, Histogram};
use crate::rig::redis::Redis;
use crate::rig::upstream::Upstream;
use crate::rig::watch::Watch;
use crate::row;
use crate::schedule::next_on_raster;
use crate::stats::Summary;
use crate::table;

const LATENESS: &str = "keygate_event_propagation_seconds";
/// Polls of each gateway before the call, so that all is warm.
const POLLS_BEFORE: u32 = 5;
/// Refusals in a row after which a gateway is taken to have stopped.
const REFUSALS: usize = 3;
/// What stands still for so long does not come any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for answers before looking around.
const A_WHILE: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
#[command(next_help_heading = "Idle fleet")]
pub struct Options {
    /// Gateways of the fleet.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    gateways: u32,
    /// Revocations.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Each gateway is polled every so many microseconds. More often is finer, and takes CPU from what is measured.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(20..))]
    poll_every_us: u64,
    /// How long polling goes on after the last gateway refused and the call was answered.
    #[arg(long, default_value_t = 20)]
    watch_on_ms: u64,
}

/// All rounds. Times are milliseconds since the call started.
#[derive(Serialize)]
pub struct Measured {
    gateways: u32,
    poll_every_us: u64,
    rounds: Vec<Round>,
    /// `keygate_event_propagation_seconds` of all gateways, over all rounds.
    event_propagation: Option<Digest>,
}

/// One revocation. Times are milliseconds since the call started.
#[derive(Serialize)]
struct Round {
    revoked_through: usize,
    /// Each gateway's first refusal after which it accepted nothing; null if there was none.
    refused_ms: Vec<Option<f64>>,
    /// When the last of these answers was there.
    told_ms: Option<f64>,
    /// The start of the last request that was accepted anywhere.
    accepted_ms: Option<f64>,
    /// For each gateway, from its last acceptance to its first refusal: so coarse is the figure.
    resolution_ms: Vec<f64>,
    /// How long polls took.
    poll_ms: Vec<f64>,
    /// Polls that were neither accepted nor refused.
    unclear: usize,
    /// When the call was answered.
    answered_ms: f64,
    receipt: Receipt,
    /// Requests that were accepted though they started after an answer that said that all gateways had acknowledged.
    accepted_after_receipt: usize,
}

/// What the answer to the call says.
#[derive(Serialize)]
struct Receipt {
    acknowledged: Option<u64>,
    gateways: Option<u64>,
    elapsed_ms: Option<f64>,
}

pub fn measure(
    options: &Options,
    binary: &Path,
    limit: &Limit,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    progress.say("idle fleet: starting");
    let redis = Redis::start(&[], limit)?;
    let upstream = Upstream::start()?;
    let gateways = (0..options.gateways)
        .map(|_| Gateway::start(binary, &redis, &upstream, &[], limit))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut fleet = Fleet {
        clients: gateways.iter().map(Gateway::connect).collect::<anyhow::Result<_>>()?,
        admins: gateways.iter().map(Gateway::connect_admin).collect::<anyhow::Result<_>>()?,
        poll_every: Duration::from_micros(options.poll_every_us),
        watch_on: Duration::from_millis(options.watch_on_ms),
    };
    let before = scrapes(&gateways)?;
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        limit.check()?;
        if limit.is_over() {
            break;
        }
        progress.say(&format!("idle fleet: revocation {} of {}", number + 1, options.rounds));
        let through = number as usize % gateways.len();
        rounds.push(fleet.round(through, limit).with_context(|| format!("in round {}", number + 1))?);
    }
    let mut lateness = Histogram::default();
    for (before, after) in before.iter().zip(scrapes(&gateways)?) {
        lateness.add_between(before, &after);
    }
    let (gateways, poll_every_us) = (options.gateways, options.poll_every_us);
    Ok(Measured { gateways, poll_every_us, rounds, event_propagation: lateness.digest() })
}

fn scrapes(gateways: &[Gateway]) -> anyhow::Result<Vec<Histogram>> {
    gateways.iter().map(|gateway| Ok(gateway.scrape()?.histogram(LATENESS))).collect()
}

struct Fleet {
    /// One to each gateway.
    clients: Vec<Connection>,
    admins: Vec<Connection>,
    poll_every: Duration,
    watch_on: Duration,
}

impl Fleet {
    /// A key is created, used everywhere, and revoked.
    fn round(&mut self, through: usize, limit: &Limit) -> anyhow::Result<Round> {
        let key = create_key(&mut self.admins[0])?;
        let request = use_request(&key.key);
        for client in &mut self.clients {
            use_until_accepted(client, &request, limit)?;
        }
        let watched = self.watch(&request, &revoke_request(&key.id), through, limit)?;
        let answer = &watched.answer;
        ensure!(answer.status == 200, "revoking a key: {} {}", answer.status, answer.text());
        Ok(watched.judged(through))
    }

    /// Polls all gateways, revokes at a moment that the polls do not know, and goes on until all have refused.
    fn watch(
        &mut self,
        request: &[u8],
        revoke: &[u8],
        through: usize,
        limit: &Limit,
    ) -> anyhow::Result<Watched> {
        let count = self.clients.len();
        let began = Instant::now();
        let call_due = self.poll_every * POLLS_BEFORE + self.poll_every.mul_f64(fastrand::f64());
        let mut polls: Vec<Vec<Poll>> = vec![Vec::new(); count];
        let offset = |index: usize| self.poll_every.mul_f64(index as f64 / count as f64);
        let mut due: Vec<Duration> = (0..count).map(offset).collect();
        let mut under_way: Vec<Option<Duration>> = vec![None; count];
        let mut watch = Watch::new()?;
        for (connection, number) in self.clients.iter().chain([&self.admins[through]]).zip(0..) {
            watch.add(connection, number)?;
        }
        let mut called = None;
        let mut answered: Option<(Duration, Answer)> = None;
        loop {
            limit.check()?;
            let now = began.elapsed();
            if called.is_none() && now >= call_due {
                called = Some(began.elapsed());
                self.admins[through].send(revoke)?;
            }
            let seen_enough = called.is_some_and(|called| now > called + PATIENCE)
                || answered.as_ref().is_some_and(|(answered, _)| self.has_seen(&polls, *answered, now));
            if seen_enough && under_way.iter().all(Option::is_none) {
                let (answered, answer) = answered.context("the call was not answered")?;
                return Ok(Watched { polls, called: called.unwrap_or(now), answered, answer });
            }
            for index in 0..count {
                if !seen_enough && under_way[index].is_none() && began.elapsed() >= due[index] {
                    under_way[index] = Some(began.elapsed());
                    self.clients[index].send(request)?;
                }
            }
            let free = due.iter().zip(&under_way).filter(|(_, sent)| sent.is_none() && !seen_enough);
            let next = free.map(|(&due, _)| due).chain(called.is_none().then_some(call_due)).min();
            let until = began + next.unwrap_or(now + A_WHILE);
            for number in watch.wait(until)? {
                let index = number as usize;
                if index == count {
                    let answer = self.admins[through].receive()?;
                    answered = answer.map(|answer| (began.elapsed(), answer)).or(answered);
                } else if let Some(answer) = self.clients[index].receive()? {
                    let started = under_way[index].take().context("an answer that nobody asked for")?;
                    let answered = began.elapsed();
                    polls[index].push(Poll { started, answered, verdict: Verdict::of(answer.status) });
                    due[index] = next_on_raster(offset(index), self.poll_every, answered);
                }
            }
        }
    }

    /// Whether all gateways refuse, and have been watched for a while since then and since the call was answered.
    fn has_seen(&self, polls: &[Vec<Poll>], answered: Duration, now: Duration) -> bool {
        let refusing = polls.iter().map(|polls| refusing_since(polls)).collect::<Option<Vec<_>>>();
        let last = refusing.and_then(|since| since.into_iter().max());
        last.is_some_and(|last| now >= last.max(answered) + self.watch_on)
    }
}

/// The first uses load the key; what is not known yet is 503 at worst.
fn use_until_accepted(client: &mut Connection, request: &[u8], limit: &Limit) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.ask(request)?;
        match Verdict::of(answer.status) {
            Verdict::Accepted => return Ok(()),
            Verdict::Unclear if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            _ => anyhow::bail!("a new key is answered with {} {}", answer.status, answer.text()),
        }
        limit.check()?;
    }
}

/// Since when there was nothing but refusals, if there were a few.
fn refusing_since(polls: &[Poll]) -> Option<Duration> {
    let refusals = polls.iter().rev().take_while(|poll| poll.verdict == Verdict::Refused);
    let refusals: Vec<_> = refusals.map(|poll| poll.started).collect();
    (refusals.len() >= REFUSALS).then(|| refusals[refusals.len() - 1])
}

/// What was seen in one round. Times are since its beginning.
struct Watched {
    polls: Vec<Vec<Poll>>,
    called: Duration,
    answered: Duration,
    answer: Answer,
}

impl Watched {
    fn judged(self, through: usize) -> Round {
        let since_call = |at: Duration| (at.as_secs_f64() - self.called.as_secs_f64()) * 1e3;
        let stops: Vec<Option<Stop>> = self.polls.iter().map(|polls| stop(polls)).collect();
        let known = || stops.iter().flatten();
        let polls = || self.polls.iter().flatten();
        let json: Value = serde_json::from_slice(&self.answer.body).unwrap_or_default();
        let receipt = Receipt::of(&json["revocation"]);
        let promised = receipt.is_full(self.polls.len());
        let after = self.polls.iter().map(|polls| accepted_since(polls, self.answered)).sum();
        let latest = |times: &mut dyn Iterator<Item = Duration>| times.max().map(since_call);
        let accepted = polls().filter(|poll| poll.verdict == Verdict::Accepted);
        let gap = |stop: &Stop| Some((stop.refused - stop.accepted?).as_secs_f64() * 1e3);
        Round {
            revoked_through: through,
            refused_ms: stops.iter().map(|stop| stop.map(|stop| since_call(stop.refused))).collect(),
            told_ms: latest(&mut known().map(|stop| stop.told)),
            accepted_ms: latest(&mut accepted.map(|poll| poll.started)),
            resolution_ms: known().filter_map(gap).collect(),
            poll_ms: polls().map(|poll| (poll.answered - poll.started).as_secs_f64() * 1e3).collect(),
            unclear: polls().filter(|poll| poll.verdict == Verdict::Unclear).count(),
            answered_ms: since_call(self.answered),
            receipt,
            accepted_after_receipt: if promised { after } else { 0 },
        }
    }
}

impl Receipt {
    /// Members that a gateway does not know are not there.
    fn of(revocation: &Value) -> Receipt {
        Receipt {
            acknowledged: revocation["acknowledged"].as_u64(),
            gateways: revocation["gateways"].as_u64(),
            elapsed_ms: revocation["elapsed_ms"].as_f64(),
        }
    }

    /// Whether it says that every gateway of the fleet has acknowledged.
    fn is_full(&self, fleet: usize) -> bool {
        self.acknowledged == Some(fleet as u64) && self.gateways == self.acknowledged
    }
}

impl Round {
    /// The last gateway's refusal; `None` if one never refused.
    fn last_refusal_ms(&self) -> Option<f64> {
        let refused = self.refused_ms.iter().copied().collect::<Option<Vec<_>>>()?;
        refused.into_iter().max_by(f64::total_cmp)
    }
}

impl Measured {
    /// What does not hold, in words.
    pub fn broken_promise(&self) -> Option<String> {
        let accepted: usize = self.rounds.iter().map(|round| round.accepted_after_receipt).sum();
        let for_ever = self.never_stopped();
        if accepted > 0 {
            Some(format!(
                "{accepted} requests were accepted that started after all gateways had acknowledged"
            ))
        } else if for_ever > 0 {
            Some(format!("in {for_ever} rounds a gateway went on accepting"))
        } else if self.full_receipts() == 0 {
            Some("no answer said that all gateways had acknowledged, so nothing was shown".to_owned())
        } else {
            None
        }
    }

    pub fn render(&self) -> String {
        let of = |value: &dyn Fn(&Round) -> Option<f64>| {
            Summary::of(self.rounds.iter().filter_map(value).collect())
        };
        let all =
            |values: &dyn Fn(&Round) -> Vec<f64>| Summary::of(self.rounds.iter().flat_map(values).collect());
        let lines = [
            ("the last gateway refuses", of(&Round::last_refusal_ms)),
            ("  and its client knows", of(&|round| round.told_ms)),
            ("the last request that was accepted", of(&|round| round.accepted_ms)),
            ("the call is answered", of(&|round| Some(round.answered_ms))),
            ("  and says that it took", of(&|round| round.receipt.elapsed_ms)),
            ("resolution: from acceptance to refusal", all(&|round| round.resolution_ms.clone())),
            ("a poll takes", all(&|round| round.poll_ms.clone())),
        ];
        let mut rows = vec![row!["ms", "p50", "p90", "p99", "max"]];
        for (name, summary) in lines {
            let Some(Summary { p50, p90, p99, max, .. }) = summary else { continue };
            let [p50, p90, p99, max] = [p50, p90, p99, max].map(|ms| format!("{ms:.2}"));
            rows.push(row![name, p50, p90, p99, max]);
        }
        let (rounds, gateways) = (self.rounds.len(), self.gateways);
        let mut text = format!(
            "\nIdle fleet: {rounds} revocations, {gateways} gateways, each polled every {} µs; from the start of the call\n\n",
            self.poll_every_us
        );
        text += &table::render(&rows);
        text += &format!("\n  all gateways acknowledged in {} of {rounds} answers", self.full_receipts());
        let after: usize = self.rounds.iter().map(|round| round.accepted_after_receipt).sum();
        let unclear: usize = self.rounds.iter().map(|round| round.unclear).sum();
        text +=
            &format!("; accepted after such an answer: {after}; neither accepted nor refused: {unclear}\n");
        if let Some(digest) = &self.event_propagation {
            text += &format!(
                "  {LATENESS}: {} events, mean {:.2} ms, p50 ≤ {} ms, p99 ≤ {} ms\n",
                digest.count, digest.mean_ms, digest.p50_at_most_ms, digest.p99_at_most_ms
            );
        }
        if self.never_stopped() > 0 {
            text += &format!("  IN {} ROUNDS A GATEWAY WENT ON ACCEPTING\n", self.never_stopped());
        }
        text
    }

    fn full_receipts(&self) -> usize {
        self.rounds.iter().filter(|round| round.receipt.is_full(self.gateways as usize)).count()
    }

    fn never_stopped(&self) -> usize {
        self.rounds.iter().filter(|round| round.last_refusal_ms().is_none()).count()
    }
}
