//! The one thread that writes.
//!
//! Changes that wait are committed together: one sync of the disk serves them all. Each runs in a savepoint of
//! its own, so that one that fails takes nobody with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{OnCommit, queries, schema, store_error};
use crate::clock::Clock;
use crate::model::Event;
use crate::store::StoreError;

/// Changes that may wait; whoever brings one more waits for a place.
const QUEUE: usize = 256;
/// Changes in one transaction.
const GROUP: usize = 64;

/// What a change yields: its result, and the events to tell once it is durable.
pub(super) type Changed<T> = rusqlite::Result<(T, Vec<Event>)>;

/// A handle to the writing thread. Dropping it lets the thread finish what waits, and waits for that.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on a connection made by [`schema::connect_writer`].
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        clock: Arc<dyn Clock>,
        on_commit: OnCommit,
    ) -> io::Result<Writer> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let desk = Desk { path, connection: Some(connection), clock, on_commit };
        let thread =
            thread::Builder::new().name("keygate-sqlite".to_owned()).spawn(move || desk.work(jobs))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread) })
    }

    /// Makes one change. When it returns `Ok`, the change is durable and its event was told.
    ///
    /// Dropping the future does not take back a change that already waits.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Changed<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Change { change: Some(change), outcome: None, reply };
        let queue = self.queue.as_ref().ok_or_else(|| StoreError::unavailable(WriterStopped))?;
        queue.send(Box::new(job)).await.map_err(|_| StoreError::unavailable(WriterStopped))?;
        answer.await.map_err(|_| StoreError::unavailable(WriterStopped))?
    }

    /// Has the time of day noted, some time, and waits for nothing. With changes that wait it is noted anyway.
    pub(super) fn note_time(&self) {
        let (reply, _) = oneshot::channel::<Result<(), StoreError>>();
        let job = Change { change: Some(|_: &Connection| Ok(((), Vec::new()))), outcome: None, reply };
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Box::new(job));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so, and everybody who waited has an error.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the thread that writes to SQLite has stopped")]
struct WriterStopped;

/// What the thread has before it.
struct Desk {
    path: PathBuf,
    /// `None` after a failed commit: what the operating system then holds of the file cannot be trusted.
    connection: Option<Connection>,
    clock: Arc<dyn Clock>,
    on_commit: OnCommit,
}

impl Desk {
    fn work(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            self.commit(group);
        }
    }

    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        match self.transact(&mut group) {
            Ok(()) => {
                group.iter().flat_map(|job| job.events()).for_each(|event| (self.on_commit)(event));
                group.into_iter().for_each(|job| job.reply());
            }
            Err(error) => {
                self.connection = None;
                tracing::error!(%error, changes = group.len(), "SQLite did not commit");
                let error = Arc::new(error);
                group.into_iter().for_each(|job| job.fail(Arc::clone(&error)));
            }
        }
    }

    fn transact(&mut self, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => self.connection.insert(connection),
            None => self.connection.insert(schema::connect_writer(&self.path)?),
        };
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for job in group {
            connection.execute_batch("SAVEPOINT one_change")?;
            // After a full disk or an I/O error SQLite may have rolled everything back by itself; then there is no
            // savepoint any more, and the whole group fails here.
            match job.run(connection) {
                true => connection.execute_batch("RELEASE one_change")?,
                false => connection.execute_batch("ROLLBACK TO one_change; RELEASE one_change")?,
            }
        }
        // With the changes, or not at all: no change is from a later time than the file knows of.
        queries::raise_high_water(connection, self.clock.now().wall)?;
        connection.execute_batch("COMMIT")
    }
}

/// A change, whatever it yields.
trait Job: Send {
    /// Makes it within the transaction; whether it went well.
    fn run(&mut self, connection: &Connection) -> bool;
    /// The events to tell, if the change went well and has some.
    fn events(&self) -> &[Event];
    /// Answers with the outcome: the transaction is durable.
    fn reply(self: Box<Self>);
    /// Answers that the transaction failed.
    fn fail(self: Box<Self>, error: Arc<rusqlite::Error>);
}

struct Change<T, F> {
    change: Option<F>,
    outcome: Option<Changed<T>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Changed<T> + Send> Job for Change<T, F> {
    fn run(&mut self, connection: &Connection) -> bool {
        self.outcome = self.change.take().map(|change| change(connection));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn events(&self) -> &[Event] {
        match &self.outcome {
            Some(Ok((_, events))) => events,
            Some(Err(_)) | None => &[],
        }
    }

    fn reply(self: Box<Self>) {
        let answer = match self.outcome {
            Some(Ok((value, _))) => Ok(value),
            Some(Err(error)) => Err(store_error(error)),
            None => Err(StoreError::unavailable(WriterStopped)),
        };
        // Nobody listens any more when the caller's deadline passed; the change stands all the same.
        let _ = self.reply.send(answer);
    }

    fn fail(self: Box<Self>, error: Arc<rusqlite::Error>) {
        let _ = self.reply.send(Err(StoreError::unavailable(error)));
    }
}
