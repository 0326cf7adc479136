//! What is noted beside the keys: counts by period, changes, requests that are made once.

use super::layout::{self, RecordFields};
use super::scripts;
use super::{Answer, Ours};
use crate::model::{KeyId, KeyRecord, Shard, Timestamp};
use crate::store::{Change, Earlier, Edit, Editable, Period, PeriodCount, StoreError, Told};

pub(super) async fn counts(
    ours: &Ours<'_>,
    id: &KeyId,
    period: Period,
    count: usize,
    now: Timestamp,
) -> Result<Vec<PeriodCount>, StoreError> {
    let (shard, refusals) = (id.shard(), layout::refusals_field(id));
    let mut pipe = redis::pipe();
    for number in period.last(count, now) {
        pipe.cmd("HMGET").arg(layout::period_key(shard, period, number)).arg(id.as_str()).arg(&refusals);
    }
    let found: Vec<(Option<u64>, Option<u64>)> =
        pipe.query_async(&mut ours.line.connection()).await.or_failed(&ours.line)?;
    // Behind what was read: a shard that is ours still was ours then.
    let store_id: Option<String> = redis::cmd("HGET")
        .arg(layout::head_key(shard))
        .arg(layout::STORE_ID)
        .query_async(&mut ours.line.connection())
        .await
        .or_failed(&ours.line)?;
    ours.check(store_id.as_deref()).await?;
    let counts = period.last(count, now).zip(found).map(|(number, (uses, refusals))| PeriodCount {
        start: period.start(number),
        uses: uses.unwrap_or(0),
        refusals: refusals.unwrap_or(0),
    });
    Ok(counts.collect())
}

pub(super) async fn changes(ours: &Ours<'_>, id: &KeyId) -> Result<Vec<Change>, StoreError> {
    let (entries, store_id): (Vec<String>, Option<String>) = redis::pipe()
        .atomic()
        .cmd("LRANGE")
        .arg(layout::changes_key(id))
        .arg(0)
        .arg(-1)
        .cmd("HGET")
        .arg(layout::head_key(id.shard()))
        .arg(layout::STORE_ID)
        .query_async(&mut ours.line.connection())
        .await
        .or_failed(&ours.line)?;
    ours.check(store_id.as_deref()).await?;
    entries.iter().map(|entry| layout::read_change(entry)).collect()
}

pub(super) async fn recall(
    ours: &Ours<'_>,
    shard: Shard,
    name: &[u8; 32],
) -> Result<Option<Earlier>, StoreError> {
    let (earlier, store_id): (Option<String>, Option<String>) = redis::pipe()
        .atomic()
        .cmd("GET")
        .arg(layout::once_key(shard, name))
        .cmd("HGET")
        .arg(layout::head_key(shard))
        .arg(layout::STORE_ID)
        .query_async(&mut ours.line.connection())
        .await
        .or_failed(&ours.line)?;
    ours.check(store_id.as_deref()).await?;
    earlier.map(|earlier| layout::read_earlier(&earlier)).transpose()
}

/// Reads the record as it stands there, compares it, and has the script write only where exactly that still stands.
pub(super) async fn edit(
    ours: &Ours<'_>,
    before: &KeyRecord,
    after: &Editable,
) -> Result<Option<Edit>, StoreError> {
    let Some((raw, found)) = read(ours, before).await? else { return Ok(None) };
    if found != *before || found.revoked_at.is_some() {
        return Ok(Some(Edit::Changed(found)));
    }
    let script = ours.store.scripts.edit(&ours.store_id, &raw, before, after)?;
    let (edited, head): (bool, (u64, String)) =
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await?;
    if edited {
        let told = Told::Logged(scripts::read_head(head)?);
        return Ok(Some(Edit::Edited { record: after.clone().put_into(before), told }));
    }
    Ok(read(ours, before).await?.map(|(_, found)| Edit::Changed(found)))
}

/// The record of the key as bytes, and as what they say.
async fn read(ours: &Ours<'_>, key: &KeyRecord) -> Result<Option<(Vec<u8>, KeyRecord)>, StoreError> {
    let (fields, store_id): (RecordFields, Option<String>) = redis::pipe()
        .atomic()
        .cmd("HMGET")
        .arg(layout::record_key(&key.hash))
        .arg(&layout::RECORD_FIELDS)
        .cmd("HGET")
        .arg(layout::head_key(key.id.shard()))
        .arg(layout::STORE_ID)
        .query_async(&mut ours.line.connection())
        .await
        .or_failed(&ours.line)?;
    ours.check(store_id.as_deref()).await?;
    let raw = fields.0.clone().unwrap_or_default();
    Ok(layout::read_record(&key.hash, fields)?.map(|record| (raw, record)))
}
