//! One list out of 16: each shard keeps its own, and a page merges them.

use std::collections::VecDeque;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult, Value};

use super::layout::{self, RecordFields};
use super::{Answer, Line, Ours};
use crate::model::{KeyHash, KeyId, KeyStatus, Shard, Timestamp};
use crate::store::{Activity, Cursor, ListQuery, Page, StoreError, StoredKey};

/// Places read from a shard at a time.
const FEWEST: usize = 16;
const MOST: usize = 256;

/// Reads one page.
pub(super) async fn page(ours: &Ours<'_>, query: &ListQuery) -> Result<Page, StoreError> {
    let limit = query.limit.max(1);
    let mut merge = Merge::new(query);
    let mut keys = Vec::new();
    loop {
        merge.refill(ours).await?;
        let places = merge.take();
        if places.is_empty() {
            return Ok(Page { keys, next: None });
        }
        keys.extend(read_keys(&ours.line, &places).await?.into_iter().filter(|key| matches(query, key)));
        // One more than asked for tells whether there is a next page.
        if keys.len() > limit {
            keys.truncate(limit);
            let next =
                keys.last().map(|last| Cursor { created_at: last.record.created_at, id: last.record.id });
            return Ok(Page { keys, next });
        }
    }
}

/// Reads a key by its id.
pub(super) async fn key(ours: &Ours<'_>, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
    let Some(hash) = read_hash(ours, id).await? else { return Ok(None) };
    let line = &ours.line;
    let stored: Stored = stored_key(&mut redis::pipe(), id, &hash)
        .query_async(&mut line.connection())
        .await
        .or_failed(line)?;
    read_stored(&hash, stored).map(Some)
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

/// What is left of the lists of all shards, newest first.
struct Merge {
    shards: Vec<ShardList>,
    chunk: usize,
}

struct ShardList {
    shard: Shard,
    key: String,
    /// Where to read on; `None` is the beginning.
    after: Option<Cursor>,
    read: VecDeque<Cursor>,
    exhausted: bool,
}

impl Merge {
    fn new(query: &ListQuery) -> Merge {
        let list = |shard| ShardList {
            shard,
            key: match &query.team {
                Some(team) => layout::team_key(shard, team),
                None => layout::ids_key(shard),
            },
            after: query.after,
            read: VecDeque::new(),
            exhausted: false,
        };
        Merge {
            shards: Shard::all().map(list).collect(),
            chunk: query.limit.saturating_add(1).clamp(FEWEST, MOST),
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
            let from = match &list.after {
                Some(after) => format!("({}", layout::place(after.created_at, &after.id)),
                None => "+".to_owned(),
            };
            pipe.cmd("ZRANGE").arg(&list.key).arg(from).arg("-").arg("BYLEX").arg("REV");
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
    fn take(&mut self) -> Vec<Cursor> {
        let mut places = Vec::new();
        while places.len() < self.chunk
            && !self.shards.iter().any(|list| list.read.is_empty() && !list.exhausted)
        {
            let newest = self
                .shards
                .iter_mut()
                .filter(|list| !list.read.is_empty())
                .max_by_key(|list| list.read.front().map(|place| (place.created_at, place.id)));
            match newest.and_then(|list| list.read.pop_front()) {
                Some(place) => places.push(place),
                None => break,
            }
        }
        places
    }
}

/// A record's fields, then the key's last use, its uses, those in grace, its last refusal and its refusals.
type Stored = (RecordFields, Option<f64>, Option<u64>, Option<u64>, Option<f64>, Option<u64>);

async fn read_keys(line: &Line, places: &[Cursor]) -> Result<Vec<StoredKey>, StoreError> {
    let mut connection: MultiplexedConnection = line.connection();
    let mut pipe = redis::pipe();
    for place in places {
        pipe.cmd("GET").arg(layout::id_key(place.id.shard(), &place.id));
    }
    let hashes: Vec<Option<String>> = pipe.query_async(&mut connection).await.or_failed(line)?;
    let hashes = places
        .iter()
        .zip(hashes)
        .map(|(place, hash)| parse_hash(&place.id, &hash.unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()?;

    let mut pipe = redis::pipe();
    for (place, hash) in places.iter().zip(&hashes) {
        stored_key(&mut pipe, &place.id, hash);
    }
    let answers: Vec<Value> = pipe.query_async(&mut connection).await.or_failed(line)?;
    let stored = answers.chunks(STORED_COMMANDS).map(|answer| {
        let stored: RedisResult<Stored> =
            redis::from_redis_value(Value::Array(answer.to_vec())).map_err(Into::into);
        stored.or_failed(line)
    });
    hashes.iter().zip(stored).map(|(hash, stored)| read_stored(hash, stored?)).collect()
}

/// Commands that [`stored_key`] adds.
const STORED_COMMANDS: usize = 6;

fn stored_key<'a>(pipe: &'a mut Pipeline, id: &KeyId, hash: &KeyHash) -> &'a mut Pipeline {
    let shard = id.shard();
    pipe.cmd("HMGET").arg(layout::record_key(hash)).arg(&layout::RECORD_FIELDS);
    pipe.cmd("ZSCORE").arg(layout::used_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::uses_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::grace_uses_key(shard)).arg(id.as_str());
    pipe.cmd("ZSCORE").arg(layout::refused_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::refusals_key(shard)).arg(id.as_str())
}

fn read_stored(hash: &KeyHash, stored: Stored) -> Result<StoredKey, StoreError> {
    let (record, last_used_at, uses, uses_in_grace, last_refused_at, refusals) = stored;
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

fn matches(query: &ListQuery, key: &StoredKey) -> bool {
    let in_environment = query.environment.is_none_or(|environment| key.record.environment == environment);
    let in_status = |(status, at): (KeyStatus, Timestamp)| key.record.status(at) == status;
    in_environment && query.status.is_none_or(in_status)
}
