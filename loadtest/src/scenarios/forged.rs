//! A flood of keys that are none, beside good traffic.

use std::time::Duration;

use super::keys::{Uses, create, random_key};
use super::run::{Findings, Run};
use super::stage::{Observed, Stage};
use super::{Scenario, tell};
use crate::load::lane::{Lane, drive};
use crate::load::{Measured, Recorder, Work, connect};
use crate::rig::gateway::use_request;
use crate::rig::vitals::Cpu;
use crate::schedule::poisson;

const SPAN_S: u64 = 5;
/// Of the usual rate: twice as much comes in when there is a flood.
const SHARE: f64 = 0.5;
const KEYS: usize = 100;
/// Mistyped keys that are made in advance: more than a gateway remembers of the unknown.
const MISTYPED: usize = 100_000;

#[derive(clap::Args)]
pub struct Forged {
    /// The flood, as a multiple of the good traffic beside it.
    #[arg(long, default_value_t = 1.0)]
    flood: f64,
}

impl Scenario for Forged {
    const NAME: &str = "forged";

    fn measure(&self, run: &Run<'_>) -> anyhow::Result<Findings> {
        let stage = Stage::set(run)?;
        let keys = create(run, &stage.gateway, KEYS)?;
        let good = || Uses::in_turn(keys.iter().map(|key| key.key.as_str()));
        stage.burst(run, "each key once", KEYS, &mut good())?;
        let reads_before = stage.reads()?;
        let forwarded = stage.flat_out(run, "good keys, flat out", &mut good())?;
        let mut observed = vec![forwarded];
        for (name, mut flood) in [
            ("malformed, flat out", Flood::malformed()),
            ("made up, flat out", Flood::made_up()),
            ("mistyped, flat out", Flood::mistyped(&keys[0].key)),
        ] {
            observed.push(stage.flat_out(run, name, &mut flood)?);
        }
        let rate = run.rate.unwrap_or_else(|| observed[0].rate(run) * SHARE);
        let span = run.span(SPAN_S);
        let alone = stage.at(run, "good traffic alone", rate, span, &mut good())?;
        let (beside, flood) = self.flooded(run, &stage, rate, span, good(), Flood::made_up())?;
        let (beside_good, _) = self.flooded(run, &stage, rate, span, good(), good())?;
        let beside_good = Observed { name: "beside as much that is good".to_owned(), ..beside_good };
        let reads = stage.reads()? - reads_before;
        let words = format!(
            "Keys that are none: too short to be one; made up, well-formed; and a good one with one character mistyped. \
             Every one is refused without asking the store, which was read {reads:.0} times for all of them. Below, {rate:.0} \
             requests a second with good keys: alone, beside a flood of {:.0} made-up ones a second, and beside as many more \
             good ones; CPU is then the mean over both.",
            rate * self.flood
        );
        let mut findings = Findings::new("Forged", &words);
        // By CPU: how many are answered is also a matter of how busy the machine is.
        let forwarding = observed[0].cpu_each() * 1e6;
        for refused in &observed[1..] {
            let refusing = refused.cpu_each() * 1e6;
            findings.expect(refusing < forwarding, || {
                format!("{}: a refusal takes {refusing:.1} µs of CPU, and a request that is forwarded {forwarding:.1}", refused.name)
            });
        }
        observed.extend([alone, beside, flood, beside_good]);
        findings.section.table = Some(tell::table(&observed));
        findings.section.plots = vec![
            tell::percentiles([&observed[4], &observed[5], &observed[7]]),
            tell::cpu(&observed[..4]),
            tell::p99([&observed[4], &observed[5], &observed[7]]),
        ];
        findings.expect(reads == 0.0, || format!("{reads} reads of the store"));
        findings.expect_answers(&observed);
        Ok(findings)
    }
}

