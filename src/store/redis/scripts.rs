//! What Redis does in one atomic step.
//!
//! All keys of a script are in one slot. A script that changes a key also appends to the shard's log and publishes:
//! there is no moment in which one has happened without the others. Each looks first whether the store is ours.

use redis::{Script, ScriptInvocation};

use super::layout::{self, EVENTS_CHANNEL, FLEET_KEY, ROLL_KEY, RecordFields};
use super::lua;
use crate::model::{Event, GatewayId, Head, KeyHash, KeyId, KeyRecord, Member, Nonce, Shard, Timestamp};
use crate::store::{
    Activity, CHANGES_KEPT, ChangeKind, Editable, KeyUse, ONCE_MEMORY_S, Once, Origin, Period, StoreError,
    UsageBatch,
};

/// Events that a shard's log keeps, about.
const LOG_LENGTH: usize = 20_000;
/// How long the id of a usage batch is remembered; a batch is sent again within seconds.
const BATCH_MEMORY_S: u64 = 3_600;

/// What a script answers when the store is not ours.
pub(super) const NOT_OURS: &str = "NOTOURS";

/// The scripts, hashed once; Redis is sent their text only when it does not know them.
pub(super) struct Scripts {
    create: Script,
    edit: Script,
    revoke: Script,
    assert_revoked: Script,
    rotate: Script,
    canary: Script,
    record_uses: Script,
    write_something: Script,
    set_fleet: Script,
    attend: Script,
    leave: Script,
}

/// What the script of a revocation yields: the record, whether it was this call, the head of the log.
pub(super) type Revoked = (RecordFields, bool, (u64, String));

/// What the script of a rotation yields: what became of it, the old record, the head of the log.
pub(super) type Rotated = (String, RecordFields, (u64, String));

impl Scripts {
    pub(super) fn new() -> Scripts {
        let change = |part: &str| Script::new(&[lua::CALENDAR, lua::EVENT, lua::CHANGE, part].concat());
        let beside = |part: &str| Script::new(&[lua::OURS, part].concat());
        Scripts {
            create: change(&[lua::NOTE_CHANGE, lua::CREATE].concat()),
            edit: change(&[lua::NOTE_CHANGE, lua::EDIT].concat()),
            revoke: change(lua::REVOKE),
            assert_revoked: change(lua::ASSERT_REVOKED),
            rotate: change(lua::ROTATE),
            canary: change(lua::CANARY),
            record_uses: beside(lua::RECORD_USES),
            write_something: beside(lua::WRITE_SOMETHING),
            set_fleet: Script::new(&[lua::OURS, lua::CALENDAR, lua::EVENT, lua::SET_FLEET].concat()),
            attend: beside(lua::ATTEND),
            leave: beside(lua::LEAVE),
        }
    }

    /// Yields what became of it, or what the request did before.
    pub(super) fn create(
        &self,
        ours: &str,
        record: &KeyRecord,
        origin: &Origin,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        let shard = record.id.shard();
        let mut script = change(&self.create, ours, shard);
        script
            .key(layout::record_key(&record.hash))
            .key(layout::id_key(shard, &record.id))
            .key(layout::ids_key(shard))
            .key(layout::team_key(shard, &record.team))
            .key(once_key(shard, origin.once()))
            .key(layout::changes_key(&record.id))
            .arg(nonce()?)
            .arg(record.hash.to_hex())
            .arg(record.id.as_str())
            .arg(write_record(record)?)
            .arg(layout::place(record.created_at, &record.id));
        put_once(&mut script, origin.once(), &record.id);
        match origin {
            Origin::Imported => script.arg(write_change(&ChangeKind::Imported)?),
            Origin::Made | Origin::MadeOnce(_) => script.arg(""),
        };
        script.arg(CHANGES_KEPT);
        if let Some(at) = record.revoked_at {
            script.arg(layout::REVOKED_AT).arg(at.as_millis());
        }
        if let Some(at) = record.retires_at {
            script.arg(layout::RETIRES_AT).arg(at.as_millis());
        }
        if let Some(id) = record.replaced_by {
            script.arg(layout::REPLACED_BY).arg(id.as_str());
        }
        Ok(script)
    }

