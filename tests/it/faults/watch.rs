//! Somebody who uses keys on every gateway all the time, and writes down what comes of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::wait::{Moment, PATIENCE, eventually, moment, pause};
use crate::support::{Connection, Fleet, Request};

use super::{BACK, BUSY, REFUSED_IN, measured};

/// The keys that are used.
#[derive(Clone, Default)]
pub struct Keys {
    /// Alive, and used all the time: never refused.
    pub in_use: Vec<String>,
    /// Alive, and each used once on each gateway: the gateway has to ask.
    pub unused: Vec<String>,
    /// Revoked, and everybody knows: never accepted.
    pub dead: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InUse,
    Unused,
    Dead,
}

/// One request.
#[derive(Clone, Debug)]
struct Sample {
    kind: Kind,
    gateway: usize,
    started: Moment,
    ended: Moment,
    /// 0 if there was no answer.
    status: u16,
    code: String,
}

/// The one who uses keys, at work.
pub struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    gateways: usize,
}

/// What has come of it.
pub struct Report(Vec<Sample>);

impl Watch {
    /// Begins, and waits until all is as it should be.
    pub fn begin(fleet: &Fleet, keys: &Keys) -> Watch {
        let mut watch = Watch {
            samples: Arc::default(),
            stopping: Arc::default(),
            threads: Vec::new(),
            gateways: fleet.gateways.len(),
        };
        let began = moment();
        for (number, gateway) in fleet.gateways.iter().enumerate() {
            let user = || User {
                address: gateway.address(),
                gateway: number,
                connection: None,
                samples: Arc::clone(&watch.samples),
                stopping: Arc::clone(&watch.stopping),
            };
            let (user, asker, known, unused) = (user(), user(), keys.clone(), keys.unused.clone());
            watch.threads.push(thread::spawn(move || user.use_what_is_known(&known)));
            watch.threads.push(thread::spawn(move || asker.use_what_is_not(&unused)));
        }
        if !keys.unused.is_empty() {
            watch.wait_until_unused_keys_open(began, PATIENCE);
        }
        eventually("keys are in use on every gateway", PATIENCE, || {
            (0..watch.gateways).all(|gateway| watch.has(Kind::InUse, gateway, began, 200))
        });
        watch
    }

    /// Waits until keys that were not used before open on every gateway; how long that took at the slowest, from
    /// `since` on.
    #[track_caller]
    pub fn wait_until_unused_keys_open(&self, since: Moment, within: Duration) -> Duration {
        eventually("unused keys open on every gateway", within, || {
            (0..self.gateways).all(|gateway| self.has(Kind::Unused, gateway, since, 200))
        });
        let first = |gateway| {
            let samples = self.samples.lock().unwrap();
            let opened = samples.iter().filter(|sample| sample.is(Kind::Unused, gateway, since, 200));
            opened.map(|sample| sample.ended - since).min()
        };
        (0..self.gateways).filter_map(first).max().unwrap_or_default()
    }

    /// Waits until on every gateway somebody who had to ask was told that nobody can say.
    #[track_caller]
    pub fn wait_until_unused_keys_are_refused(&self, since: Moment, within: Duration) {
        eventually("unused keys are refused on every gateway", within, || {
            (0..self.gateways).all(|gateway| self.has(Kind::Unused, gateway, since, 503))
        });
    }

    pub fn end(mut self) -> Report {
        self.stop();
        Report(std::mem::take(&mut *self.samples.lock().unwrap()))
    }

