//! May this key do this now? Pure: a verified record, the facts of the request and the moment decide.
//!
//! The answer is a [`Permit`], which the upstream demands and which only this file can make: skipping the check does
//! not compile. A permit is for one environment, and the environment is in its type: an upstream of the other one
//! does not take it.

use std::marker::PhantomData;

use crate::clock::Moment;
use crate::model::{Denial, Environment, KeyHash, KeyId};

use super::cache::CachedRecord;
use super::{Refused, Verified};

/// What is known of a request beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether this gateway has an upstream for Live requests.
    pub serves_live: bool,
    /// Whether this gateway has an upstream for Sandbox requests.
    pub serves_sandbox: bool,
}

/// Real money. A type, so that it can be demanded by one.
#[derive(Clone, Copy, Debug)]
pub enum Live {}

/// No real money. A type, so that it can be demanded by one.
#[derive(Clone, Copy, Debug)]
pub enum Sandbox {}

/// Proof that a request may be forwarded to its environment's upstream.
///
/// A Sandbox permit does not fit where a Live one is demanded:
///
/// ```compile_fail
/// use keygate::verify::policy::{Live, PermitFor, Sandbox};
/// fn to_the_live_upstream(_: &PermitFor<Live>) {}
/// fn try_it(permit: &PermitFor<Sandbox>) {
///     to_the_live_upstream(permit);
/// }
/// ```
pub enum Permit {
    /// To the Live upstream.
    Live(PermitFor<Live>),
    /// To the Sandbox upstream.
    Sandbox(PermitFor<Sandbox>),
}

/// A permit for one environment.
pub struct PermitFor<E> {
    verified: Verified,
    facts: Facts,
    environment: PhantomData<E>,
}

/// Judges a verified key, as of the moment of its verification.
///
/// # Errors
/// [`Denial::KeyRevoked`], [`Denial::KeyExpired`], or [`Denial::EnvironmentMismatch`] where the key's spelling
/// and its record disagree or this gateway has no upstream of the key's environment.
pub fn permit(verified: Verified, facts: &Facts) -> Result<Permit, Refused> {
    let record = &verified.entry.record;
    let refused = |denial| Err(Refused { denial, key_id: Some(record.id) });
    if record.revoked {
        return refused(Denial::KeyRevoked);
    }
    if verified.at.wall >= record.ends_at {
        return refused(Denial::KeyExpired);
    }
    if record.environment != verified.spelled {
        return refused(Denial::EnvironmentMismatch);
    }
    match record.environment {
        Environment::Live if facts.serves_live => Ok(Permit::Live(PermitFor::new(verified, facts))),
        Environment::Sandbox if facts.serves_sandbox => Ok(Permit::Sandbox(PermitFor::new(verified, facts))),
        Environment::Live | Environment::Sandbox => refused(Denial::EnvironmentMismatch),
    }
}

impl Permit {
    /// The key's public name.
    pub fn key_id(&self) -> KeyId {
        self.record().id
    }

    /// When it was given: at the end of the key's verification.
    pub fn at(&self) -> Moment {
        match self {
            Permit::Live(permit) => permit.verified.at,
            Permit::Sandbox(permit) => permit.verified.at,
        }
    }

    /// Whether the key was rotated, and opens only until its grace ends.
    pub fn is_in_grace(&self) -> bool {
        self.record().in_grace
    }

    /// The key's team, fit to stand in a header.
    pub fn team(&self) -> &str {
        &self.record().team
    }

    /// Where it permits to go.
    pub fn environment(&self) -> Environment {
        match self {
            Permit::Live(_) => Environment::Live,
            Permit::Sandbox(_) => Environment::Sandbox,
        }
    }

    fn record(&self) -> &CachedRecord {
        match self {
            Permit::Live(permit) => &permit.verified.entry.record,
            Permit::Sandbox(permit) => &permit.verified.entry.record,
        }
    }
}

impl<E> PermitFor<E> {
    fn new(verified: Verified, facts: &Facts) -> PermitFor<E> {
        PermitFor { verified, facts: *facts, environment: PhantomData }
    }

