//! Why something was not done.

use std::time::Duration;

use crate::model::MalformedAccount;
use crate::store::StoreError;

use super::{UserEntry, WeakPassword};

/// Why something about people was not done.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Account and password do not belong together; which of them is wrong is not said.
    #[error("account or password is wrong")]
    WrongCredentials,
    /// Too many have failed: nothing was tried.
    #[error("too many attempts to log in failed; try again in {} s", .0.as_secs())]
    Throttled(Duration),
    /// Too many are logging in at once: nothing was tried.
    #[error("too many are logging in at once; try again in a moment")]
    Busy,
    /// The new password is not allowed.
    #[error("`password` {0}")]
    Weak(#[from] WeakPassword),
    /// The account is not allowed.
    #[error("`account`: {0}")]
    Account(#[from] MalformedAccount),
    /// A member has a value that is not allowed.
    #[error("`{field}` {what}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong, and what is allowed.
        what: &'static str,
    },
    /// The link does not exist, has ended, or was used.
    #[error("this link is not valid any more; ask for a new one")]
    LinkEnded,
    /// There is no such user, or none that the caller may know of.
    #[error("there is no such user")]
    NotFound,
    /// Another user has the account.
    #[error("there is a user with this account already")]
    AccountTaken,
    /// The account cannot be had, and why is not for the caller to know: somebody has it whom the caller does not see.
    #[error("this account cannot be used here; choose another")]
    AccountUnusable,
    /// It would leave nobody to administer the fleet.
    #[error("this is the last fleet admin who can log in; add another first")]
    LastAdmin,
    /// The user is not any more as the caller has seen it, but so.
    #[error("the user was changed meanwhile; look at what is there now, and change that")]
    EditedMeanwhile(Box<UserEntry>),
    /// Others changed the user at the same time, again and again.
    #[error("the user was changed at the same time; look at it and try again")]
    Outdated,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    NoRandomness(#[source] getrandom::Error),
    /// Hashing failed, which it does only for want of memory or of a thread.
    #[error("a password could not be hashed: {0}")]
    Hashing(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<getrandom::Error> for PeopleError {
    fn from(error: getrandom::Error) -> PeopleError {
        PeopleError::NoRandomness(error)
    }
}
