//! Whether this gateway may be given requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// What the rest of the gateway tells the probes.
#[derive(Debug)]
pub struct Health {
    synced: watch::Sender<bool>,
    draining: AtomicBool,
    store_fails: AtomicBool,
}

/// The answer of `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It serves.
    Ready,
    /// It serves what it remembers, but the store is in trouble. Still ready: a balancer that took every gateway
    /// away for it would make an outage of it.
    Degraded,
    /// It has not reached its store yet.
    Starting,
    /// It is on its way out.
    Draining,
}

impl Health {
    /// A gateway that has just started.
    pub fn new() -> Health {
        Health {
            synced: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            store_fails: AtomicBool::new(false),
        }
    }

    /// The store was reached for the first time. There is no way back.
    pub fn sync(&self) {
        self.synced.send_replace(true);
    }

    /// No new requests from now on. There is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the store is in order.
    pub fn store_answers(&self, answers: bool) {
        self.store_fails.store(!answers, Ordering::Release);
    }

    /// What to tell a balancer.
    pub fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Acquire) {
            Readiness::Draining
        } else if !*self.synced.borrow() {
            Readiness::Starting
        } else if self.store_fails.load(Ordering::Acquire) {
            Readiness::Degraded
        } else {
            Readiness::Ready
        }
    }

    /// Waits at most `limit` for the first sync; whether it came.
    pub async fn synced_within(&self, limit: Duration) -> bool {
        let mut synced = self.synced.subscribe();
        tokio::time::timeout(limit, synced.wait_for(|&synced| synced)).await.is_ok_and(|seen| seen.is_ok())
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

impl Readiness {
    /// Whether requests may come.
    pub const fn is_ready(self) -> bool {
        match self {
            Readiness::Ready | Readiness::Degraded => true,
            Readiness::Starting | Readiness::Draining => false,
        }
    }

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Readiness::Ready => "ready",
            Readiness::Degraded => "degraded",
            Readiness::Starting => "starting",
            Readiness::Draining => "draining",
        }
    }

    /// What it means, for whoever reads the probe; nothing where there is nothing to say.
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Readiness::Ready => None,
            Readiness::Degraded => Some("the store does not answer; remembered keys are served"),
            Readiness::Starting => Some("waiting for the store"),
            Readiness::Draining => Some("shutting down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_only_between_the_first_sync_and_the_drain() {
        let health = Health::new();
        assert_eq!(health.readiness(), Readiness::Starting);
        assert!(!health.synced_within(Duration::from_millis(1)).await);
        health.sync();
        assert_eq!(health.readiness(), Readiness::Ready);
        assert!(health.synced_within(Duration::from_secs(5)).await);
        health.store_answers(false);
        assert_eq!(health.readiness(), Readiness::Degraded);
        assert!(health.readiness().is_ready());
        health.drain();
        assert_eq!(health.readiness(), Readiness::Draining);
        assert!(!health.readiness().is_ready());
    }
}
