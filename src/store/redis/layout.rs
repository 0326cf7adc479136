//! What stands where in Redis.
//!
//! Every key of a shard carries the shard's digit as its hash tag, so that a script that touches several of them
//! stays in one slot of a Cluster.

use crate::model::{CheckSecret, KeyHash, KeyId, KeyRecord, Shard, Timestamp};
use crate::store::{Cursor, FleetSettings, StoreError};

/// The channel on which every event is published.
pub const EVENTS_CHANNEL: &str = "keygate:events";

/// Fields of `record_key`.
pub(super) const RECORD: &str = "record";
/// Kept beside the record and not in it: it is written once, by `HSETNX`, and nothing that writes a record undoes it.
pub(super) const REVOKED_AT: &str = "revoked_at";

/// Fields of `FLEET_KEY`.
pub(super) const STORE_ID: &str = "store_id";
pub(super) const CHECK_SECRETS: &str = "check_secrets";
pub(super) const ACCEPT_UNCHECKED_KEYS: &str = "accept_unchecked_keys";

/// Hash: what the fleet shares.
pub(super) const FLEET_KEY: &str = "keygate:fleet";

/// Hash: the record of a key and its revocation.
pub(super) fn record_key(hash: &KeyHash) -> String {
    format!("keygate:{{{}}}:key:{}", Shard::of(hash), hash.to_hex())
}

/// String: the hash of the key with this id. Never changes.
pub(super) fn id_key(shard: Shard, id: &KeyId) -> String {
    format!("keygate:{{{shard}}}:id:{id}")
}

/// Sorted set, all scores 0: a [`place`] for each key of the shard.
pub(super) fn ids_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:ids")
}

/// Sorted set: as [`ids_key`], of one team.
pub(super) fn team_key(shard: Shard, team: &str) -> String {
    format!("keygate:{{{shard}}}:team:{team}")
}

/// Sorted set: ids by the time of their last use in milliseconds.
pub(super) fn used_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:used")
}

/// Hash: uses by id.
pub(super) fn uses_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:uses")
}

/// Stream: the log of the shard.
pub(super) fn log_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:log")
}

/// String, for a while: that a usage batch was counted.
pub(super) fn batch_key(shard: Shard, id: u128) -> String {
    format!("keygate:{{{shard}}}:batch:{id:032x}")
}

/// A member that sorts as the list does: creation as 16 hex digits, then the id.
pub(super) fn place(created_at: Timestamp, id: &KeyId) -> String {
    // The flipped sign puts times before 1970 below those after.
    format!("{:016x}:{id}", created_at.as_millis().cast_unsigned() ^ (1 << 63))
}

/// Reads a [`place`].
pub(super) fn read_place(text: &str) -> Result<Cursor, StoreError> {
    let read = || {
        let (created_at, id) = text.split_once(':')?;
        let millis = (u64::from_str_radix(created_at, 16).ok()? ^ (1 << 63)).cast_signed();
        Some(Cursor { created_at: Timestamp::from_millis(millis), id: id.parse().ok()? })
    };
    read().ok_or_else(|| StoreError::Corrupt("a place in the list of keys".to_owned()))
}

/// Reads a record and its revocation as they stand in Redis; `hash` is what they were asked by.
pub(super) fn read_record(
    hash: &KeyHash,
    (record, revoked_at): (Option<Vec<u8>>, Option<i64>),
) -> Result<Option<KeyRecord>, StoreError> {
    let corrupt =
        |what: &dyn std::fmt::Display| StoreError::Corrupt(format!("the record of {hash:?}: {what}"));
    let Some(record) = record else {
        // A revocation without a record is not "no such key".
        return if revoked_at.is_none() { Ok(None) } else { Err(corrupt(&"only its revocation is there")) };
    };
    let mut record: KeyRecord = serde_json::from_slice(&record).map_err(|error| corrupt(&error))?;
    if record.hash != *hash {
        return Err(corrupt(&"it is another key's"));
    }
    record.revoked_at = revoked_at.map(Timestamp::from_millis).or(record.revoked_at);
    Ok(Some(record))
}

pub(super) fn write_secrets(secrets: &[CheckSecret]) -> String {
    let hex = |secret: &CheckSecret| KeyHash::from_bytes(*secret.expose()).to_hex();
    secrets.iter().map(hex).collect::<Vec<_>>().join(",")
}

fn read_secrets(text: &str) -> Result<Vec<CheckSecret>, StoreError> {
    let read = |hex: &str| hex.parse::<KeyHash>().map(|bytes| CheckSecret::from_bytes(*bytes.as_bytes()));
    // The error does not carry the text: it is secret.
    text.split(',').map(read).collect::<Result<_, _>>().map_err(|_| corrupt_fleet())
}

/// The fields of `FLEET_KEY`: name, secrets, switch.
pub(super) type FleetFields = (Option<String>, Option<String>, Option<u8>);

pub(super) fn read_fleet(fields: FleetFields) -> Result<Option<FleetSettings>, StoreError> {
    match fields {
        (None, None, None) => Ok(None),
        (Some(store_id), Some(secrets), Some(accept)) => Ok(Some(FleetSettings {
            store_id,
            check_secrets: read_secrets(&secrets)?,
            accept_unchecked_keys: accept != 0,
        })),
        _ => Err(corrupt_fleet()),
    }
}

fn corrupt_fleet() -> StoreError {
    StoreError::Corrupt(format!("the settings of the fleet in {FLEET_KEY}"))
}
