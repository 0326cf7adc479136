//! What Redis does in one atomic step.
//!
//! All keys of a script are in one slot. A script that changes a key also appends to the shard's log and publishes:
//! there is no moment in which one has happened without the others.

use redis::{Script, ScriptInvocation};

use super::layout::{self, EVENTS_CHANNEL, FLEET_KEY};
use crate::model::{KeyHash, KeyRecord, Shard};
use crate::store::{FleetSettings, UsageBatch};

/// Events that a shard's log keeps, about.
const LOG_LENGTH: usize = 100_000;
/// How long the id of a usage batch is remembered; a batch is sent again within seconds.
const BATCH_MEMORY_S: u64 = 3_600;

/// `rfc3339(seconds, millis)`: a time since 1970 as keygate writes it. By hand, because scripts have no `os.date`.
pub(super) const CALENDAR: &str = r#"
local function rfc3339(seconds, millis)
  -- The calendar's year begins in March, so that the leap day is its last.
  local day = math.floor(seconds / 86400) + 719468
  local era = math.floor(day / 146097)
  local of_era = day - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local of_month = of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  year = year + era * 400 + (month <= 2 and 1 or 0)
  local of_day = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, of_month,
    math.floor(of_day / 3600), math.floor(of_day / 60) % 60, of_day % 60, millis)
end
"#;

/// `tell(log, channel, log_length, kind, hash)` for every script that changes a key, and the store's time as `now_ms`.
/// The event is written as [`Event::encode`](crate::model::Event::encode) writes it.
const TELL: &str = r#"
local time = redis.call('TIME')
local seconds, millis = tonumber(time[1]), math.floor(tonumber(time[2]) / 1000)
local now_ms = string.format('%.0f', seconds * 1000 + millis)

local function event_of(kind, hash)
  return '{"kind":"' .. kind .. '","hash":"' .. hash .. '","at":"' .. rfc3339(seconds, millis) .. '"}'
end

local function tell(log, channel, log_length, kind, hash)
  local event = event_of(kind, hash)
  redis.call('XADD', log, 'MAXLEN', '~', log_length, '*', 'event', event)
  redis.call('PUBLISH', channel, event)
end
"#;

/// KEYS: record, id, ids, team, log. ARGV: channel, log length, hash, record, revoked_at or "", place.
const CREATE: &str = r#"
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'revoked_at', ARGV[5]) end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], 0, ARGV[6])
redis.call('ZADD', KEYS[4], 0, ARGV[6])
tell(KEYS[5], ARGV[1], ARGV[2], 'created', ARGV[3])
return 1
"#;

/// KEYS: record, log. ARGV: channel, log length, hash. Returns record, revoked_at and whether it was this call.
const REVOKE: &str = r#"
local record = redis.call('HGET', KEYS[1], 'record')
if not record then return {false, false, 0} end
local newly = redis.call('HSETNX', KEYS[1], 'revoked_at', now_ms)
tell(KEYS[2], ARGV[1], ARGV[2], 'revoked', ARGV[3])
return {record, redis.call('HGET', KEYS[1], 'revoked_at'), newly}
"#;

/// KEYS: batch, used, uses, then the id key of each use. ARGV: memory of the batch, then id, last_used_at and count of
/// each use.
const RECORD_USES: &str = r#"
if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then return 0 end
for use = 1, #KEYS - 3 do
  if redis.call('EXISTS', KEYS[use + 3]) == 1 then
    local id, last_used_at, count = ARGV[3 * use - 1], ARGV[3 * use], ARGV[3 * use + 1]
    redis.call('ZADD', KEYS[2], 'GT', last_used_at, id)
    redis.call('HINCRBY', KEYS[3], id, count)
  end
end
return 1
"#;

/// KEYS: fleet. ARGV: store_id, check_secrets, accept_unchecked_keys. Returns what stands there afterwards.
const FOUND_FLEET: &str = r#"
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'store_id', ARGV[1], 'check_secrets', ARGV[2], 'accept_unchecked_keys', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'store_id', 'check_secrets', 'accept_unchecked_keys')
"#;

