//! What this gateway knows of what the whole fleet shares.
//!
//! "Keys without a check may not ask" is an answer that makes a key unknown, so it must not be out of date: it counts
//! only while it is recent and younger than every hint that it changed. Otherwise the store is asked first, and if it does
//! not answer nobody can say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use crate::clock::{Clock, Tick};
use crate::model::{ApiKey, Denial};
use crate::store::{FleetSettings, StoreError};

use super::loader::Loader;

/// How long "keys without a check may not ask" is believed.
const TRUST: Duration = Duration::from_secs(3);
/// After a failure nobody asks again for so long: a flood of forged keys must not queue for a store that is away.
const PAUSE: Duration = Duration::from_secs(1);

/// The fleet's settings, and how far they can be believed.
pub(super) struct Fleet {
    known: ArcSwapOption<Known>,
    /// How often something hinted that they changed.
    hints: AtomicU64,
    /// One at a time asks; inside, when that last failed.
    asking: Mutex<Option<Tick>>,
    loader: Loader,
    clock: Arc<dyn Clock>,
}

struct Known {
    settings: FleetSettings,
    /// From before the store was asked.
    asked_at: Tick,
    /// As many hints were there before.
    hints: u64,
}

impl Fleet {
    pub(super) fn new(loader: Loader, clock: Arc<dyn Clock>) -> Fleet {
        Fleet {
            known: ArcSwapOption::empty(),
            hints: AtomicU64::new(0),
            asking: Mutex::new(None),
            loader,
            clock,
        }
    }

    /// Something may have changed.
    pub(super) fn hint(&self) {
        self.hints.fetch_add(1, Ordering::SeqCst);
    }

    /// Asks the store. What was known stays known if it does not answer.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        self.ask(&mut *self.asking.lock().await).await
    }

    /// Whether the key carries its check. Without it, keygate did not make it.
    pub(super) fn made(&self, key: &ApiKey) -> bool {
        self.known.load().as_ref().is_some_and(|known| key.is_checked_by(&known.settings.check_secrets))
    }

    /// Whether the settings were ever known.
    pub(super) fn is_known(&self) -> bool {
        self.known.load().is_some()
    }

    /// Whether keys without a check may be looked up.
    pub(super) async fn accepts_unchecked(&self) -> Result<bool, Denial> {
        if let Some(answer) = self.believed() {
            return Ok(answer);
        }
        let mut failed_at = self.asking.lock().await;
        if let Some(answer) = self.believed() {
            return Ok(answer);
        }
        if failed_at.is_some_and(|failed| self.clock.now().tick.since(failed) < PAUSE) {
            return Err(Denial::VerificationUnavailable);
        }
        self.ask(&mut failed_at).await.map_err(|_| Denial::VerificationUnavailable)?;
        self.believed().ok_or(Denial::VerificationUnavailable)
    }

    /// The answer, as far as it can be believed. A "yes" only leads to the store, which then says the rest.
    fn believed(&self) -> Option<bool> {
        let known = self.known.load();
        let known = known.as_ref()?;
        let recent = self.clock.now().tick.since(known.asked_at) <= TRUST;
        let accepts = known.settings.accept_unchecked_keys;
        (accepts || (recent && known.hints >= self.hints.load(Ordering::SeqCst))).then_some(accepts)
    }

    async fn ask(&self, failed_at: &mut Option<Tick>) -> Result<(), StoreError> {
        let (asked_at, hints) = (self.clock.now().tick, self.hints.load(Ordering::SeqCst));
        match self.loader.fleet().await {
            Ok(settings) => {
                self.known.store(Some(Arc::new(Known { settings, asked_at, hints })));
                *failed_at = None;
                Ok(())
            }
            Err(error) => {
                *failed_at = Some(self.clock.now().tick);
                Err(error)
            }
        }
    }

    /// As if the store had never been asked.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.known.store(None);
    }
}
