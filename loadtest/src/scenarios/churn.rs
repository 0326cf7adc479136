//! A new connection for every request.

use std::time::Duration;

use super::keys::{Uses, create};
use super::run::{Findings, Run};
use super::stage::{Observed, Stage};
use super::{Scenario, tell};
use crate::load::lane::{Lane, drive};
use crate::load::{Recorder, Work};
use crate::schedule::{Schedule, flat_out, poisson};

const SPAN_S: u64 = 5;

#[derive(clap::Args)]
pub struct Churn {}

impl Scenario for Churn {
    const NAME: &str = "churn";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let stage = Stage::set(run)?;
        let key = create(run, &stage.gateway, 1)?.swap_remove(0).key;
        let mut kept = Uses::in_turn([key.as_str()]);
        stage.warm(run, &mut kept)?;
        let kept_flat_out = stage.flat_out(run, "kept alive, flat out", &mut kept)?;
        let span = run.span(SPAN_S);
        let new_flat_out = churn(run, &stage, "each its own, flat out", flat_out(), span, &key)?;
        let rate = new_flat_out.rate(run);
        let kept_at_rate = stage.at(run, &format!("kept alive, {rate:.0}/s"), rate, span, &mut kept)?;
        let new_at_rate =
            churn(run, &stage, &format!("each its own, {rate:.0}/s"), poisson(rate, span, 1), span, &key)?;
        let words = "Each request has a connection of its own, which the gateway closes after its answer. Latency includes \
                     connecting. Connections that are kept alive stand beside it, at the same rate.";
        let mut findings = Findings::new("Churn", words);
        let all = [&kept_flat_out, &new_flat_out, &kept_at_rate, &new_at_rate];
        findings.section.table = Some(tell::table(all));
        findings.section.plots = vec![tell::percentiles([&kept_at_rate, &new_at_rate]), tell::cpu(all)];
        findings.expect_answers(all);
        Ok(findings)
    }
}

fn churn(
    run: &Run<'_>,
    stage: &Stage,
    name: &str,
    schedule: Schedule,
    span: Duration,
    key: &str,
) -> anyhow::Result<Observed> {
    run.enter(name);
    let closed = matches!(schedule, Schedule::FlatOut);
    let mut once = Once { request: request(key) };
    let begin = if closed { Recorder::closed } else { Recorder::open };
    let mut recorder = begin(&mut once, Duration::ZERO, span).shown(run.progress);
    stage.observe(name, || {
        let address = stage.gateway.address();
        let mut lanes = [Lane::unconnected(schedule, address, run.connections, &[], &mut recorder).patient()];
        drive(&mut lanes, span, run.limit)?;
        let [lane] = lanes;
        let left_over = lane.left_over();
        Ok(recorder.finish(left_over))
    })
}

fn request(key: &str) -> Vec<u8> {
    format!(
        "GET /v1/wallets/wlt_1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-API-Key: {key}\r\n\r\n"
    )
    .into_bytes()
}

/// The same request each time.
struct Once {
    request: Vec<u8>,
}

impl Work for Once {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.request);
    }
}
