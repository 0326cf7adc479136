//! The embedded store: one SQLite file, one process.
//!
//! One thread writes, and a change is on the disk before it is told or acknowledged. Reads have connections of
//! their own and never wait for a write. Nothing here blocks a runtime's thread.

mod lock;
mod queries;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::lock::Lock;
use self::writer::Writer;
use super::{
    Creation, FleetSettings, KeyStore, ListQuery, Page, Revocation, StoreError, StoredKey, UsageBatch,
};
use crate::clock::Clock;
use crate::model::{Event, EventKind, KeyHash, KeyId, KeyRecord};

/// Connections that read; as many reads can be under way.
const READERS: usize = 4;

/// Called for each event when its change is durable and before the change is acknowledged, on the writing thread.
pub type OnCommit = Box<dyn Fn(&Event) + Send + Sync>;

/// A [`KeyStore`] in a file.
pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    // Before the readers, which hold the lock: writing ends first.
    writer: Writer,
    readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it; its directory must exist. Blocks: for the start of the process.
    ///
    /// # Errors
    /// Another process has it open, it is no database of keygate's or one of a newer keygate, or the file cannot be
    /// read or written.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        on_commit: OnCommit,
    ) -> Result<SqliteStore, SqliteOpenError> {
        let path = lock::resolve(path)?;
        let lock = Lock::take(&path)?;
        make_private(&path)?;
        let database = |source| SqliteOpenError::Database { path: path.clone(), source };

        let mut connection = schema::connect_writer(&path).map_err(database)?;
        schema::migrate(&mut connection, &path)?;
        let idle = (0..READERS)
            .map(|_| schema::connect_reader(&path))
            .collect::<rusqlite::Result<_>>()
            .map_err(database)?;
        let readers = Arc::new(Readers {
            idle: Mutex::new(idle),
            permits: Arc::new(Semaphore::new(READERS)),
            _lock: lock,
        });
        let writer = Writer::start(connection, path, on_commit).map_err(SqliteOpenError::Thread)?;
        Ok(SqliteStore { clock, writer, readers })
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Readers::take(&self.readers).await?;
        let read = tokio::task::spawn_blocking(move || query(reader.connection()?));
        read.await.map_err(StoreError::unavailable)?.map_err(store_error)
    }
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        let hash = *hash;
        self.read(move |connection| queries::find(connection, &hash)).await
    }

    async fn get(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        let id = *id;
        self.read(move |connection| queries::get(connection, &id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        let query = query.clone();
        self.read(move |connection| queries::list(connection, &query)).await
    }

    async fn create(&self, record: &KeyRecord) -> Result<Creation, StoreError> {
        let (record, clock) = (record.clone(), Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            if !queries::insert(connection, &record)? {
                return Ok((Creation::AlreadyThere, None));
            }
            let event = Event { kind: EventKind::Created, hash: record.hash, at: clock.now().wall };
            Ok((Creation::Created, Some(event)))
        };
        self.writer.write(change).await
    }

    async fn revoke(&self, id: &KeyId) -> Result<Option<Revocation>, StoreError> {
        let (id, clock) = (*id, Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            let now = clock.now().wall;
            let newly = queries::revoke(connection, &id, now)?;
            let Some(StoredKey { record, .. }) = queries::get(connection, &id)? else {
                return Ok((None, None));
            };
            let event = Event { kind: EventKind::Revoked, hash: record.hash, at: now };
            Ok((Some(Revocation { record, newly }), Some(event)))
        };
        self.writer.write(change).await
    }

    async fn record_uses(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let (batch, clock) = (batch.clone(), Arc::clone(&self.clock));
        let change = move |connection: &Connection| {
            queries::record_uses(connection, &batch, clock.now().wall)?;
            Ok(((), None))
        };
        self.writer.write(change).await
    }

    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        if let Some(fleet) = self.read(queries::fleet).await? {
            return Ok(fleet);
        }
        let new = FleetSettings::random()?;
        let change = move |connection: &Connection| match queries::fleet(connection)? {
            Some(fleet) => Ok((fleet, None)),
            None => {
                queries::insert_fleet(connection, &new)?;
                Ok((new, None))
            }
        };
        self.writer.write(change).await
    }

    async fn accept_unchecked_keys(&self, accept: bool) -> Result<(), StoreError> {
        self.fleet().await?;
        let clock = Arc::clone(&self.clock);
        let change = move |connection: &Connection| {
            queries::accept_unchecked_keys(connection, accept)?;
            Ok(((), Some(Event::of_fleet(clock.now().wall))))
        };
        self.writer.write(change).await
    }
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// Its directory is missing, or may not be entered.
    #[error("{} cannot be reached: its directory must exist and be accessible", path.display())]
    Directory {
        /// As it was given.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process, or this one, has it open.
    #[error(
        "{} is in use by another keygate{}; SQLite serves one process: stop it, or use Redis for a fleet",
        path.display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process that has it, if it says so.
        holder: Option<u32>,
    },
    /// The lock file cannot be written.
    #[error("{} cannot be locked", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A newer keygate made it.
    #[error(
        "{} has schema version {found}, and this keygate knows up to {known}: use the newer keygate",
        path.display()
    )]
    UnknownVersion {
        /// The database.
        path: PathBuf,
        /// The version in it.
        found: i64,
        /// The newest version that this keygate knows.
        known: usize,
    },
    /// It is a database, and not one of keygate's.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The file cannot be made, read or written.
    #[error("{} cannot be opened", path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// SQLite refused it.
    #[error("{} cannot be opened", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// No thread for the writer.
    #[error("the thread that writes to SQLite cannot be started")]
    Thread(#[source] io::Error),
}

/// The file holds the secrets of the fleet: a new one is for its owner only, and so are SQLite's files beside it,
/// which take its mode. Only under the lock: closing the file would end the locks of another connection to it.
fn make_private(path: &Path) -> Result<(), SqliteOpenError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| SqliteOpenError::File { path: path.to_owned(), source })
}

/// The connections that read.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    // Here, because a read whose caller went away is the last to end.
    _lock: Lock,
}

impl Readers {
    async fn take(readers: &Arc<Readers>) -> Result<Reader, StoreError> {
        let permit = Arc::clone(&readers.permits).acquire_owned().await.map_err(StoreError::unavailable)?;
        let connection = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Reader { readers: Arc::clone(readers), connection, _permit: permit })
    }
}

/// One of the connections, for one read.
struct Reader {
    readers: Arc<Readers>,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn connection(&self) -> rusqlite::Result<&Connection> {
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

fn store_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error;
    use rusqlite::ffi::ErrorCode;
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => StoreError::Corrupt(error.to_string()),
        Error::SqliteFailure(failure, _)
            if matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            StoreError::Corrupt(error.to_string())
        }
        error => StoreError::unavailable(error),
    }
}
