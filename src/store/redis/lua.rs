//! The text of the scripts.
//!
//! A script that changes a key is `CALENDAR`, `EVENT`, `CHANGE` and its own part. It looks first whether the shard is
//! ours, and writes nothing if not. It appends to the log before it writes anything else: if that fails, nothing
//! has happened.

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

/// The store's time as `now_ms`, and `event_of(kind, hash, id or nil)`: an event as
/// [`Event::encode`](crate::model::Event::encode) writes it.
pub(super) const EVENT: &str = r#"
local time = redis.call('TIME')
local seconds, millis = tonumber(time[1]), math.floor(tonumber(time[2]) / 1000)
local now_ms = string.format('%.0f', seconds * 1000 + millis)

local function event_of(kind, hash, id)
  local name = id and ',"id":"' .. id .. '"' or ''
  return '{"kind":"' .. kind .. '","hash":"' .. hash .. '"' .. name
    .. ',"at":"' .. rfc3339(seconds, millis) .. '"}'
end
"#;

/// For every script that changes something in a shard. KEYS 1 and 2: head, log. ARGV 1 to 3: our identity, channel, log
/// length. `append(kind, hash, id or nil, nonce)` adds an entry to the log and yields what is to be published, as
/// [`Message::encode`](crate::model::Message::encode) writes it; afterwards `place()` is the head.
pub(super) const CHANGE: &str = r#"
local head = redis.call('HMGET', KEYS[1], 'store_id', 'seq', 'nonce')
if head[1] ~= ARGV[1] or not head[2] or not head[3] then
  return redis.error_reply('NOTOURS this shard is of another store')
end
-- A double, exact up to 2^53 entries.
local seq, last = tonumber(head[2]), head[3]

local function append(kind, hash, id, nonce)
  local event = event_of(kind, hash, id)
  local number = string.format('%.0f', seq + 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], number .. '-0', 'nonce', nonce, 'prev', last, 'event', event)
  redis.call('HSET', KEYS[1], 'seq', number, 'nonce', nonce)
  local message = string.sub(event, 1, -2) .. ',"seq":' .. number .. ',"nonce":"' .. nonce
    .. '","prev":"' .. last .. '"}'
  seq, last = seq + 1, nonce
  return message
end

local function publish(message)
  redis.call('PUBLISH', ARGV[2], message)
end

local function place()
  return {string.format('%.0f', seq), last}
end
"#;

/// `note_change(key, what, most)` adds to what was changed in a key.
pub(super) const NOTE_CHANGE: &str = r#"
local function note_change(key, what, most)
  redis.call('RPUSH', key, '{"at":"' .. rfc3339(seconds, millis) .. '","what":' .. what .. '}')
  redis.call('LTRIM', key, -tonumber(most), -1)
end
"#;

/// KEYS from 3: record, id, ids, team, once, changes. ARGV from 4: nonce, hash, id, record, place; what a request that is
/// made once does or "", and how long that is remembered; a change or "", and how many are kept; then fields of the record
/// key beside the record. Returns what became of it, or what the request did before.
pub(super) const CREATE: &str = r#"
local earlier = ARGV[9] ~= '' and redis.call('GET', KEYS[7])
if earlier then return earlier end
if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then return 'already there' end
local message = append('created', ARGV[5], ARGV[6], ARGV[4])
redis.call('HSET', KEYS[3], 'record', ARGV[7], unpack(ARGV, 13))
redis.call('SET', KEYS[4], ARGV[5])
redis.call('ZADD', KEYS[5], 0, ARGV[8])
redis.call('ZADD', KEYS[6], 0, ARGV[8])
if ARGV[9] ~= '' then redis.call('SET', KEYS[7], ARGV[9], 'EX', ARGV[10]) end
if ARGV[11] ~= '' then note_change(KEYS[8], ARGV[11], ARGV[12]) end
publish(message)
return 'created'
"#;

/// KEYS from 3: record, changes. ARGV from 4: nonce, hash, id, the record as it is expected, `retires_at` and `replaced_by`
/// as they are expected or "", the new record, the change, how many changes are kept. Returns whether it was done, and the
/// head.
pub(super) const EDIT: &str = r#"
local found = redis.call('HMGET', KEYS[3], 'record', 'revoked_at', 'retires_at', 'replaced_by')
if found[1] ~= ARGV[7] or found[2] or (found[3] or '') ~= ARGV[8] or (found[4] or '') ~= ARGV[9] then
  return {0, place()}
end
local message = append('changed', ARGV[5], ARGV[6], ARGV[4])
redis.call('HSET', KEYS[3], 'record', ARGV[10])
note_change(KEYS[4], ARGV[11], ARGV[12])
publish(message)
return {1, place()}
"#;