    /// Yields whether it was done, and the head. `raw` is the record as it stands in Redis, from which `before` was read.
    pub(super) fn edit(
        &self,
        ours: &str,
        raw: &[u8],
        before: &KeyRecord,
        after: &Editable,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        // What stands beside the record stays out of it.
        let stored: KeyRecord = serde_json::from_slice(raw).map_err(StoreError::unavailable)?;
        let new = after.clone().put_into(&stored);
        let what = ChangeKind::Edited { before: Editable::of(before), after: after.clone() };
        let mut script = change(&self.edit, ours, new.id.shard());
        script
            .key(layout::record_key(&new.hash))
            .key(layout::changes_key(&new.id))
            .arg(nonce()?)
            .arg(new.hash.to_hex())
            .arg(new.id.as_str())
            .arg(raw)
            .arg(before.retires_at.map(|at| at.as_millis().to_string()).unwrap_or_default())
            .arg(before.replaced_by.as_ref().map(KeyId::as_str).unwrap_or_default())
            .arg(write_record(&new)?)
            .arg(write_change(&what)?)
            .arg(CHANGES_KEPT);
        Ok(script)
    }

    /// Yields [`Revoked`].
    pub(super) fn revoke(
        &self,
        ours: &str,
        hash: &KeyHash,
        id: &KeyId,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        let mut script = change(&self.revoke, ours, Shard::of(hash));
        script.key(layout::record_key(hash)).arg(nonce()?).arg(hash.to_hex()).arg(id.as_str());
        Ok(script)
    }

    /// Yields 1 if the revocation was lost, else 0.
    pub(super) fn assert_revoked(
        &self,
        ours: &str,
        hash: &KeyHash,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        let mut script = change(&self.assert_revoked, ours, Shard::of(hash));
        script.key(layout::record_key(hash)).arg(nonce()?).arg(hash.to_hex());
        Ok(script)
    }

    /// Yields [`Rotated`].
    pub(super) fn rotate(
        &self,
        ours: &str,
        (old_hash, old_id): (&KeyHash, &KeyId),
        new: &KeyRecord,
        retires_at: Timestamp,
        once: Option<&Once>,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        let shard = new.id.shard();
        let mut script = change(&self.rotate, ours, shard);
        script
            .key(layout::record_key(old_hash))
            .key(layout::record_key(&new.hash))
            .key(layout::id_key(shard, &new.id))
            .key(layout::ids_key(shard))
            .key(layout::team_key(shard, &new.team))
            .key(once_key(shard, once))
            .arg(nonce()?)
            .arg(nonce()?)
            .arg(old_hash.to_hex())
            .arg(old_id.as_str())
            .arg(retires_at.as_millis())
            .arg(new.hash.to_hex())
            .arg(new.id.as_str())
            .arg(write_record(new)?)
            .arg(layout::place(new.created_at, &new.id));
        put_once(&mut script, once, &new.id);
        Ok(script)
    }

    /// Yields 1 if a canary was told, else 0.
    pub(super) fn canary(
        &self,
        ours: &str,
        shard: Shard,
        interval_ms: u64,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        let hash = Event::canary(shard, Timestamp::from_millis(0)).hash;
        let mut script = change(&self.canary, ours, shard);
        script.key(layout::canary_key(shard)).arg(nonce()?).arg(hash.to_hex()).arg(interval_ms);
        Ok(script)
    }

