//! One list out of 16: each shard keeps its own, and a page merges them.

use std::collections::VecDeque;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult, Value};

use super::layout::{self, RecordFields};
use super::{Answer, Line, Ours};
use crate::model::{KeyHash, KeyId, SHARDS, Shard, Timestamp};
use crate::store::{
    Activity, Cursor, ListQuery, Page, Place, Selection, SortBy, SortOrder, StoreError, StoredKey,
};

/// Places read from a shard at a time, where a page is all that is wanted.
const FEWEST: usize = 16;
const MOST: usize = 256;
/// And where every key has to be looked at.
const ALL: usize = 1_000;

/// Where a key stands in the list of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShardPlace {
    /// When it was made.
    pub(super) created_at: Timestamp,
    /// Its id.
    pub(super) id: KeyId,
}

/// Reads one page. The shards' lists are in the order of creation: in any other one, and to count, every key is read.
pub(super) async fn page(ours: &Ours<'_>, query: &ListQuery) -> Result<Page, StoreError> {
    let in_order = query.sort.by == SortBy::Created && !query.count;
    let mut merge = Merge::new(query, in_order);
    let mut selection = Selection::new(query);
    loop {
        merge.refill(ours).await?;
        let places = merge.take();
        for key in read_keys(&ours.line, &places).await? {
            selection.offer(key);
        }
        if places.is_empty() || (in_order && selection.is_full()) {
            return Ok(selection.into_page());
        }
        // What is looked for is rare: fewer and longer steps.
        merge.chunk = merge.chunk.saturating_mul(4).min(ALL);
    }
}

/// Reads a key by its id.
pub(super) async fn key(ours: &Ours<'_>, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
    let Some(hash) = read_hash(ours, id).await? else { return Ok(None) };
    let line = &ours.line;
    type Stored = (RecordFields, Option<f64>, Option<u64>, Option<u64>, Option<f64>, Option<u64>);
    let (record, used, uses, grace_uses, refused, refusals): Stored =
        stored_key(&mut redis::pipe(), id, &hash)
            .query_async(&mut line.connection())
            .await
            .or_failed(line)?;
    read_stored(&hash, record, (used, uses, grace_uses, refused, refusals)).map(Some)
}

/// The hash behind an id.
pub(super) async fn read_hash(ours: &Ours<'_>, id: &KeyId) -> Result<Option<KeyHash>, StoreError> {
    let (hash, store_id): (Option<String>, Option<String>) = redis::pipe()
        .atomic()
        .cmd("GET")
        .arg(layout::id_key(id.shard(), id))
        .cmd("HGET")
        .arg(layout::head_key(id.shard()))
        .arg(layout::STORE_ID)
        .query_async(&mut ours.line.connection())
        .await
        .or_failed(&ours.line)?;
    ours.check(store_id.as_deref()).await?;
    hash.map(|hash| parse_hash(id, &hash)).transpose()
}

/// What is left of the lists of all shards.
struct Merge {
    shards: Vec<ShardList>,
    chunk: usize,
    order: SortOrder,
}

struct ShardList {
    shard: Shard,
    key: String,
    /// Where to read on; `None` is the beginning.
    after: Option<ShardPlace>,
    read: VecDeque<ShardPlace>,
    exhausted: bool,
}

impl Merge {
    fn new(query: &ListQuery, in_order: bool) -> Merge {
        let after = match &query.after {
            Some(Cursor { place: Place::Created(created_at), id }) if in_order => {
                Some(ShardPlace { created_at: *created_at, id: *id })
            }
            _ => None,
        };
        let list = |shard| ShardList {
            shard,
            key: match &query.team {
                Some(team) => layout::team_key(shard, team),
                None => layout::ids_key(shard),
            },
            after,
            read: VecDeque::new(),
            exhausted: false,
        };
        Merge {
            shards: Shard::all().map(list).collect(),
            chunk: if in_order { query.limit.saturating_add(1).clamp(FEWEST, MOST) } else { ALL },
            order: if in_order { query.sort.order } else { SortOrder::default() },
        }
    }

