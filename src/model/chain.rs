//! The log of a shard: a chain, in which every entry names the one before it.
//!
//! An entry has a number and a random name, its *nonce*, and tells the nonce of its predecessor. Two logs that agree on
//! the last entry agree on all before it; numbers alone would not show that one of them was forked or restored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Event, KeyHash, KeyId, MalformedEvent, SHARDS, Timestamp};

/// The random name of an entry; 64 bits, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(u64);

/// The text is not a nonce, or not a head.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a place in a log: expected a number and 16 hex digits")]
pub struct MalformedHead;

/// The end of a log, or a place in it: the entry with this number and this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// The entry's number; the first entry has 1, and 0 is the beginning before it.
    pub seq: u64,
    /// The entry's name; at the beginning, the log's own.
    pub nonce: Nonce,
}

/// The ends of all logs at one moment, by shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The store's time of day at that moment.
    pub time: Timestamp,
    /// The end of each shard's log.
    pub heads: [Head; SHARDS],
}

/// An event in the log of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub head: Head,
    /// The nonce of the entry before it.
    pub prev: Nonce,
    /// What happened.
    pub event: Event,
}

/// Why events may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The log was never read before: nothing is lost, and nothing was known.
    Start,
    /// The log no longer reaches back to what was applied last.
    Trimmed,
    /// The log does not contain what was applied last: it was forked, restored, or is another one.
    Forked,
    /// A message could not be read.
    Unreadable,
}

impl Gap {
    /// Every reason, for metrics that are resolved once.
    pub const ALL: [Gap; 4] = [Gap::Start, Gap::Trimmed, Gap::Forked, Gap::Unreadable];

    /// As metrics and logs call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Gap::Start => "start",
            Gap::Trimmed => "trimmed",
            Gap::Forked => "forked",
            Gap::Unreadable => "unreadable",
        }
    }
}

/// What is published on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// An event with its place in the log.
    Entry(LogEntry),
    /// An event that stands in no log: a hint to look.
    Hint(Event),
}

impl Nonce {
    /// The nonce of this number.
    pub const fn from_u64(number: u64) -> Nonce {
        Nonce(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl LogEntry {
    /// Whether it is the entry right behind `place`.
    pub fn follows(&self, place: &Head) -> bool {
        self.head.seq == place.seq.wrapping_add(1) && self.prev == place.nonce
    }
}

impl Message {
    /// The event, in a log or not.
    pub fn event(&self) -> &Event {
        match self {
            Message::Entry(entry) => &entry.event,
            Message::Hint(event) => event,
        }
    }

    /// The wire form: the event's members, and those of its place if it has one.
    pub fn encode(&self) -> String {
        let (event, place) = match self {
            Message::Entry(entry) => (&entry.event, Some(entry)),
            Message::Hint(event) => (event, None),
        };
        let wire = Wire {
            kind: event.kind,
            hash: event.hash,
            id: event.id,
            at: event.at,
            seq: place.map(|entry| entry.head.seq),
            nonce: place.map(|entry| entry.head.nonce),
            prev: place.map(|entry| entry.prev),
        };
        serde_json::to_string(&wire).expect("a message is plain data with string keys")
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// The bytes are not JSON, or a member is missing or of another type.
    pub fn decode(bytes: &[u8]) -> Result<Message, MalformedEvent> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(MalformedEvent::from)?;
        let event = Event { kind: wire.kind, hash: wire.hash, id: wire.id, at: wire.at };
        Ok(match (wire.seq, wire.nonce, wire.prev) {
            (Some(seq), Some(nonce), Some(prev)) => {
                Message::Entry(LogEntry { head: Head { seq, nonce }, prev, event })
            }
            _ => Message::Hint(event),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    kind: super::EventKind,
    hash: KeyHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<KeyId>,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<Nonce>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prev: Option<Nonce>,
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Nonce {
    type Err = MalformedHead;

    fn from_str(text: &str) -> Result<Nonce, MalformedHead> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_hex).map(Nonce).ok_or(MalformedHead)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nonce, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// `seq-nonce`, as `17-00c0ffee00c0ffee`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.nonce)
    }
}

impl FromStr for Head {
    type Err = MalformedHead;

    fn from_str(text: &str) -> Result<Head, MalformedHead> {
        let (seq, nonce) = text.split_once('-').ok_or(MalformedHead)?;
        Ok(Head { seq: seq.parse().map_err(|_| MalformedHead)?, nonce: nonce.parse()? })
    }
}

impl Serialize for Head {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Head, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{EventKind, Shard};

    fn event() -> Event {
        let hash = KeyHash::from_bytes([7; 32]);
        let id = Some(KeyId::new(Shard::of(&hash), [3; 10]));
        Event { kind: EventKind::Revoked, hash, id, at: Timestamp::from_millis(1_764_000_000_123) }
    }

    fn head(seq: u64, nonce: u64) -> Head {
        Head { seq, nonce: Nonce::from_u64(nonce) }
    }

    #[test]
    fn a_message_survives_the_wire() {
        let entry = LogEntry { head: head(17, 0xc0ffee), prev: Nonce::from_u64(u64::MAX), event: event() };
        for message in [Message::Entry(entry), Message::Hint(event())] {
            assert_eq!(Message::decode(message.encode().as_bytes()).unwrap(), message);
        }
        assert!(Message::decode(b"nonsense").is_err());
    }

    #[test]
    fn only_the_next_entry_with_the_right_name_follows() {
        let entry = LogEntry { head: head(5, 50), prev: Nonce::from_u64(40), event: event() };
        assert!(entry.follows(&head(4, 40)));
        for place in [head(4, 41), head(3, 40), head(5, 40), head(5, 50)] {
            assert!(!entry.follows(&place), "{place}");
        }
    }

    proptest! {
        #[test]
        fn a_head_reads_what_it_shows(seq in any::<u64>(), nonce in any::<u64>()) {
            let head = head(seq, nonce);
            prop_assert_eq!(head.to_string().parse::<Head>(), Ok(head));
        }

        #[test]
        fn other_text_is_no_head(text in "[-0-9a-fA-F+ x]{0,24}") {
            if let Ok(head) = text.parse::<Head>() {
                prop_assert_eq!(head.to_string().len() <= text.len(), true);
            }
        }
    }
}