/// KEYS: fleet. ARGV: channel, the field, its value. Told on the channel alone: each gateway reads the fleet's settings
/// every second anyway.
const SET_FLEET: &str = r#"
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], event_of('fleet', string.rep('0', 64)))
return 1
"#;

/// The scripts, hashed once; Redis is sent their text only when it does not know them.
pub(super) struct Scripts {
    create: Script,
    revoke: Script,
    record_uses: Script,
    found_fleet: Script,
    set_fleet: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            create: Script::new(&[CALENDAR, TELL, CREATE].concat()),
            revoke: Script::new(&[CALENDAR, TELL, REVOKE].concat()),
            record_uses: Script::new(RECORD_USES),
            found_fleet: Script::new(FOUND_FLEET),
            set_fleet: Script::new(&[CALENDAR, TELL, SET_FLEET].concat()),
        }
    }

    /// Yields 1 if the key is new, else 0.
    pub(super) fn create(&self, record: &KeyRecord) -> serde_json::Result<ScriptInvocation<'_>> {
        let shard = record.id.shard();
        let revoked_at = record.revoked_at.map(|at| at.as_millis().to_string()).unwrap_or_default();
        let mut script = self.create.prepare_invoke();
        script
            .key(layout::record_key(&record.hash))
            .key(layout::id_key(shard, &record.id))
            .key(layout::ids_key(shard))
            .key(layout::team_key(shard, &record.team))
            .key(layout::log_key(shard))
            .arg(EVENTS_CHANNEL)
            .arg(LOG_LENGTH)
            .arg(record.hash.to_hex())
            .arg(serde_json::to_string(record)?)
            .arg(revoked_at)
            .arg(layout::place(record.created_at, &record.id));
        Ok(script)
    }

    /// Yields [`Revoked`].
    pub(super) fn revoke(&self, hash: &KeyHash) -> ScriptInvocation<'_> {
        let mut script = self.revoke.prepare_invoke();
        script
            .key(layout::record_key(hash))
            .key(layout::log_key(Shard::of(hash)))
            .arg(EVENTS_CHANNEL)
            .arg(LOG_LENGTH)
            .arg(hash.to_hex());
        script
    }

    /// Yields 1 if the batch is new, else 0.
    pub(super) fn record_uses(&self, batch: &UsageBatch) -> ScriptInvocation<'_> {
        let shard = batch.shard;
        let mut script = self.record_uses.prepare_invoke();
        script
            .key(layout::batch_key(shard, batch.id))
            .key(layout::used_key(shard))
            .key(layout::uses_key(shard))
            .arg(BATCH_MEMORY_S);
        for key in &batch.uses {
            script
                .key(layout::id_key(shard, &key.id))
                .arg(key.id.as_str())
                .arg(key.last_used_at.as_millis())
                .arg(i64::try_from(key.count).unwrap_or(i64::MAX));
        }
        script
    }

    /// Yields [`layout::FleetFields`]: those of `new`, or those that were there before.
    pub(super) fn found_fleet(&self, new: &FleetSettings) -> ScriptInvocation<'_> {
        let mut script = self.found_fleet.prepare_invoke();
        script
            .key(FLEET_KEY)
            .arg(&new.store_id)
            .arg(layout::write_secrets(&new.check_secrets))
            .arg(u8::from(new.accept_unchecked_keys));
        script
    }

    /// Sets the switch for keys without a check.
    pub(super) fn accept_unchecked_keys(&self, accept: bool) -> ScriptInvocation<'_> {
        let mut script = self.set_fleet.prepare_invoke();
        script.key(FLEET_KEY).arg(EVENTS_CHANNEL).arg(layout::ACCEPT_UNCHECKED_KEYS).arg(u8::from(accept));
        script
    }
}

/// What the script of a revocation yields: record, its `revoked_at` in milliseconds, and whether it was this call.
pub(super) type Revoked = (Option<Vec<u8>>, Option<i64>, bool);