    /// Reads on in each shard of which nothing is left.
    async fn refill(&mut self, ours: &Ours<'_>) -> Result<(), StoreError> {
        let mut dry: Vec<_> =
            self.shards.iter_mut().filter(|list| list.read.is_empty() && !list.exhausted).collect();
        if dry.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for list in &dry {
            pipe.cmd("ZRANGE").arg(&list.key);
            let from = list.after.map(|after| format!("({}", layout::place(after.created_at, &after.id)));
            match self.order {
                SortOrder::Descending => {
                    pipe.arg(from.as_deref().unwrap_or("+")).arg("-").arg("BYLEX").arg("REV")
                }
                SortOrder::Ascending => pipe.arg(from.as_deref().unwrap_or("-")).arg("+").arg("BYLEX"),
            };
            pipe.arg("LIMIT").arg(0).arg(self.chunk);
        }
        // Behind what was read: a shard that is ours still was ours then.
        for list in &dry {
            pipe.cmd("HGET").arg(layout::head_key(list.shard)).arg(layout::STORE_ID);
        }
        let (line, lists) = (&ours.line, dry.len());
        let mut answers: Vec<Value> = pipe.query_async(&mut line.connection()).await.or_failed(line)?;
        let store_ids = Value::Array(answers.split_off(answers.len().min(lists)));
        let store_ids: Vec<Option<String>> =
            redis::from_redis_value(store_ids).map_err(RedisError::from).or_failed(line)?;
        for store_id in &store_ids {
            ours.check(store_id.as_deref()).await?;
        }
        let answers: Vec<Vec<String>> =
            redis::from_redis_value(Value::Array(answers)).map_err(RedisError::from).or_failed(line)?;
        for (list, places) in dry.iter_mut().zip(answers) {
            list.exhausted = places.len() < self.chunk;
            list.read = places.iter().map(|place| layout::read_place(place)).collect::<Result<_, _>>()?;
            list.after = list.read.back().copied().or(list.after);
        }
        Ok(())
    }

    /// The next places in order, as far as they are certain: up to where a shard has to be read on.
    fn take(&mut self) -> Vec<ShardPlace> {
        let order = self.order;
        let mut places = Vec::new();
        while places.len() < self.chunk
            && !self.shards.iter().any(|list| list.read.is_empty() && !list.exhausted)
        {
            let next = self.shards.iter_mut().filter(|list| !list.read.is_empty()).min_by(|one, other| {
                let ascending = one.read.front().cmp(&other.read.front());
                if order.is_descending() { ascending.reverse() } else { ascending }
            });
            match next.and_then(|list| list.read.pop_front()) {
                Some(place) => places.push(place),
                None => break,
            }
        }
        places
    }
}

