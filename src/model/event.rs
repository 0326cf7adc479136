//! What changed in the store, as gateways tell each other.

use serde::{Deserialize, Serialize};

use super::{KeyHash, Shard, Timestamp};

/// A change to one key, as it stands in the log of its shard and on the bus.
///
/// The wire form is JSON of a few dozen bytes; unknown members are ignored, so that gateways of different
/// versions understand each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which key.
    pub hash: KeyHash,
    /// When the store wrote it, by the store's clock.
    pub at: Timestamp,
}

/// What can happen to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The key was made or imported: it must beat a remembered "unknown".
    Created,
    /// The key is dead, for ever.
    Revoked,
    /// Anything else in the record.
    Changed,
    /// What the whole fleet shares changed; the hash is all zeroes, and no key's. A hint: gateways read it each second.
    Fleet,
}

/// The bytes are not an event.
#[derive(Debug, thiserror::Error)]
#[error("not an event")]
pub struct MalformedEvent(#[source] serde_json::Error);

impl EventKind {
    /// Every kind, for metrics that are resolved once.
    pub const ALL: [EventKind; 4] =
        [EventKind::Created, EventKind::Revoked, EventKind::Changed, EventKind::Fleet];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Created => "created",
            EventKind::Revoked => "revoked",
            EventKind::Changed => "changed",
            EventKind::Fleet => "fleet",
        }
    }
}

impl Event {
    /// What the fleet shares changed.
    pub fn of_fleet(at: Timestamp) -> Event {
        Event { kind: EventKind::Fleet, hash: KeyHash::from_bytes([0; 32]), at }
    }

    /// The shard whose log tells this event.
    pub fn shard(&self) -> Shard {
        Shard::of(&self.hash)
    }

    /// The wire form.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("an event is plain data with string keys")
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// The bytes are not JSON, or a member is missing or of another type.
    pub fn decode(bytes: &[u8]) -> Result<Event, MalformedEvent> {
        serde_json::from_slice(bytes).map_err(MalformedEvent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_wire() {
        let event = Event {
            kind: EventKind::Revoked,
            hash: KeyHash::from_bytes([7; 32]),
            at: Timestamp::from_millis(1_764_000_000_123),
        };
        assert_eq!(Event::decode(event.encode().as_bytes()).unwrap(), event);
    }
}