/// KEYS from 3: record. ARGV from 4: nonce, hash, id. Returns the record's fields, whether it was this call, the head.
pub(super) const REVOKE: &str = r#"
if redis.call('HEXISTS', KEYS[3], 'record') == 0 then return {{false, false, false, false}, 0, place()} end
local message = append('revoked', ARGV[5], ARGV[6], ARGV[4])
local newly = redis.call('HSETNX', KEYS[3], 'revoked_at', now_ms)
publish(message)
return {redis.call('HMGET', KEYS[3], 'record', 'revoked_at', 'retires_at', 'replaced_by'), newly, place()}
"#;

/// KEYS from 3: record. ARGV from 4: nonce, hash. Returns whether the revocation was not there.
pub(super) const ASSERT_REVOKED: &str = r#"
if redis.call('HEXISTS', KEYS[3], 'revoked_at') == 1 then return 0 end
local record = redis.call('HGET', KEYS[3], 'record')
local readable, known = pcall(cjson.decode, record or '{}')
local id = readable and type(known) == 'table' and type(known.id) == 'string' and known.id or nil
local message = append('revoked', ARGV[5], id, ARGV[4])
redis.call('HSET', KEYS[3], 'revoked_at', now_ms)
publish(message)
return 1
"#;

/// KEYS from 3: old record, new record, new id, ids, team, once. ARGV from 4: two nonces, old hash, old id, retires_at, new
/// hash, new id, new record, place, what a request that is made once does or "", how long that is remembered. Returns what
/// became of it, or what the request did before; the old record's fields, the head.
pub(super) const ROTATE: &str = r#"
local function answer(outcome)
  return {outcome, redis.call('HMGET', KEYS[3], 'record', 'revoked_at', 'retires_at', 'replaced_by'), place()}
end
local earlier = ARGV[13] ~= '' and redis.call('GET', KEYS[8])
if earlier then return answer(earlier) end
local old = redis.call('HMGET', KEYS[3], 'record', 'revoked_at', 'retires_at', 'replaced_by')
if not old[1] then return answer('missing') end
if old[2] then return answer('revoked') end
if old[3] or old[4] then return answer('rotated before') end
if redis.call('EXISTS', KEYS[4], KEYS[5]) > 0 then return answer('already there') end
local created = append('created', ARGV[9], ARGV[10], ARGV[4])
local changed = append('changed', ARGV[6], ARGV[7], ARGV[5])
redis.call('HSET', KEYS[4], 'record', ARGV[11])
redis.call('SET', KEYS[5], ARGV[9])
redis.call('ZADD', KEYS[6], 0, ARGV[12])
redis.call('ZADD', KEYS[7], 0, ARGV[12])
redis.call('HSET', KEYS[3], 'retires_at', ARGV[8], 'replaced_by', ARGV[10])
if ARGV[13] ~= '' then redis.call('SET', KEYS[8], ARGV[13], 'EX', ARGV[14]) end
publish(created)
publish(changed)
return answer('rotated')
"#;

/// KEYS from 3: canary. ARGV from 4: nonce, hash, interval in milliseconds. Returns whether it was told.
pub(super) const CANARY: &str = r#"
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local message = append('canary', ARGV[5], nil, ARGV[4])
redis.call('SET', KEYS[3], 1, 'PX', ARGV[6])
publish(message)
return 1
"#;

/// For a script that writes beside the log. KEYS 1: head of the shard, or fleet. ARGV 1: our identity.
pub(super) const OURS: &str = r#"
if redis.call('HGET', KEYS[1], 'store_id') ~= ARGV[1] then
  return redis.error_reply('NOTOURS this is of another store')
end
"#;

/// KEYS from 2: batch, used, uses, grace uses, refused, refusals, then those of the periods, then the id key of each entry.
/// ARGV from 2: memory of the batch, how many periods, how long each of them is kept; then of each entry its id,
/// last_used_at or "", uses, grace uses, last_refused_at or "", refusals, the field of its refusals, and the numbers of
/// four periods, 0 for none: day and hour of the uses, day and hour of the refusals.
pub(super) const RECORD_USES: &str = r#"
if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[2]) then return 0 end
local function latest(key, id, at)
  if at ~= '' then redis.call('ZADD', key, 'GT', at, id) end
end
local function count(key, id, number)
  if number ~= '0' then redis.call('HINCRBY', key, id, number) end
end
local periods = tonumber(ARGV[3])
local function count_in(period, field, number)
  if period ~= '0' then count(KEYS[7 + tonumber(period)], field, number) end
