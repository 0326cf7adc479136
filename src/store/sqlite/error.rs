//! Why it does not open, and what its errors mean to a caller.

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;

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
    /// It is another store than the one that is prescribed.
    #[error("{} is the store {found} and not {pinned}: correct its path, or store_id", path.display())]
    Identity {
        /// The database.
        path: PathBuf,
        /// The identity in it.
        found: String,
        /// The one that is prescribed.
        pinned: String,
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

/// What an error of SQLite means to a caller.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
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
