//! The feed's position: the gateway's own.

#[path = "../../../src/events/trail.rs"]
pub mod trail;

/// Why events may have been missed; as in the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The log was never read before.
    Start,
    /// The log no longer reaches back to what was applied last.
    Trimmed,
    /// The log does not contain what was applied last.
    Forked,
}