impl Forged {
    /// Good traffic, and another flood beside it on connections of its own.
    fn flooded(
        &self,
        run: &Run<'_>,
        stage: &Stage,
        rate: f64,
        span: Duration,
        mut good: Uses,
        mut flood: impl Work,
    ) -> anyhow::Result<(Observed, Observed)> {
        run.enter("good traffic in a flood");
        let connect = || connect(stage.gateway.address(), run.connections);
        let [mut good, mut flooding] = [&mut good as &mut dyn Work, &mut flood]
            .map(|work| Recorder::open(work, Duration::ZERO, span).shown(run.progress));
        let before = stage.gateway.process().cpu()?;
        let mut lanes = [
            Lane::new(poisson(rate, span, 1), connect()?, &mut good).patient(),
            Lane::new(poisson(rate * self.flood, span, 2), connect()?, &mut flooding).patient(),
        ];
        drive(&mut lanes, span, run.limit)?;
        let cpu = stage.gateway.process().cpu()? - before;
        let [good_left, flood_left] = lanes.map(Lane::left_over);
        let good = good.finish(good_left);
        let flooding = flooding.finish(flood_left);
        // Nobody knows which of them it was spent on: both get their share.
        let whole = (good.answered + flooding.answered) as f64;
        let of = |name: &str, measured: Measured| {
            let share = measured.answered as f64 / whole;
            let cpu = Cpu { user: cpu.user * share, system: cpu.system * share };
            Observed { name: name.to_owned(), measured, cpu }
        };
        Ok((of("beside the flood", good), of("  the flood itself", flooding)))
    }
}

/// Requests with keys that have to be refused.
struct Flood {
    random: fastrand::Rng,
    kind: Kind,
}

enum Kind {
    Malformed,
    MadeUp,
    Mistyped { requests: Vec<Vec<u8>>, next: usize },
}

impl Flood {
    fn of(kind: Kind) -> Flood {
        Flood { random: fastrand::Rng::with_seed(7), kind }
    }

    fn malformed() -> Flood {
        Flood::of(Kind::Malformed)
    }

    fn made_up() -> Flood {
        Flood::of(Kind::MadeUp)
    }

    /// One character of its secret is another.
    fn mistyped(key: &str) -> Flood {
        let start = "sk_live_".len();
        let mut random = fastrand::Rng::with_seed(9);
        let mut mistype = || {
            let mut key = key.as_bytes().to_vec();
            for _ in 0..2 {
                // Twice, for once there are not enough ways to do it.
                let place = random.usize(start..key.len());
                let digit = char::from(key[place]).to_digit(16).unwrap_or_default();
                let other = (digit + random.u32(1..16)) % 16;
                key[place] = char::from_digit(other, 16).map_or(b'0', |digit| digit as u8);
            }
            String::from_utf8_lossy(&key).into_owned()
        };
        let wrong = std::iter::repeat_with(&mut mistype).filter(|wrong| wrong != key);
        let requests = wrong.map(|wrong| use_request(&wrong)).take(MISTYPED).collect();
        Flood::of(Kind::Mistyped { requests, next: 0 })
    }
}

impl Work for Flood {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        match &mut self.kind {
            Kind::Malformed => {
                buffer.extend_from_slice(&use_request(&random_key(&mut self.random)[..40]));
            }
            Kind::MadeUp => buffer.extend_from_slice(&use_request(&random_key(&mut self.random))),
            Kind::Mistyped { requests, next } => {
                buffer.extend_from_slice(&requests[*next]);
                *next = (*next + 1) % requests.len();
            }
        }
    }

    fn expects(&self, status: u16) -> bool {
        status == 401
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_another_of_the_same_length() {
        let key = random_key(&mut fastrand::Rng::with_seed(1));
        let mut flood = Flood::mistyped(&key);
        for _ in 0..1000 {
            let mut request = Vec::new();
            flood.request(&mut request);
            assert_eq!(request.len(), use_request(&key).len());
            assert_ne!(request, use_request(&key));
        }
    }
}
