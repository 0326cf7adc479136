//! What stands where in Redis.
//!
//! Every key of a shard carries the shard's digit as its hash tag, so that a script that touches several of them
//! stays in one slot of a Cluster.

use super::list::ShardPlace;
use crate::model::{CheckSecret, GatewayId, KeyHash, KeyId, KeyRecord, Member, Shard, Timestamp};
use crate::store::{Change, ChangeKind, Earlier, FleetSettings, Period, StoreError};

/// The channel on which every event is published.
pub const EVENTS_CHANNEL: &str = "keygate:events";

/// Fields of `record_key`.
pub(super) const RECORD: &str = "record";
/// These three are kept beside the record and not in it: each is written once, and nothing that writes a record undoes
/// it. `revoked_at` alone, without a record, is a tombstone: no such key can be made.
pub(super) const REVOKED_AT: &str = "revoked_at";
pub(super) const RETIRES_AT: &str = "retires_at";
pub(super) const REPLACED_BY: &str = "replaced_by";

/// Fields of `head_key`, beside `STORE_ID`.
pub(super) const SEQ: &str = "seq";
pub(super) const NONCE: &str = "nonce";

/// Fields of `FLEET_KEY`. The first is also in the head of each shard, so that whoever reads or changes a shard sees in
/// the same step whose it is.
pub(super) const STORE_ID: &str = "store_id";
pub(super) const CHECK_SECRETS: &str = "check_secrets";
pub(super) const ACCEPT_UNCHECKED_KEYS: &str = "accept_unchecked_keys";

/// Hash: what the fleet shares.
pub(super) const FLEET_KEY: &str = "keygate:fleet";

/// Hash: the line of each gateway, by its id. The tag is the name of [`FLEET_KEY`], which puts it in the same slot: who
/// writes here looks there first.
pub(super) const ROLL_KEY: &str = "keygate:{keygate:fleet}:roll";

/// Hash: the identity of the store, and the number and the name of the last entry in the log of the shard.
pub(super) fn head_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:head")
}

/// Hash: the record of a key, its revocation and its rotation.
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

/// Hash: by id, those of its uses that were in the grace of a rotation.
pub(super) fn grace_uses_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:grace_uses")
}

/// Sorted set: as [`used_key`], of refusals.
pub(super) fn refused_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:refused")
}

/// Hash: refusals by id.
pub(super) fn refusals_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:refusals")
}

/// Hash, for as long as the period is kept: uses by id, and refusals by [`refusals_field`].
pub(super) fn period_key(shard: Shard, period: Period, number: i64) -> String {
    let name = match period {
        Period::Day => "day",
        Period::Hour => "hour",
    };
    format!("keygate:{{{shard}}}:{name}:{number}")
}

/// The field of a [`period_key`] that counts the refusals of a key.
pub(super) fn refusals_field(id: &KeyId) -> String {
    format!("{id}:refusals")
}

/// List: what was changed in a key, the oldest first, as [`read_change`] reads it.
pub(super) fn changes_key(id: &KeyId) -> String {
    format!("keygate:{{{}}}:changes:{id}", id.shard())
}

/// Reads an entry of a [`changes_key`].
pub(super) fn read_change(text: &str) -> Result<Change, StoreError> {
    #[derive(serde::Deserialize)]
    struct Entry {
        at: Timestamp,
        what: ChangeKind,
    }
    let entry: Entry = serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt(format!("a change of a key: {error}")))?;
    Ok(Change { at: entry.at, what: entry.what })
}

/// String, for a while: what a request did that is made once, as [`write_earlier`] writes it.
pub(super) fn once_key(shard: Shard, name: &[u8; 32]) -> String {
    format!("keygate:{{{shard}}}:once:{}", KeyHash::from_bytes(*name).to_hex())
}

pub(super) fn write_earlier(fingerprint: &[u8; 32], id: &KeyId) -> String {
    format!("{}:{id}", KeyHash::from_bytes(*fingerprint).to_hex())
}

pub(super) fn read_earlier(text: &str) -> Result<Earlier, StoreError> {
    let read = || {
        let (fingerprint, id) = text.split_once(':')?;
        let fingerprint = *fingerprint.parse::<KeyHash>().ok()?.as_bytes();
        Some(Earlier { id: id.parse().ok()?, fingerprint })
    };
    read().ok_or_else(|| StoreError::Corrupt("what a request did before".to_owned()))
}

/// String, for a while: that a canary was told.
pub(super) fn canary_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:canary")
}

/// String: something to write, so that there is something to wait for.
pub(super) fn durable_key(shard: Shard) -> String {
    format!("keygate:{{{shard}}}:durable")
}

/// Stands for a gateway whose line on the roll cannot be read: nobody knows how far it is, or how long it trusts.
pub(super) fn unreadable_member(id: GatewayId) -> Member {
    Member {
        id,
        name: "unreadable".to_owned(),
        version: "unknown".to_owned(),
        started_at: Timestamp::from_millis(0),
        max_staleness_ms: 300_000,
        beat: 0,
        positions: Vec::new(),
        gone: false,
    }
}

/// Stream: the log of the shard. The id of an entry is its number, so that a range can be found; what an id says is
/// believed of no entry whose nonces do not chain.
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
pub(super) fn read_place(text: &str) -> Result<ShardPlace, StoreError> {
    let read = || {
        let (created_at, id) = text.split_once(':')?;
        let millis = (u64::from_str_radix(created_at, 16).ok()? ^ (1 << 63)).cast_signed();
        Some(ShardPlace { created_at: Timestamp::from_millis(millis), id: id.parse().ok()? })
    };
    read().ok_or_else(|| StoreError::Corrupt("a place in the list of keys".to_owned()))
}

/// The fields of `record_key`, in the order in which [`read_record`] takes them.
pub(super) const RECORD_FIELDS: [&str; 4] = [RECORD, REVOKED_AT, RETIRES_AT, REPLACED_BY];
pub(super) type RecordFields = (Option<Vec<u8>>, Option<i64>, Option<i64>, Option<String>);

/// Reads a record as it stands in Redis; `hash` is what it was asked by. A tombstone is no record.
pub(super) fn read_record(
    hash: &KeyHash,
    (record, revoked_at, retires_at, replaced_by): RecordFields,
) -> Result<Option<KeyRecord>, StoreError> {
    let corrupt =
        |what: &dyn std::fmt::Display| StoreError::Corrupt(format!("the record of {hash:?}: {what}"));
    let Some(record) = record else { return Ok(None) };
    let mut record: KeyRecord = serde_json::from_slice(&record).map_err(|error| corrupt(&error))?;
    if record.hash != *hash {
        return Err(corrupt(&"it is another key's"));
    }
    record.revoked_at = revoked_at.map(Timestamp::from_millis).or(record.revoked_at);
    record.retires_at = retires_at.map(Timestamp::from_millis).or(record.retires_at);
    if let Some(id) = replaced_by {
        record.replaced_by = Some(id.parse().map_err(|error| corrupt(&error))?);
    }
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