    /// The hash of the permitted key.
    pub fn hash(&self) -> &KeyHash {
        &self.verified.hash
    }

    /// When it was given.
    pub fn at(&self) -> Moment {
        self.verified.at
    }

    /// What the permit rests on, to be verified again after a wait.
    pub(super) fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The facts that it was made from.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Tick;
    use crate::model::{KeyRecord, Shard, Timestamp};
    use crate::verify::freshness::Loaded;
    use crate::verify::memory::Entry;
    use crate::verify::near::Held;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);
    const BOTH: Facts = Facts { serves_live: true, serves_sandbox: true };

    fn verified(spelled: Environment, change: impl FnOnce(&mut KeyRecord)) -> Verified {
        let hash = KeyHash::from_bytes([1; 32]);
        let mut record = KeyRecord {
            id: KeyId::new(Shard::of(&hash), [1; 10]),
            hash,
            label: "Server".to_owned(),
            team: "acme".to_owned(),
            environment: spelled,
            display: "sk_live_4f9c…a1b2".to_owned(),
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            revoked_at: None,
            retires_at: None,
            replaced_by: None,
            replaces: None,
        };
        change(&mut record);
        let record = CachedRecord::decode(&record).unwrap();
        let loaded = Loaded { epoch: 0, started: Tick::from_nanos(0) };
        let at = Moment { tick: Tick::from_nanos(0), wall: NOW };
        Verified { hash, spelled, entry: Held::Shared(Arc::new(Entry { loaded, record })), at }
    }

    fn decide(verified: Verified, facts: &Facts) -> Result<Environment, Denial> {
        permit(verified, facts).map(|permit| permit.environment()).map_err(|refused| refused.denial)
    }

    #[test]
    fn a_good_key_may_go_to_its_own_environment() {
        for environment in [Environment::Live, Environment::Sandbox] {
            assert_eq!(decide(verified(environment, |_| ()), &BOTH), Ok(environment));
        }
    }

    #[test]
    fn sandbox_never_moves_real_money() {
        let spelled_live = verified(Environment::Live, |record| record.environment = Environment::Sandbox);
        assert_eq!(decide(spelled_live, &BOTH), Err(Denial::EnvironmentMismatch));
        let spelled_sandbox = verified(Environment::Sandbox, |record| record.environment = Environment::Live);
        assert_eq!(decide(spelled_sandbox, &BOTH), Err(Denial::EnvironmentMismatch));
        let live_only = Facts { serves_sandbox: false, ..BOTH };
        assert_eq!(
            decide(verified(Environment::Sandbox, |_| ()), &live_only),
            Err(Denial::EnvironmentMismatch)
        );
    }

    #[test]
    fn a_key_is_refused_from_its_expiry_on() {
        let expires = |at| verified(Environment::Live, move |record| record.expires_at = Some(at));
        assert_eq!(decide(expires(NOW), &BOTH), Err(Denial::KeyExpired));
        assert_eq!(decide(expires(NOW.plus(Duration::from_millis(1))), &BOTH), Ok(Environment::Live));
    }

    #[test]
    fn a_rotated_key_opens_until_its_grace_ends_and_not_beyond_its_expiry() {
        let later = NOW.plus(Duration::from_millis(1));
        let rotated = |retires_at, expires_at| {
            verified(Environment::Live, move |record| {
                (record.retires_at, record.expires_at) = (Some(retires_at), expires_at);
            })
        };
        assert_eq!(decide(rotated(later, None), &BOTH), Ok(Environment::Live));
        assert_eq!(decide(rotated(NOW, None), &BOTH), Err(Denial::KeyExpired));
        assert_eq!(decide(rotated(NOW, Some(later)), &BOTH), Err(Denial::KeyExpired));
        assert_eq!(decide(rotated(later, Some(NOW)), &BOTH), Err(Denial::KeyExpired));
    }

    #[test]
    fn revoked_outweighs_all_else() {
        let dead = verified(Environment::Live, |record| {
            record.revoked_at = Some(NOW);
            record.expires_at = Some(NOW);
            record.environment = Environment::Sandbox;
        });
        assert_eq!(decide(dead, &BOTH), Err(Denial::KeyRevoked));
    }
}