/// Reads keys: what stands together in a shard at once, and each record.
async fn read_keys(line: &Line, places: &[ShardPlace]) -> Result<Vec<StoredKey>, StoreError> {
    let mut by_shard: [Vec<KeyId>; SHARDS] = Default::default();
    for place in places {
        by_shard[place.id.shard().index()].push(place.id);
    }
    let by_shard = Shard::all().zip(by_shard).filter(|(_, ids)| !ids.is_empty());
    let by_shard: Vec<(Shard, Vec<KeyId>)> = by_shard.collect();
    if by_shard.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection: MultiplexedConnection = line.connection();
    let mut pipe = redis::pipe();
    for (shard, ids) in &by_shard {
        let names: Vec<&str> = ids.iter().map(KeyId::as_str).collect();
        let id_keys: Vec<String> = ids.iter().map(|id| layout::id_key(*shard, id)).collect();
        pipe.cmd("MGET").arg(id_keys);
        pipe.cmd("ZMSCORE").arg(layout::used_key(*shard)).arg(&names);
        pipe.cmd("HMGET").arg(layout::uses_key(*shard)).arg(&names);
        pipe.cmd("HMGET").arg(layout::grace_uses_key(*shard)).arg(&names);
        pipe.cmd("ZMSCORE").arg(layout::refused_key(*shard)).arg(&names);
        pipe.cmd("HMGET").arg(layout::refusals_key(*shard)).arg(&names);
    }
    let answers: Vec<Columns> = read_in_groups(&mut connection, line, &pipe, 6).await?;
    let mut keys = Vec::with_capacity(places.len());
    let mut pipe = redis::pipe();
    for ((_, ids), columns) in by_shard.iter().zip(answers) {
        let (hashes, used, uses, grace_uses, refused, refusals) = columns;
        let columns = hashes.into_iter().zip(used).zip(uses).zip(grace_uses).zip(refused).zip(refusals);
        for (id, (((((hash, used), uses), grace_uses), refused), refusals)) in ids.iter().zip(columns) {
            let hash = parse_hash(id, &hash.unwrap_or_default())?;
            pipe.cmd("HMGET").arg(layout::record_key(&hash)).arg(&layout::RECORD_FIELDS);
            keys.push((hash, (used, uses, grace_uses, refused, refusals)));
        }
    }
    let records: Vec<RecordFields> = pipe.query_async(&mut connection).await.or_failed(line)?;
    keys.iter().zip(records).map(|((hash, activity), record)| read_stored(hash, record, *activity)).collect()
}

/// Of the keys of one shard: hashes, last uses, uses, those in grace, last refusals and refusals.
type Columns = (
    Vec<Option<String>>,
    Vec<Option<f64>>,
    Vec<Option<u64>>,
    Vec<Option<u64>>,
    Vec<Option<f64>>,
    Vec<Option<u64>>,
);

async fn read_in_groups<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    line: &Line,
    pipe: &Pipeline,
    group: usize,
) -> Result<Vec<T>, StoreError> {
    let answers: Vec<Value> = pipe.query_async(connection).await.or_failed(line)?;
    let groups = answers.chunks(group).map(|answer| {
        let read: RedisResult<T> = redis::from_redis_value(Value::Array(answer.to_vec())).map_err(Into::into);
        read.or_failed(line)
    });
    groups.collect()
}

/// A key's last use, its uses, those in grace, its last refusal and its refusals.
type ActivityFields = (Option<f64>, Option<u64>, Option<u64>, Option<f64>, Option<u64>);

fn stored_key<'a>(pipe: &'a mut Pipeline, id: &KeyId, hash: &KeyHash) -> &'a mut Pipeline {
    let shard = id.shard();
    pipe.cmd("HMGET").arg(layout::record_key(hash)).arg(&layout::RECORD_FIELDS);
    pipe.cmd("ZSCORE").arg(layout::used_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::uses_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::grace_uses_key(shard)).arg(id.as_str());
    pipe.cmd("ZSCORE").arg(layout::refused_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::refusals_key(shard)).arg(id.as_str())
}

fn read_stored(
    hash: &KeyHash,
    record: RecordFields,
    activity: ActivityFields,
) -> Result<StoredKey, StoreError> {
    let (last_used_at, uses, uses_in_grace, last_refused_at, refusals) = activity;
    let record = layout::read_record(hash, record)?.ok_or_else(|| {
        StoreError::Corrupt(format!("the record of {hash:?}: it is in the list and not there"))
    })?;
    // A score is a double, which holds milliseconds exactly for some 285,000 years.
    let moment = |score: Option<f64>| score.map(|millis| Timestamp::from_millis(millis as i64));
    let activity = Activity {
        last_used_at: moment(last_used_at),
        uses: uses.unwrap_or(0),
        uses_in_grace: uses_in_grace.unwrap_or(0),
        last_refused_at: moment(last_refused_at),
        refusals: refusals.unwrap_or(0),
    };
    Ok(StoredKey { record, activity })
}

fn parse_hash(id: &KeyId, hash: &str) -> Result<KeyHash, StoreError> {
    hash.parse().map_err(|_| StoreError::Corrupt(format!("the hash of {id}")))
}
