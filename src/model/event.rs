//! What changed in the store, as gateways tell each other.

use serde::{Deserialize, Serialize};

use super::{KeyHash, KeyId, Shard, Timestamp};

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
    /// The key's public name, where whoever tells the event knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<KeyId>,
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
    /// Nothing happened to any key: told every few seconds, so that it is known how long an event takes.
    Canary,
}

/// The bytes are not an event.
#[derive(Debug, thiserror::Error)]
#[error("not an event")]
pub struct MalformedEvent(#[source] serde_json::Error);

impl From<serde_json::Error> for MalformedEvent {
    fn from(error: serde_json::Error) -> MalformedEvent {
        MalformedEvent(error)
    }
}

impl EventKind {
    /// Every kind, for metrics that are resolved once.
    pub const ALL: [EventKind; 5] =
        [EventKind::Created, EventKind::Revoked, EventKind::Changed, EventKind::Fleet, EventKind::Canary];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Created => "created",
            EventKind::Revoked => "revoked",
            EventKind::Changed => "changed",
            EventKind::Fleet => "fleet",
            EventKind::Canary => "canary",
        }
    }
}

impl Event {
    /// What the fleet shares changed.
    pub fn of_fleet(at: Timestamp) -> Event {
        Event { kind: EventKind::Fleet, hash: KeyHash::from_bytes([0; 32]), id: None, at }
    }

    /// A canary for the log of `shard`; its hash is the shard's nibble and zeroes, and no key's.
    pub fn canary(shard: Shard, at: Timestamp) -> Event {
        let mut hash = [0; 32];
        hash[0] = (shard.index() as u8) << 4;
        Event { kind: EventKind::Canary, hash: KeyHash::from_bytes(hash), id: None, at }
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
            id: None,
            at: Timestamp::from_millis(1_764_000_000_123),
        };
        assert_eq!(Event::decode(event.encode().as_bytes()).unwrap(), event);
    }

    #[test]
    fn a_canary_stands_in_the_log_of_its_shard() {
        for shard in Shard::all() {
            assert_eq!(Event::canary(shard, Timestamp::from_millis(1)).shard(), shard);
        }
    }
}
