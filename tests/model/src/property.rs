//! What must hold, by name. A model that finds one broken says which.

use std::fmt;

/// A promise of the rule, the board or the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Once a revocation was applied, no request that starts later is accepted, nor a permit that is judged again later.
    RevokedIsDead,
    /// That holds also when the store forgets the revocation.
    RevokedForEver,
    /// Once any other event was applied, no request that starts later is answered with what was before it.
    AppliedIsSeen,
    /// No request is accepted that starts later than `max_staleness` after the store took the key's revocation.
    BoundHolds,
    /// A proof is given only if every event that the log held then was applied, or given up in a gap.
    ProofIsComplete,
    /// The position told never passes an event that was neither applied nor given up in a gap.
    PositionIsReached,
    /// Two seconds after the store answers again, everything in its logs has taken effect and is proved to.
    CatchesUp,
    /// No load of a key begins before the one under way has ended, with what it brought in the cache.
    OneLoadAtATime,
    /// Whoever was told an answer and asks again does not get the answer of that load again.
    ReloadIsNew,
    /// A load is repeated only when an event came in between: with at most two of them, nobody is turned away.
    TwoReloadsSuffice,
}

impl Property {
    /// The name, as a failing model prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Property::RevokedIsDead => "a revoked key is dead",
            Property::RevokedForEver => "revoked is for ever",
            Property::AppliedIsSeen => "what was applied is seen",
            Property::BoundHolds => "the bound holds",
            Property::ProofIsComplete => "a proof is complete",
            Property::PositionIsReached => "the position is reached",
            Property::CatchesUp => "it catches up",
            Property::OneLoadAtATime => "one load at a time",
            Property::ReloadIsNew => "a reload is new",
            Property::TwoReloadsSuffice => "two reloads suffice",
        }
    }

    /// Ends the model: this does not hold.
    ///
    /// # Panics
    /// Always.
    #[track_caller]
    pub fn broken(self, how: impl fmt::Display) -> ! {
        panic!("{BROKEN}{}: {how}", self.name())
    }
}

/// What stands before the name of a property that does not hold.
pub const BROKEN: &str = "BROKEN: ";
