//! Many keys are revoked in the midst of traffic.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::{Observed, Stage};
use super::{Scenario, tell};
use crate::load::lane::{Client, Flight, Lane, drive};
use crate::load::{Measured, Recorder, connect};
use crate::rig::gateway::{CreatedKey, Gateway, revoke_request, use_request};
use crate::rig::http::Reply;
use crate::schedule::poisson;

const SPAN_S: u64 = 10;
const SEED: u64 = 1;
/// How many of those that were revoked last the clients go on using.
const RECENT: usize = 32;

#[derive(clap::Args)]
pub struct RevocationBurst {
    /// Keys of the traffic, none of which is revoked before its time.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Keys that are revoked, each second.
    #[arg(long, default_value_t = 100.0)]
    revocations_per_s: f64,
}

impl Scenario for RevocationBurst {
    const NAME: &str = "revocation-burst";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let stage = Stage::set(run)?;
        // Revocations come in through another gateway, so that this one only has to hear of them.
        let url = stage.upstream.url();
        let other = Gateway::start_with(&run.binary, &stage.redis, &url, &[], &run.cores.others, run.limit)?;
        let span = run.span(SPAN_S);
        let staying = create(run, &other, self.keys as usize)?;
        let doomed = create(run, &other, (self.revocations_per_s * span.as_secs_f64() * 1.2) as usize + 10)?;
        let mut uses = Uses::in_turn(staying.iter().chain(&doomed).map(|key| key.key.as_str()));
        stage.burst(run, "each key once", staying.len() + doomed.len(), &mut uses)?;
        let staying_uses = || Uses::in_turn(staying.iter().map(|key| key.key.as_str()));
        let rate = stage.flat_out(run, "flat out", &mut staying_uses())?.rate(run);
        let quiet = stage.at(run, "no revocations", rate, span, &mut staying_uses())?;

        run.enter("traffic and revocations");
        let board = Board::new(doomed.len());
        let mut traffic = staying_uses();
        let mut good = Recorder::open(&mut traffic, Duration::ZERO, span).shown(run.progress);
        let mut probing = Probing { board: &board, doomed: &doomed, next: 0, asked: VecDeque::new() };
        let mut revoking = Revoking { board: &board, doomed: &doomed, next: 0, asked: Vec::new() };
        let before = stage.gateway.process().cpu()?;
        let probes = (self.revocations_per_s * 10.0).min(rate);
        let mut lanes = [
            Lane::new(
                poisson(rate, span, SEED),
                connect(stage.gateway.address(), run.connections)?,
                &mut good,
            )
            .patient(),
            Lane::new(
                poisson(probes, span, 2),
                connect(stage.gateway.address(), run.connections)?,
                &mut probing,
            ),
            Lane::new(poisson(self.revocations_per_s, span, 3), connect(other.admin(), 32)?, &mut revoking),
        ];
        drive(&mut lanes, span, run.limit)?;
        let cpu = stage.gateway.process().cpu()? - before;
        let [good_left, ..] = lanes.map(Lane::left_over);
        let measured: Measured = good.finish(good_left);
        let busy = Observed { name: "with revocations".to_owned(), measured, cpu };
        Ok(self.findings(&quiet, &busy, rate, board.0.into_inner()))
    }
}

impl RevocationBurst {
    fn findings(&self, quiet: &Observed, busy: &Observed, rate: f64, seen: Seen) -> Findings {
        let acknowledged = seen.keys.iter().filter(|key| key.acknowledged.is_some()).count();
        let words = format!(
            "{rate:.0} requests a second with {} keys, first alone, then while keys are revoked through another gateway. Keys \
             that were revoked go on being used. {} revocations were answered, {acknowledged} of them saying that every \
             gateway had acknowledged. After that, {} requests with those keys were refused, and {} were accepted. CPU with \
             revocations is of those requests too.",
            self.keys, seen.revoked, seen.refused_after, seen.accepted_after
        );
        let mut findings = Findings::new("Revocation burst", &words);
        findings.section.table = Some(tell::table([quiet, busy]));
        findings.section.plots = vec![tell::percentiles([quiet, busy]), tell::p99([quiet, busy])];
        findings.expect(seen.accepted_after == 0, || {
            format!("{} requests were accepted after all gateways had acknowledged", seen.accepted_after)
        });
        findings.expect(seen.refused_before == 0, || {
            format!("{} requests were refused with keys that nobody had revoked yet", seen.refused_before)
        });
        findings
            .expect(seen.other == 0, || format!("{} requests were neither accepted nor refused", seen.other));
        findings.expect(acknowledged > 0 && seen.refused_after > 0, || {
            "no key was used after all gateways had acknowledged its revocation, so nothing was shown"
                .to_owned()
        });
        findings.expect(acknowledged == seen.revoked, || {
            format!("{acknowledged} of {} revocations were acknowledged by all gateways", seen.revoked)
        });
        findings.expect_answers([quiet, busy]);
        findings
    }
}

/// What is known of the keys that are revoked. Times are since the start.
struct Board(RefCell<Seen>);

struct Seen {
    keys: Vec<Fate>,
    revoked: usize,
    accepted_after: usize,
    refused_after: usize,
    refused_before: usize,
    other: usize,
}

#[derive(Clone, Copy, Default)]
struct Fate {
    /// Whether its revocation has begun.
    called: bool,
    /// When an answer was there that says that all gateways refuse the key.
    acknowledged: Option<Duration>,
}

