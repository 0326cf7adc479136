//! People: who may log in, what they may do, and the sessions of their browsers.
//!
//! `password` knows passwords, `throttle` slows down who guesses, `sessions` is log-in and log-out, and `users` who
//! there is. A change that takes something from a user (password, role, team, disabling) begins a new *epoch* of the
//! user in the same step, and with it every session and link of before has ended.

mod error;
#[cfg(test)]
pub(crate) mod memory;
mod password;
mod sessions;
#[cfg(test)]
mod tests;
mod throttle;
mod users;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::model::Timestamp;
use crate::store::people::PeopleStore;
use crate::store::{self, StoreError};

pub use crate::model::{Account, CsrfToken, Role, SecretToken, Team, User, UserId};
pub use crate::store::people::Purpose;
pub use error::PeopleError;
pub use password::{Password, WeakPassword};
pub use sessions::LoggedIn;
pub use users::{NewUser, UserChange, UserEntry};

use password::Passwords;
use throttle::Throttle;

/// How long one operation of the store may take.
const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub total: Duration,
}

/// Everybody who may log in, and who is logged in.
pub struct People {
    store: Arc<dyn PeopleStore>,
    clock: Arc<dyn Clock>,
    limits: SessionLimits,
    passwords: Passwords,
    throttle: Throttle,
}

impl People {
    /// People who are kept in `store`. Throttling is this process's own.
    pub fn new(store: Arc<dyn PeopleStore>, clock: Arc<dyn Clock>, limits: SessionLimits) -> People {
        People { store, clock, limits, passwords: Passwords::new(), throttle: Throttle::new() }
    }

    /// How long sessions last.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }
}

async fn within_deadline<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    store::within(STORE_DEADLINE, asked).await
}
