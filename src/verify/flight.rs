//! One load a key at a time, however many wait for it.
//!
//! A load runs as a task of its own, on the runtime of whoever began it: the request that caused it may go away without harm
//! to the others that wait, and for the one that waits nothing crosses from thread to thread.
//! Who joins a load that began earlier must judge its answer by its note, for it may be older than the request.

use std::future::Future;

use tokio::sync::watch;

use crate::model::KeyHash;

use super::board::Board;

/// Loads under way, by key. `T` is what a load brings.
pub struct Flights<T: Clone> {
    board: Board<watch::Receiver<Option<T>>>,
}

/// The load ended without an answer: it panicked, or its runtime is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the load ended without an answer")]
pub struct Lost;

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// No load is under way.
    pub fn new() -> Flights<T> {
        Flights { board: Board::new() }
    }

    /// The answer of the load of `hash` that is under way, or else of a new one, which `load` begins.
    ///
    /// `begin` is called before this function first waits, and only if no load of this key is under way. It may
    /// decline, and then the answer is `None`; the future that it makes must not be lazy about noting the epoch.
    /// Cancel-safe: the load goes on.
    ///
    /// # Errors
    /// [`Lost`] if the load ended without an answer.
    pub async fn join<F>(&self, hash: KeyHash, begin: impl FnOnce() -> Option<F>) -> Result<Option<T>, Lost>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let Some(mut answer) = self.start(hash, begin) else { return Ok(None) };
        let brought = answer.wait_for(Option::is_some).await.map_err(|_| Lost)?;
        brought.clone().map(Some).ok_or(Lost)
    }

    /// Has `hash` loaded, as [`Flights::join`] does, without waiting for it. The way to the answer.
    ///
    /// # Panics
    /// There is no tokio runtime here.
    pub fn start<F>(
        &self,
        hash: KeyHash,
        begin: impl FnOnce() -> Option<F>,
    ) -> Option<watch::Receiver<Option<T>>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, begun) = self.board.join(hash, || {
            let load = begin()?;
            let (tell, answer) = watch::channel(None);
            Some((answer, (load, tell)))
        })?;
        if let Some(((load, tell), landing)) = begun {
            tokio::spawn(async move {
                let brought = load.await;
                drop(landing);
                tell.send_replace(Some(brought));
            });
        }
        Some(answer)
    }

    /// Whether no load is under way.
    #[cfg(test)]
    pub(super) fn are_over(&self) -> bool {
        self.board.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const HASH: KeyHash = KeyHash::from_bytes([1; 32]);

    #[tokio::test]
    async fn however_many_wait_there_is_one_load() {
        let flights = Arc::new(Flights::new());
        let loads = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let waiters: Vec<_> = (0..1_000)
            .map(|_| {
                let (flights, loads, gate) = (Arc::clone(&flights), Arc::clone(&loads), Arc::clone(&gate));
                tokio::spawn(async move {
                    flights
                        .join(HASH, || {
                            loads.fetch_add(1, Ordering::SeqCst);
                            Some(async move { gate.acquire().await.map(|_| 7).unwrap_or(0) })
                        })
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.add_permits(1);
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), Ok(Some(7)));
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(flights.board.is_empty());
    }

    #[tokio::test]
    async fn a_load_outlives_the_request_that_caused_it() {
        let flights = Arc::new(Flights::new());
        let gate = Arc::new(Semaphore::new(0));
        let first = tokio::spawn({
            let (flights, gate) = (Arc::clone(&flights), Arc::clone(&gate));
            async move {
                flights.join(HASH, || Some(async move { gate.acquire().await.map(|_| 1).unwrap_or(0) })).await
            }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        gate.add_permits(1);
        assert_eq!(flights.join(HASH, || Some(async { 2 })).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn a_load_that_is_declined_is_none_and_leaves_no_trace() {
        let flights: Flights<u8> = Flights::new();
        let decline = || None::<std::future::Ready<u8>>;
        assert_eq!(flights.join(HASH, decline).await, Ok(None));
        assert!(flights.board.is_empty());
    }

    #[tokio::test]
    async fn a_load_that_ends_with_its_runtime_is_lost_and_the_next_one_is_new() {
        let flights: Arc<Flights<u8>> = Arc::new(Flights::new());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let begun = {
            let _on = runtime.enter();
            flights.start(HASH, || Some(std::future::pending()))
        };
        assert!(begun.is_some());
        let joined = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.join(HASH, || Some(async { 1 })).await }
        });
        tokio::task::yield_now().await;
        runtime.shutdown_background();
        assert_eq!(joined.await.unwrap(), Err(Lost));
        assert_eq!(flights.join(HASH, || Some(async { 3 })).await, Ok(Some(3)));
    }

    #[tokio::test]
    async fn a_load_that_panics_is_lost_and_the_next_one_is_new() {
        let flights: Flights<u8> = Flights::new();
        let panics = || Some(async { panic!("on purpose") });
        assert_eq!(flights.join(HASH, panics).await, Err(Lost));
        assert_eq!(flights.join(HASH, || Some(async { 3 })).await, Ok(Some(3)));
    }
}
