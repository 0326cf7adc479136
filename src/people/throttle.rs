//! Slows down whoever guesses passwords: by account, and by where they come from.
//!
//! A failure is counted before the password is tried, and taken back if it was right: many who try at once get no more
//! tries than one after the other. Whoever has to wait is told so whatever the password is.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Tick;
use crate::model::Account;

/// Failures before one has to wait. A source may be a whole office.
const FREE_BY_ACCOUNT: u32 = 5;
const FREE_BY_SOURCE: u32 = 20;
/// The wait after the first failure beyond; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// After so long without an attempt all is forgotten.
const MEMORY: Duration = Duration::from_secs(60 * 60);
/// Accounts, and sources, that are remembered.
const CAPACITY: usize = 10_000;

/// Who has failed lately.
pub(super) struct Throttle {
    by_account: Mutex<Failures<Account>>,
    by_source: Mutex<Failures<IpAddr>>,
}

/// A try that is under way, and counts as failed unless something else is said.
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    account: Option<Account>,
    source: IpAddr,
}

impl Throttle {
    pub(super) fn new() -> Throttle {
        Throttle {
            by_account: Mutex::new(Failures::new(FREE_BY_ACCOUNT)),
            by_source: Mutex::new(Failures::new(FREE_BY_SOURCE)),
        }
    }

    /// Begins a try, or says how long to wait. `account` is `None` if what was typed can be none.
    pub(super) fn begin(
        &self,
        account: Option<&Account>,
        source: IpAddr,
        now: Tick,
    ) -> Result<Attempt<'_>, Duration> {
        let source = network_of(source);
        let (mut accounts, mut sources) = (lock(&self.by_account), lock(&self.by_source));
        let waits = [account.and_then(|account| accounts.wait(account, now)), sources.wait(&source, now)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        if let Some(account) = account {
            accounts.count(account.clone(), now);
        }
        sources.count(source, now);
        Ok(Attempt { throttle: self, account: account.cloned(), source })
    }
}

impl Attempt<'_> {
    /// The password was right: the account's failures are forgotten, and this try is none of the source's.
    pub(super) fn succeeded(self) {
        if let Some(account) = &self.account {
            lock(&self.throttle.by_account).entries.remove(account);
        }
        lock(&self.throttle.by_source).take_back(&self.source);
    }

    /// It was not tried after all.
    pub(super) fn abandoned(self) {
        if let Some(account) = &self.account {
            lock(&self.throttle.by_account).take_back(account);
        }
        lock(&self.throttle.by_source).take_back(&self.source);
    }
}

struct Failures<K> {
    free: u32,
    entries: HashMap<K, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    failures: u32,
    last: Tick,
}

impl<K: Hash + Eq + Clone> Failures<K> {
    fn new(free: u32) -> Failures<K> {
        Failures { free, entries: HashMap::new() }
    }

