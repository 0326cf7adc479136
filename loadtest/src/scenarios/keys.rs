//! Keys in numbers, and traffic that uses them.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::run::Run;
use crate::load::lane::{Client, Flight, Lane, drive};
use crate::load::{Work, connect};
use crate::rig::gateway::{AUTHORIZATION, CreatedKey, Gateway, create_request, use_request};
use crate::rig::http::{Reply, post};
use crate::schedule::burst;

/// Connections on which keys are created.
const CREATING: usize = 32;
const IMPORTED_AT_ONCE: usize = 1000;
const LONGEST: Duration = Duration::from_secs(600);
/// Uses that are drawn before the traffic begins; then they begin anew.
const DRAWN: usize = 1 << 18;

/// Settings under which imported keys are looked up as freely as others: they carry no check.
pub fn unchecked_without_budget() -> Vec<(&'static str, String)> {
    let set = |name, value: u32| (name, value.to_string());
    vec![
        set("KEYGATE_LOOKUP__UNCHECKED_MAX_CONCURRENT", 1024),
        set("KEYGATE_LOOKUP__UNCHECKED_PER_SECOND", 1_000_000),
    ]
}

/// Live keys, made by the gateway.
pub fn create(run: &Run<'_>, gateway: &Gateway, count: usize) -> anyhow::Result<Vec<CreatedKey>> {
    run.enter(&format!("creating {count} keys"));
    let connections = connect(gateway.admin(), CREATING.min(count))?;
    let mut creating = Creating { request: create_request(), keys: Vec::with_capacity(count) };
    drive(&mut [Lane::new(burst(count), connections, &mut creating)], LONGEST, run.limit)?;
    ensure!(creating.keys.len() == count, "{} of {count} keys were created", creating.keys.len());
    Ok(creating.keys)
}

/// Waits until no event has been applied for a while.
pub fn quiet(run: &Run<'_>, gateway: &Gateway) -> anyhow::Result<()> {
    let applied = || Ok::<_, anyhow::Error>(gateway.scrape()?.sum("keygate_events_applied_total"));
    let (mut before, mut unchanged) = (applied()?, 0);
    while unchanged < 4 {
        run.limit.check()?;
        thread::sleep(Duration::from_millis(50));
        let now = applied()?;
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

/// Live keys that existed before; faster to make than by asking for each.
pub fn import(run: &Run<'_>, gateway: &Gateway, count: usize) -> anyhow::Result<Vec<String>> {
    let mut random = fastrand::Rng::with_seed(count as u64);
    let keys: Vec<String> = (0..count).map(|_| random_key(&mut random)).collect();
    let mut admin = gateway.connect_admin()?;
    for (nth, keys) in keys.chunks(IMPORTED_AT_ONCE).enumerate() {
        run.limit.check()?;
        run.enter(&format!("importing keys, {} of {count}", nth * IMPORTED_AT_ONCE));
        let hash =
            |key: &String| Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let keys =
            keys.iter().map(|key| json!({"sha256": hash(key), "label": "Load", "environment": "live"}));
        let body = json!({ "keys": keys.collect::<Vec<_>>() }).to_string();
        let answer = admin.ask(&post("/v1/keys/import", AUTHORIZATION, &body))?;
        ensure!(answer.status / 100 == 2, "importing keys: {} {}", answer.status, answer.text());
    }
    Ok(keys)
}

/// As keys are spelled, with a check that is as good as never right.
pub fn random_key(random: &mut fastrand::Rng) -> String {
    format!("sk_live_{:032x}{:032x}", random.u128(..), random.u128(..))
}

struct Creating {
    request: Vec<u8>,
    keys: Vec<CreatedKey>,
}

impl Client for Creating {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.request);
    }

    fn answered(&mut self, _: Flight, reply: Reply<'_>) -> anyhow::Result<()> {
        let text = || String::from_utf8_lossy(reply.body).into_owned();
        ensure!(reply.status == 201, "creating a key: {} {}", reply.status, text());
        self.keys.push(serde_json::from_slice(reply.body).context("reading a created key")?);
        Ok(())
    }
}

/// Traffic with keys that are good.
pub struct Uses {
    requests: Vec<Vec<u8>>,
    order: Vec<u32>,
    next: usize,
}

impl Uses {
    /// One key after the other.
    pub fn in_turn<'a>(keys: impl IntoIterator<Item = &'a str>) -> Uses {
        let requests: Vec<_> = keys.into_iter().map(use_request).collect();
        let order = (0..requests.len() as u32).collect();
        Uses { requests, order, next: 0 }
    }

    /// The nth key as often as 1/n says, at random.
    pub fn zipf<'a>(keys: impl IntoIterator<Item = &'a str>, seed: u64) -> Uses {
        let requests: Vec<_> = keys.into_iter().map(use_request).collect();
        let order = zipf(requests.len(), DRAWN, seed);
        Uses { requests, order, next: 0 }
    }

    /// How many different keys were used, if each use was counted from the first.
    pub fn distinct(&self, uses: usize) -> usize {
        let mut used = vec![false; self.requests.len()];
        self.order.iter().take(uses).for_each(|&key| used[key as usize] = true);
        used.into_iter().filter(|used| *used).count()
    }
}

impl Work for Uses {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.requests[self.order[self.next] as usize]);
        self.next = (self.next + 1) % self.order.len();
    }
}

/// `count` draws of a number below `of`, of which n comes as often as 1/(n+1) says.
fn zipf(of: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=of)
        .map(|n| {
            sum += 1.0 / n as f64;
            sum
        })
        .collect();
    let mut draw = || {
        let at = random.f64() * sum;
        sums.partition_point(|below| *below <= at).min(of - 1) as u32
    };
    (0..count).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_zipf_comes_twice_as_often_as_the_second() {
        let draws = zipf(1000, 100_000, 1);
        let count = |n| draws.iter().filter(|&&draw| draw == n).count() as f64;
        // H(1000) is 7.49: the first is 13,359 of these, give or take 110.
        assert!((count(0) - 13_359.0).abs() < 800.0, "{}", count(0));
        assert!((count(0) / count(1) - 2.0).abs() < 0.2);
        assert!(draws.iter().all(|&draw| draw < 1000));
    }

    #[test]
    fn keys_are_used_in_turn() {
        let mut uses = Uses::in_turn(["a", "b"]);
        let mut next = || {
            let mut request = Vec::new();
            uses.request(&mut request);
            String::from_utf8(request).unwrap()
        };
        let [first, second, third] = [next(), next(), next()];
        assert!(first.contains("X-API-Key: a\r\n") && second.contains("X-API-Key: b\r\n"));
        assert_eq!(first, third);
        assert_eq!([uses.distinct(1), uses.distinct(9)], [1, 2]);
    }

    #[test]
    fn a_random_key_is_spelled_like_one() {
        let key = random_key(&mut fastrand::Rng::with_seed(1));
        let (start, hex) = key.split_at("sk_live_".len());
        assert_eq!((start, hex.len()), ("sk_live_", 64));
        assert!(hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    }
}
