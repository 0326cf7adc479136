//! Passwords: what may be one, how it is kept, and how one is tried.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, phc};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::PeopleError;
use crate::model::Account;
use crate::store::people::PasswordHash;

/// Characters, by NIST SP 800-63B: long rather than contrived.
const MIN_CHARACTERS: usize = 12;
const MAX_CHARACTERS: usize = 256;
/// The same in bytes, for whatever reaches argon2.
const MAX_BYTES: usize = 4 * MAX_CHARACTERS;

/// OWASP's first choice for argon2id with little memory: 19 MiB, twice over, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const ITERATIONS: u32 = 2;
const LANES: u32 = 1;
const SALT: usize = 16;

/// Hashings at once, 19 MiB each, and how many more may wait for their turn.
const AT_ONCE: usize = 2;
const WAITING: usize = 16;

/// Those that everybody tries first, of 12 characters or more. One a line.
const COMMON: &str = include_str!("common_passwords.txt");

/// A password as somebody typed it. Does not print, wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why something cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer than 12 characters.
    #[error("must have at least {MIN_CHARACTERS} characters")]
    TooShort,
    /// More than 256 characters.
    #[error("must have at most {MAX_CHARACTERS} characters")]
    TooLong,
    /// It says who it is for.
    #[error("must not be the account's name")]
    IsAccount,
    /// It is among the first that everybody tries.
    #[error("is one of the commonest; choose one that nobody else has")]
    Common,
}

impl Password {
    /// What was typed, taken as it is.
    pub fn new(text: String) -> Password {
        Password(Zeroizing::new(text))
    }

    /// Whether it was typed the same way twice.
    pub fn is_same(&self, other: &Password) -> bool {
        self.0 == other.0
    }

    /// Whether it may be the password of `account`. Length and not composition counts.
    pub(super) fn judge(&self, account: &Account) -> Result<(), WeakPassword> {
        let length = self.0.chars().count();
        if length < MIN_CHARACTERS {
            return Err(WeakPassword::TooShort);
        }
        if length > MAX_CHARACTERS {
            return Err(WeakPassword::TooLong);
        }
        let lower = Zeroizing::new(self.0.to_lowercase());
        let name = account.split('@').next().unwrap_or_default();
        if lower.trim() == &**account || lower.trim() == name {
            return Err(WeakPassword::IsAccount);
        }
        if COMMON.lines().any(|common| common == lower.as_str()) {
            return Err(WeakPassword::Common);
        }
        Ok(())
    }
}

impl From<String> for Password {
    fn from(text: String) -> Password {
        Password::new(text)
    }
}

impl<'de> serde::Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        String::deserialize(deserializer).map(Password::new)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// What became of a password that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Wrong,
    Right,
    /// Right, and hashed with less than is asked for today.
    RightButOutdated,
}

/// Hashes and tries passwords: on threads that may block, few at once.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Hashings so far, for tests: an unknown account costs as much as a known one.
    hashings: Arc<AtomicU64>,
}

impl Passwords {
    pub(super) fn new() -> Passwords {
        Passwords {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
            hashings: Arc::default(),
        }
    }

    /// How many hashings there were.
    pub(super) fn hashings(&self) -> u64 {
        self.hashings.load(Ordering::Relaxed)
    }

    /// Takes every turn: as long as they are held, whoever hashes waits.
    #[cfg(test)]
    pub(super) fn all_turns(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.turns).try_acquire_many_owned(AT_ONCE as u32).unwrap()
    }

    /// Hashes a new password with a new salt.
    pub(super) async fn hash(&self, password: &Password) -> Result<PasswordHash, PeopleError> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let password = password.clone();
        self.on_a_thread(move |hasher| {
            let hash = hasher
                .hash(password.0.as_bytes(), &salt)
                .map_err(|error| PeopleError::Hashing(Box::new(error)))?;
            Ok(PasswordHash::new(hash.to_string()))
        })
        .await
    }

    /// Tries a password against a hash; where there is none, as long and in vain.
    pub(super) async fn verify(
        &self,
        password: &Password,
        hash: Option<&PasswordHash>,
    ) -> Result<Tried, PeopleError> {
        let (password, hash) = (password.clone(), hash.cloned());
        self.on_a_thread(move |hasher| {
            // More than a password may have is none; it is cut, so that nobody hashes megabytes here.
            let bytes = password.0.as_bytes();
            let fits = bytes.len() <= MAX_BYTES;
            let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
            let known = hash.as_ref().and_then(|hash| phc::PasswordHash::new(hash.expose()).ok());
            let Some(known) = known.filter(|_| fits) else {
                let in_vain = hasher.hash(bytes, &[0; SALT]);
                drop(in_vain);
                return Ok(Tried::Wrong);
            };
            match hasher.verify(bytes, &known) {
                Ok(()) if is_outdated(&known) => Ok(Tried::RightButOutdated),
                Ok(()) => Ok(Tried::Right),
                Err(_) => Ok(Tried::Wrong),
            }
        })
        .await
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> Result<T, PeopleError> + Send + 'static,
    ) -> Result<T, PeopleError> {
        let place = Waiting::enter(&self.waiting).ok_or(PeopleError::Busy)?;
        let turns = Arc::clone(&self.turns);
        let turn = turns.acquire_owned().await.map_err(|error| PeopleError::Hashing(Box::new(error)))?;
        drop(place);
        let hasher = Hasher { hashings: Arc::clone(&self.hashings) };
        // The turn goes with the work: a client that hangs up does not make room for another while it goes on.
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&hasher)
        });
        worked.await.map_err(|error| PeopleError::Hashing(Box::new(error)))?
    }
}

