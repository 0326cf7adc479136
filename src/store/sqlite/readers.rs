//! The connections that read.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock::Lock;
use super::schema;
use crate::store::StoreError;

/// As many reads can be under way.
const READERS: usize = 4;

/// The connections that read.
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    // Here, because a read whose caller went away is the last to end.
    _lock: Lock,
}

impl Readers {
    /// Opens them. They keep the lock until the last read has ended.
    pub(super) fn open(path: &Path, lock: Lock) -> rusqlite::Result<Arc<Readers>> {
        let idle = (0..READERS).map(|_| schema::connect_reader(path)).collect::<rusqlite::Result<_>>()?;
        let permits = Arc::new(Semaphore::new(READERS));
        Ok(Arc::new(Readers { idle: Mutex::new(idle), permits, _lock: lock }))
    }

    /// One of them, when it is free.
    pub(super) async fn take(readers: &Arc<Readers>) -> Result<Reader, StoreError> {
        let permit = Arc::clone(&readers.permits).acquire_owned().await.map_err(StoreError::unavailable)?;
        let connection = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Reader { readers: Arc::clone(readers), connection, _permit: permit })
    }
}

/// One of the connections, for one read.
pub(super) struct Reader {
    readers: Arc<Readers>,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    pub(super) fn connection(&self) -> rusqlite::Result<&Connection> {
        // There are as many connections as permits.
        self.connection.as_ref().ok_or(rusqlite::Error::InvalidQuery)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