    fn has(&self, kind: Kind, gateway: usize, since: Moment, status: u16) -> bool {
        self.samples.lock().unwrap().iter().rev().any(|sample| sample.is(kind, gateway, since, status))
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // it writes down what fails, and does not panic
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sample {
    fn is(&self, kind: Kind, gateway: usize, since: Moment, status: u16) -> bool {
        (self.kind, self.gateway, self.status) == (kind, gateway, status) && self.started >= since
    }

    fn took(&self) -> Duration {
        self.ended - self.started
    }
}

struct User {
    address: SocketAddr,
    gateway: usize,
    connection: Option<Connection>,
    samples: Arc<Mutex<Vec<Sample>>>,
    stopping: Arc<AtomicBool>,
}

impl User {
    fn use_what_is_known(mut self, keys: &Keys) {
        while !self.stopping.load(Ordering::SeqCst) {
            for key in &keys.in_use {
                self.ask(Kind::InUse, key);
            }
            for key in &keys.dead {
                self.ask(Kind::Dead, key);
            }
            pause(Duration::from_millis(40));
        }
    }

    /// Goes on to the next key when one has opened, and then is in no hurry: there are only so many.
    fn use_what_is_not(mut self, keys: &[String]) {
        for key in keys {
            while self.ask(Kind::Unused, key) != 200 {
                if self.stopping.load(Ordering::SeqCst) {
                    return;
                }
                pause(Duration::from_millis(20));
            }
            pause(Duration::from_millis(150));
        }
    }

    fn ask(&mut self, kind: Kind, key: &str) -> u16 {
        let request = Request::get("/v1/wallets/wlt_1").key(key);
        let started = moment();
        let connection = self.connection.take().map_or_else(|| Connection::try_open(self.address), Ok);
        let answered = connection.and_then(|mut connection| {
            let answer = connection.try_ask(&request)?;
            self.connection = (!answer.headers.asks_to_close()).then_some(connection);
            Ok(answer)
        });
        let (status, code) = match answered {
            Ok(answer) => (answer.status, answer.code()),
            Err(error) => (0, error.to_string()),
        };
        let sample = Sample { kind, gateway: self.gateway, started, ended: moment(), status, code };
        self.samples.lock().unwrap().push(sample);
        status
    }
}

impl Report {
    /// Keys in use opened each time; nobody was told that a living key is not one; no dead key was accepted.
    #[track_caller]
    pub fn assert_nobody_was_wronged(&self) {
        let wrong = |sample: &&Sample| match sample.kind {
            Kind::InUse => sample.status != 200,
            Kind::Unused => !matches!(sample.status, 200 | 503),
            Kind::Dead => !matches!((sample.status, sample.code.as_str()), (401, "key_revoked") | (503, _)),
        };
        let wronged: Vec<_> = self.0.iter().filter(wrong).take(20).collect();
        assert!(wronged.is_empty(), "{wronged:#?}");
    }

    /// From `from` to `until` whoever had to ask was told that nobody can say, and did not wait for that.
    #[track_caller]
    pub fn assert_unused_keys_were_503(&self, from: Moment, until: Moment) {
        let during =
            |sample: &&Sample| sample.kind == Kind::Unused && sample.started >= from && sample.ended <= until;
        let asked: Vec<_> = self.0.iter().filter(during).collect();
        assert!(!asked.is_empty(), "nobody asked");
        let wrong = |sample: &&&Sample| {
            (sample.status, sample.code.as_str()) != (503, "verification_unavailable")
                || sample.took() > REFUSED_IN + BUSY
        };
        let wrong: Vec<_> = asked.iter().filter(wrong).take(20).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// One line of what was measured, for the table of faults.
    pub fn tell(&self, fault: &str, from: Moment, until: Moment, back: Duration) {
        let of = |kind: Kind| self.0.iter().filter(move |sample| sample.kind == kind);
        let failed = of(Kind::InUse).filter(|sample| sample.status != 200).count();
        let asked = of(Kind::Unused).filter(|sample| sample.started >= from && sample.ended <= until);
        let slowest = asked.map(Sample::took).max().unwrap_or_default();
        measured(&format!(
            "{fault}: lasted {:.1} s; keys in use failed {failed} of {}; unused keys refused within {} ms; \
             opened again {} ms after the end (required: {} ms)",
            (until - from).as_secs_f64(),
            of(Kind::InUse).count(),
            slowest.as_millis(),
            back.as_millis(),
            BACK.as_millis(),
        ));
    }
}