/// One of the few that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn enter(waiting: &AtomicUsize) -> Option<Waiting<'_>> {
        let entered = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            (waiting < AT_ONCE + WAITING).then_some(waiting + 1)
        });
        entered.is_ok().then(|| Waiting(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Argon2id, each use of which is counted.
struct Hasher {
    hashings: Arc<AtomicU64>,
}

impl Hasher {
    fn hash(&self, password: &[u8], salt: &[u8]) -> password_hash::Result<phc::PasswordHash> {
        self.argon2().hash_password_with_salt(password, salt)
    }

    fn verify(&self, password: &[u8], hash: &phc::PasswordHash) -> password_hash::Result<()> {
        self.argon2().verify_password(password, hash)
    }

    fn argon2(&self) -> Argon2<'static> {
        self.hashings.fetch_add(1, Ordering::Relaxed);
        let params = Params::new(MEMORY_KIB, ITERATIONS, LANES, None).expect("a test hashes with these");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }
}

/// Whether a hash was made with less than [`Hasher`] takes.
fn is_outdated(hash: &phc::PasswordHash) -> bool {
    if hash.algorithm.as_str() != "argon2id" {
        return true;
    }
    Params::try_from(hash).is_ok_and(|params| params.m_cost() < MEMORY_KIB || params.t_cost() < ITERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), WeakPassword> {
        Password::new(text.to_owned()).judge(&"ada.lovelace@example.com".parse().unwrap())
    }

    #[test]
    fn a_password_is_long_rather_than_contrived() {
        assert_eq!(judge("purple monkeys wash dishes"), Ok(()));
        assert_eq!(judge("correct horse battery staple"), Err(WeakPassword::Common));
        assert_eq!(judge("twelve chars"), Ok(()));
        assert_eq!(judge("eleven char"), Err(WeakPassword::TooShort));
        assert_eq!(judge("ääääääääääää"), Ok(()));
        assert_eq!(judge(&"a long one ".repeat(23)), Ok(()));
        assert_eq!(judge(&"x".repeat(128)), Ok(()));
        assert_eq!(judge(&"x".repeat(257)), Err(WeakPassword::TooLong));
        assert_eq!(judge("Ada.Lovelace@example.com"), Err(WeakPassword::IsAccount));
        assert_eq!(judge("ada.lovelace"), Err(WeakPassword::IsAccount));
        assert_eq!(judge("PasswordPassword"), Err(WeakPassword::Common));
        assert_eq!(judge("123456789012"), Err(WeakPassword::Common));
    }

    #[test]
    fn every_common_password_could_be_one_otherwise() {
        for common in COMMON.lines() {
            assert!(common.chars().count() >= MIN_CHARACTERS, "{common} is refused anyway");
            assert_eq!(common, common.to_lowercase(), "{common} would never be found");
        }
    }

    #[tokio::test]
    async fn a_password_is_tried_and_never_shown() {
        let passwords = Passwords::new();
        let (right, wrong) = (Password::new("correct horse".into()), Password::new("wrong horse!!".into()));
        let hash = passwords.hash(&right).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "OWASP's parameters");
        assert_eq!(passwords.verify(&right, Some(&hash)).await.unwrap(), Tried::Right);
        assert_eq!(passwords.verify(&wrong, Some(&hash)).await.unwrap(), Tried::Wrong);
        assert_ne!(passwords.hash(&right).await.unwrap(), hash, "each has a salt of its own");
        assert!(!format!("{right:?} {hash:?}").contains("horse"));
        assert!(!format!("{hash:?}").contains("argon2"));
    }

    #[tokio::test]
    async fn an_unknown_account_costs_the_same_work() {
        let passwords = Passwords::new();
        let before = passwords.hashings();
        assert_eq!(
            passwords.verify(&Password::new("whatever it is".into()), None).await.unwrap(),
            Tried::Wrong
        );
        assert_eq!(passwords.hashings(), before + 1);
        let endless = Password::new("x".repeat(1_000_000));
        assert_eq!(passwords.verify(&endless, None).await.unwrap(), Tried::Wrong);
        assert_eq!(passwords.hashings(), before + 2);
    }

    #[tokio::test]
    async fn a_hash_of_weaker_parameters_is_told() {
        let passwords = Passwords::new();
        let password = Password::new("correct horse".into());
        let weak =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1024, 1, 1, None).unwrap());
        let hash: phc::PasswordHash =
            weak.hash_password_with_salt(password.0.as_bytes(), &[1; SALT]).unwrap();
        let hash = PasswordHash::new(hash.to_string());
        assert_eq!(passwords.verify(&password, Some(&hash)).await.unwrap(), Tried::RightButOutdated);
        let wrong = Password::new("another horse".into());
        assert_eq!(passwords.verify(&wrong, Some(&hash)).await.unwrap(), Tried::Wrong);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_is_turned_away() {
        let passwords = Arc::new(Passwords::new());
        let tries: Vec<_> = (0..4 * (AT_ONCE + WAITING))
            .map(|_| {
                let passwords = Arc::clone(&passwords);
                tokio::spawn(async move {
                    passwords.verify(&Password::new("flood flood flood".into()), None).await
                })
            })
            .collect();
        let mut busy = 0;
        for tried in tries {
            busy += usize::from(matches!(tried.await.unwrap(), Err(PeopleError::Busy)));
        }
        assert!(busy > 0, "everybody was let in");
        assert!(passwords.hashings() < 4 * (AT_ONCE + WAITING) as u64);
        assert_eq!(passwords.waiting.load(Ordering::Relaxed), 0, "nobody waits any more");
    }
}