    /// How long `key` has to wait still.
    fn wait(&self, key: &K, now: Tick) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        let wait = self.wait_after(entry.failures).checked_sub(now.since(entry.last))?;
        (!wait.is_zero()).then_some(wait)
    }

    fn wait_after(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(beyond) => FIRST_WAIT.saturating_mul(1 << beyond.min(20)).min(LONGEST_WAIT),
        }
    }

    fn count(&mut self, key: K, now: Tick) {
        if !self.entries.contains_key(&key) && self.entries.len() >= CAPACITY {
            self.make_room(now);
        }
        let entry = self.entries.entry(key).or_insert(Entry { failures: 0, last: now });
        if now.since(entry.last) > MEMORY {
            entry.failures = 0;
        }
        *entry = Entry { failures: entry.failures.saturating_add(1), last: now };
    }

    fn take_back(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failures = entry.failures.saturating_sub(1);
            if entry.failures == 0 {
                self.entries.remove(key);
            }
        }
    }

    /// Forgets who is old; if nobody is, whoever has the least to wait.
    fn make_room(&mut self, now: Tick) {
        self.entries.retain(|_, entry| now.since(entry.last) <= MEMORY);
        if self.entries.len() >= CAPACITY {
            let least = self.entries.iter().min_by_key(|(_, entry)| (entry.failures, entry.last));
            if let Some(key) = least.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

/// Who has one IPv6 address has a whole network of them.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (!0 << 64)).into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos((1_000 + seconds) * 1_000_000_000)
    }

    fn account(name: &str) -> Account {
        name.parse().unwrap()
    }

    fn source(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([198, 51, high, low])
    }

    #[test]
    fn each_failure_beyond_the_free_ones_doubles_the_wait() {
        let throttle = Throttle::new();
        let ada = account("ada");
        for number in 0..5 {
            assert!(throttle.begin(Some(&ada), source(number), at(0)).is_ok());
        }
        let mut now = 0;
        for (number, wait) in [1, 2, 4, 8, 16].into_iter().enumerate() {
            let refused = throttle.begin(Some(&ada), source(100), at(now)).err();
            assert_eq!(refused, Some(Duration::from_secs(wait)));
            now += wait;
            assert!(throttle.begin(Some(&ada), source(10 + number as u16), at(now)).is_ok());
        }
        for _ in 0..30 {
            now += 15 * 60;
            assert!(throttle.begin(Some(&ada), source(200), at(now)).is_ok(), "never longer than 15 minutes");
            throttle.by_source.lock().unwrap().entries.clear();
        }
        now += 3_601;
        for number in 0..5 {
            assert!(throttle.begin(Some(&ada), source(300 + number), at(now)).is_ok(), "an hour is enough");
        }
    }

    #[test]
    fn a_source_that_tries_many_accounts_has_to_wait() {
        let throttle = Throttle::new();
        for number in 0..20 {
            assert!(throttle.begin(Some(&account(&format!("user{number}"))), HERE, at(0)).is_ok());
        }
        assert!(throttle.begin(Some(&account("another")), HERE, at(0)).is_err());
        assert!(throttle.begin(None, HERE, at(0)).is_err());
        assert!(throttle.begin(Some(&account("another")), source(1), at(0)).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let throttle = Throttle::new();
        for number in 0..20 {
            let address: IpAddr = format!("2001:db8::{number}").parse().unwrap();
            assert!(throttle.begin(None, address, at(0)).is_ok());
        }
        assert!(throttle.begin(None, "2001:db8::ffff:1".parse().unwrap(), at(0)).is_err());
        assert!(throttle.begin(None, "2001:db8:0:1::1".parse().unwrap(), at(0)).is_ok());
    }

    #[test]
    fn a_success_forgets_the_accounts_failures_and_not_the_sources() {
        let throttle = Throttle::new();
        let ada = account("ada");
        for _ in 0..4 {
            for _ in 0..4 {
                assert!(throttle.begin(Some(&ada), HERE, at(0)).is_ok());
            }
            throttle.begin(Some(&ada), HERE, at(0)).ok().unwrap().succeeded();
        }
        for _ in 0..4 {
            assert!(throttle.begin(Some(&ada), HERE, at(0)).is_ok(), "16 failures so far");
        }
        assert!(throttle.begin(Some(&ada), HERE, at(0)).is_err(), "and 20 now");
    }

    #[test]
    fn what_was_not_tried_does_not_count() {
        let throttle = Throttle::new();
        for _ in 0..100 {
            throttle.begin(Some(&account("ada")), HERE, at(0)).ok().unwrap().abandoned();
        }
    }

    #[test]
    fn it_remembers_no_more_than_it_may() {
        let throttle = Throttle::new();
        let victim = account("victim");
        for number in 0..5 {
            assert!(throttle.begin(Some(&victim), source(number), at(0)).is_ok());
        }
        for number in 0..2 * CAPACITY {
            let source = source(1000 + (number / 10) as u16);
            assert!(throttle.begin(Some(&account(&format!("user{number}"))), source, at(0)).is_ok());
        }
        assert!(throttle.by_account.lock().unwrap().entries.len() <= CAPACITY);
        assert!(throttle.begin(Some(&victim), source(60_000), at(0)).is_err(), "and not by way of a flood");
    }
}