end
for use = 0, #KEYS - periods - 8 do
  if redis.call('EXISTS', KEYS[use + periods + 8]) == 1 then
    local at = 11 * use + periods + 4
    local id, used, uses, grace_uses, refused, refusals = unpack(ARGV, at, at + 5)
    count_in(ARGV[at + 7], id, uses)
    count_in(ARGV[at + 8], id, uses)
    count_in(ARGV[at + 9], ARGV[at + 6], refusals)
    count_in(ARGV[at + 10], ARGV[at + 6], refusals)
    latest(KEYS[3], id, used)
    count(KEYS[4], id, uses)
    count(KEYS[5], id, grace_uses)
    latest(KEYS[6], id, refused)
    count(KEYS[7], id, refusals)
  end
end
for period = 1, periods do redis.call('EXPIRE', KEYS[7 + period], ARGV[3 + period]) end
return 1
"#;

/// KEYS from 2: something to write. ARGV from 2: what.
pub(super) const WRITE_SOMETHING: &str = r#"
redis.call('SET', KEYS[2], ARGV[2])
return 1
"#;

/// KEYS: fleet. ARGV from 2: channel, the field, its value. Told on the channel alone: each gateway reads the fleet's
/// settings every second anyway.
pub(super) const SET_FLEET: &str = r#"
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
redis.call('PUBLISH', ARGV[2], event_of('fleet', string.rep('0', 64)))
return 1
"#;

/// KEYS from 2: roll. ARGV from 2: id of the gateway, its line.
pub(super) const ATTEND: &str = r#"
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
"#;

/// KEYS from 2: roll. ARGV from 2: id of the gateway, the beat that its line must have.
pub(super) const LEAVE: &str = r#"
local line = redis.call('HGET', KEYS[2], ARGV[2])
if not line then return 0 end
-- What cannot be read is taken for a line with the beat 0, which nobody writes.
local readable, member = pcall(cjson.decode, line)
local beat = readable and type(member) == 'table' and member.beat or 0
if beat ~= tonumber(ARGV[3]) then return 0 end
return redis.call('HDEL', KEYS[2], ARGV[2])
"#;

/// KEYS: fleet, the 16 heads. ARGV: store_id, check_secrets, accept_unchecked_keys, 16 nonces. Only in a store that holds
/// nothing at all. It and `ACCEPT` are the only scripts that span slots: on a Cluster the founding will need steps,
/// and a fleet that comes last.
pub(super) const FOUND: &str = r#"
if redis.call('DBSIZE') > 0 then return 0 end
redis.call('HSET', KEYS[1], 'store_id', ARGV[1], 'check_secrets', ARGV[2], 'accept_unchecked_keys', ARGV[3])
for shard = 1, 16 do
  redis.call('HSET', KEYS[shard + 1], 'store_id', ARGV[1], 'seq', 0, 'nonce', ARGV[shard + 3])
end
return 1
"#;

/// KEYS: fleet, the 16 heads, the 16 logs. ARGV: the identity that is expected there or "", ours, check_secrets or "",
/// accept_unchecked_keys, a new secret, 16 nonces. Whatever can fail is read before anything is written.
///
/// The numbers of a log go on where it ends, and its name is new: every gateway sees that it is not the log it knew.
pub(super) const ACCEPT: &str = r#"
local fleet = redis.call('HMGET', KEYS[1], 'store_id', 'check_secrets', 'accept_unchecked_keys')
local found, ends = fleet[1], {}
for shard = 1, 16 do
  local head = redis.call('HMGET', KEYS[shard + 1], 'store_id', 'seq')
  found = found or head[1]
  ends[shard] = tonumber(head[2] or '0') or 0
  if redis.call('EXISTS', KEYS[shard + 17]) == 1 then
    local log = redis.call('XINFO', 'STREAM', KEYS[shard + 17])
    for field = 1, #log, 2 do
      if log[field] == 'last-generated-id' then
        ends[shard] = math.max(ends[shard], tonumber(string.match(log[field + 1], '^%d+')))
      end
    end
  end
end
if (found or '') ~= ARGV[1] then return 0 end

local secrets, seen = {}, {}
for secret in string.gmatch(ARGV[3] .. ',' .. (fleet[2] or ''), '%x+') do
  if #secret == 64 and not seen[secret] then
    secrets[#secrets + 1] = secret
    seen[secret] = true
  end
end
if #secrets == 0 then secrets[1] = ARGV[5] end
local unchecked = (ARGV[4] == '1' or fleet[3] == '1') and 1 or 0

redis.call('HSET', KEYS[1], 'store_id', ARGV[2], 'check_secrets', table.concat(secrets, ','),
  'accept_unchecked_keys', unchecked)
for shard = 1, 16 do
  redis.call('HSET', KEYS[shard + 1], 'store_id', ARGV[2], 'seq', string.format('%.0f', ends[shard]),
    'nonce', ARGV[shard + 5])
end
return 1
"#;