impl Board {
    fn new(keys: usize) -> Board {
        Board(RefCell::new(Seen {
            keys: vec![Fate::default(); keys],
            revoked: 0,
            accepted_after: 0,
            refused_after: 0,
            refused_before: 0,
            other: 0,
        }))
    }
}

/// Clients that use keys before, while and after they are revoked.
struct Probing<'a> {
    board: &'a Board,
    doomed: &'a [CreatedKey],
    next: usize,
    /// The key of each request, with its number, until it is answered.
    asked: VecDeque<(u64, usize)>,
}

/// An operator who revokes one key after the other.
struct Revoking<'a> {
    board: &'a Board,
    doomed: &'a [CreatedKey],
    next: usize,
    /// Which key a request revokes.
    asked: Vec<usize>,
}

impl Client for Probing<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        let seen = self.board.0.borrow();
        // From some that are still to be revoked to some that have been.
        let called = seen.keys.iter().take_while(|fate| fate.called).count();
        let first = called.saturating_sub(RECENT);
        let count = (RECENT + RECENT / 4).min(self.doomed.len() - first);
        let key = first + self.next % count;
        self.asked.push_back((self.next as u64, key));
        self.next += 1;
        buffer.extend_from_slice(&use_request(&self.doomed[key].key));
    }

    fn answered(&mut self, flight: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        let place = self.asked.iter().position(|(number, _)| *number == flight.number);
        let (_, key) = place.and_then(|place| self.asked.remove(place)).context("an unknown request")?;
        let mut seen = self.board.0.borrow_mut();
        let Fate { called, acknowledged } = seen.keys[key];
        let after = acknowledged.is_some_and(|acknowledged| flight.started > acknowledged);
        match reply.status {
            200 => seen.accepted_after += usize::from(after),
            401 if !called => seen.refused_before += 1,
            401 => seen.refused_after += usize::from(after),
            _ => seen.other += 1,
        }
        Ok(())
    }

    fn lost(&mut self, _: Flight, _: io::Error) -> anyhow::Result<()> {
        self.board.0.borrow_mut().other += 1;
        Ok(())
    }
}

impl Client for Revoking<'_> {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        // There are more keys than are revoked; should they not be enough, the last is revoked again.
        let key = self.next.min(self.doomed.len() - 1);
        self.next += 1;
        self.asked.push(key);
        self.board.0.borrow_mut().keys[key].called = true;
        buffer.extend_from_slice(&revoke_request(&self.doomed[key].id));
    }

    fn answered(&mut self, flight: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        let text = || String::from_utf8_lossy(reply.body).into_owned();
        ensure!(reply.status == 200, "revoking a key: {} {}", reply.status, text());
        let json: Value = serde_json::from_slice(reply.body).context("reading the answer to a revocation")?;
        let revocation = &json["revocation"];
        let all = revocation["gateways"].as_u64().is_some()
            && revocation["acknowledged"].as_u64() == revocation["gateways"].as_u64();
        let key = self.asked[flight.number as usize];
        let mut seen = self.board.0.borrow_mut();
        seen.revoked += 1;
        if all {
            seen.keys[key].acknowledged.get_or_insert(flight.answered);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn answer(client: &mut dyn Client, number: u64, at: u32, status: u16, body: &str) {
        client.request(&mut Vec::new());
        let flight = Flight { number, due: MS * at, started: MS * at, answered: MS * (at + 1) };
        client.answered(flight, Reply { status, body: body.as_bytes(), closes: false }).unwrap();
    }

    #[test]
    fn an_answer_is_judged_by_what_was_known_when_its_request_began() {
        let doomed = [CreatedKey { id: "1".to_owned(), key: "k".to_owned() }];
        let board = Board::new(1);
        let mut probing = Probing { board: &board, doomed: &doomed, next: 0, asked: VecDeque::new() };
        let mut revoking = Revoking { board: &board, doomed: &doomed, next: 0, asked: Vec::new() };
        let seen = || {
            let seen = board.0.borrow();
            [seen.refused_before, seen.refused_after, seen.accepted_after, seen.other]
        };
        answer(&mut probing, 0, 1, 200, "");
        assert_eq!(seen(), [0, 0, 0, 0]);
        answer(&mut probing, 1, 2, 401, "");
        assert_eq!(seen(), [1, 0, 0, 0]);
        answer(&mut revoking, 0, 10, 200, r#"{"revocation":{"acknowledged":2,"gateways":2}}"#);
        // These began before that answer was there, and these after it.
        answer(&mut probing, 2, 11, 200, "");
        assert_eq!(seen(), [1, 0, 0, 0]);
        answer(&mut probing, 3, 12, 401, "");
        answer(&mut probing, 4, 13, 200, "");
        answer(&mut probing, 5, 14, 503, "");
        assert_eq!(seen(), [1, 1, 1, 1]);
    }

    #[test]
    fn a_revocation_that_not_all_acknowledged_promises_nothing() {
        let doomed = [CreatedKey { id: "1".to_owned(), key: "k".to_owned() }];
        let board = Board::new(1);
        let mut revoking = Revoking { board: &board, doomed: &doomed, next: 0, asked: Vec::new() };
        answer(&mut revoking, 0, 10, 200, r#"{"revocation":{"acknowledged":1,"gateways":2}}"#);
        assert!(board.0.borrow().keys[0].acknowledged.is_none());
    }
}