    /// Yields 1 if the batch is new, else 0.
    pub(super) fn record_uses(&self, ours: &str, batch: &UsageBatch) -> ScriptInvocation<'_> {
        let shard = batch.shard;
        let mut script = self.record_uses.prepare_invoke();
        script
            .key(layout::head_key(shard))
            .key(layout::batch_key(shard, batch.id))
            .key(layout::used_key(shard))
            .key(layout::uses_key(shard))
            .key(layout::grace_uses_key(shard))
            .key(layout::refused_key(shard))
            .key(layout::refusals_key(shard))
            .arg(ours)
            .arg(BATCH_MEMORY_S);
        // Nearly always one day and one hour.
        let mut periods: Vec<(Period, i64)> = Vec::new();
        let mut number_of = |at: Option<Timestamp>, period: Period| {
            let Some(at) = at else { return 0 };
            let wanted = (period, period.number(at));
            let found = periods.iter().position(|known| *known == wanted).unwrap_or_else(|| {
                periods.push(wanted);
                periods.len() - 1
            });
            found + 1
        };
        let numbers: Vec<[usize; 4]> = batch
            .uses
            .iter()
            .map(|KeyUse { activity, .. }| {
                let [used, refused] = [activity.last_used_at, activity.last_refused_at];
                [(used, Period::Day), (used, Period::Hour), (refused, Period::Day), (refused, Period::Hour)]
                    .map(|(at, period)| number_of(at, period))
            })
            .collect();
        script.arg(periods.len());
        for &(period, number) in &periods {
            script.key(layout::period_key(shard, period, number));
            // One more than is kept: the last one is not over yet.
            script.arg((period.kept() as i64 + 1) * period.millis() / 1_000);
        }
        let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().to_string()).unwrap_or_default();
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (key, numbers) in batch.uses.iter().zip(numbers) {
            let Activity { last_used_at, uses, uses_in_grace, last_refused_at, refusals } = key.activity;
            script
                .key(layout::id_key(shard, &key.id))
                .arg(key.id.as_str())
                .arg(millis(last_used_at))
                .arg(count(uses))
                .arg(count(uses_in_grace))
                .arg(millis(last_refused_at))
                .arg(count(refusals))
                .arg(layout::refusals_field(&key.id))
                .arg(&numbers);
        }
        script
    }

    /// Writes something into the shard that means nothing.
    pub(super) fn write_something(
        &self,
        ours: &str,
        shard: Shard,
    ) -> Result<ScriptInvocation<'_>, StoreError> {
        let mut script = self.write_something.prepare_invoke();
        script.key(layout::head_key(shard)).key(layout::durable_key(shard)).arg(ours).arg(nonce()?);
        Ok(script)
    }

    /// Sets the switch for keys without a check.
    pub(super) fn accept_unchecked_keys(&self, ours: &str, accept: bool) -> ScriptInvocation<'_> {
        let mut script = self.set_fleet.prepare_invoke();
        script
            .key(FLEET_KEY)
            .arg(ours)
            .arg(EVENTS_CHANNEL)
            .arg(layout::ACCEPT_UNCHECKED_KEYS)
            .arg(u8::from(accept));
        script
    }

    /// Writes a line on the roll.
    pub(super) fn attend(&self, ours: &str, member: &Member) -> Result<ScriptInvocation<'_>, StoreError> {
        let line = serde_json::to_string(member).map_err(StoreError::unavailable)?;
        let mut script = self.attend.prepare_invoke();
        script.key(FLEET_KEY).key(ROLL_KEY).arg(ours).arg(member.id.to_string()).arg(line);
        Ok(script)
    }

    /// Takes a line off the roll. Yields how many.
    pub(super) fn leave(&self, ours: &str, id: GatewayId, beat: u64) -> ScriptInvocation<'_> {
        let mut script = self.leave.prepare_invoke();
        script.key(FLEET_KEY).key(ROLL_KEY).arg(ours).arg(id.to_string()).arg(beat);
        script
    }
}

/// Begins the call of a script that appends to the log of `shard`.
fn change<'a>(script: &'a Script, ours: &str, shard: Shard) -> ScriptInvocation<'a> {
    let mut script = script.prepare_invoke();
    script
        .key(layout::head_key(shard))
        .key(layout::log_key(shard))
        .arg(ours)
        .arg(EVENTS_CHANNEL)
        .arg(LOG_LENGTH);
    script
}

/// The name of a new entry.
pub(super) fn nonce() -> Result<String, StoreError> {
    getrandom::u64().map(|number| Nonce::from_u64(number).to_string()).map_err(StoreError::unavailable)
}

/// Reads the head that a script yields.
pub(super) fn read_head((seq, nonce): (u64, String)) -> Result<Head, StoreError> {
    let nonce = nonce.parse().map_err(|_| StoreError::Corrupt("the head of a log: its nonce".to_owned()))?;
    Ok(Head { seq, nonce })
}

/// Of no request, it is a key in the same slot all the same.
fn once_key(shard: Shard, once: Option<&Once>) -> String {
    layout::once_key(shard, once.map_or(&[0; 32], |once| &once.name))
}

/// What a request does that is made once, and how long that is remembered.
fn put_once(script: &mut ScriptInvocation<'_>, once: Option<&Once>, id: &KeyId) {
    script.arg(once.map(|once| layout::write_earlier(&once.fingerprint, id)).unwrap_or_default());
    script.arg(ONCE_MEMORY_S);
}

fn write_change(what: &ChangeKind) -> Result<String, StoreError> {
    serde_json::to_string(what).map_err(StoreError::unavailable)
}

fn write_record(record: &KeyRecord) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(StoreError::unavailable)
}
