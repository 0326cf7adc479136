//! One list out of 16: each shard keeps its own, and a page merges them.

use std::collections::VecDeque;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult};

use super::layout;
use super::{Answer, Line};
use crate::model::{KeyHash, KeyId, KeyStatus, Shard, Timestamp};
use crate::store::{Cursor, ListQuery, Page, StoreError, StoredKey};

/// Places read from a shard at a time.
const FEWEST: usize = 16;
const MOST: usize = 256;

/// Reads one page.
pub(super) async fn page(line: &Line, query: &ListQuery) -> Result<Page, StoreError> {
    let limit = query.limit.max(1);
    let mut merge = Merge::new(query);
    let mut keys = Vec::new();
    loop {
        merge.refill(line).await?;
        let places = merge.take();
        if places.is_empty() {
            return Ok(Page { keys, next: None });
        }
        keys.extend(read_keys(line, &places).await?.into_iter().filter(|key| matches(query, key)));
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
pub(super) async fn key(line: &Line, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
    let Some(hash) = read_hash(line, id).await? else { return Ok(None) };
    let stored: Stored = stored_key(&mut redis::pipe(), id, &hash)
        .query_async(&mut line.connection())
        .await
        .or_failed(line)?;
    read_stored(&hash, stored).map(Some)
}

/// The hash behind an id.
pub(super) async fn read_hash(line: &Line, id: &KeyId) -> Result<Option<KeyHash>, StoreError> {
    let hash: Option<String> = redis::cmd("GET")
        .arg(layout::id_key(id.shard(), id))
        .query_async(&mut line.connection())
        .await
        .or_failed(line)?;
    hash.map(|hash| parse_hash(id, &hash)).transpose()
}

/// What is left of the lists of all shards, newest first.
struct Merge {
    shards: Vec<ShardList>,
    chunk: usize,
}

struct ShardList {
    key: String,
    /// Where to read on; `None` is the beginning.
    after: Option<Cursor>,
    read: VecDeque<Cursor>,
    exhausted: bool,
}

impl Merge {
    fn new(query: &ListQuery) -> Merge {
        let list = |shard| ShardList {
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
    async fn refill(&mut self, line: &Line) -> Result<(), StoreError> {
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
        let answers: Vec<Vec<String>> = pipe.query_async(&mut line.connection()).await.or_failed(line)?;
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

/// A record's two fields, then the key's last use and its uses.
type Stored = ((Option<Vec<u8>>, Option<i64>), Option<f64>, Option<u64>);

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
    let answers: Vec<redis::Value> = pipe.query_async(&mut connection).await.or_failed(line)?;
    let stored = answers.chunks(STORED_COMMANDS).map(|answer| {
        let stored: RedisResult<Stored> =
            redis::from_redis_value(redis::Value::Array(answer.to_vec())).map_err(Into::into);
        stored.or_failed(line)
    });
    hashes.iter().zip(stored).map(|(hash, stored)| read_stored(hash, stored?)).collect()
}

/// Commands that [`stored_key`] adds.
const STORED_COMMANDS: usize = 3;

fn stored_key<'a>(pipe: &'a mut Pipeline, id: &KeyId, hash: &KeyHash) -> &'a mut Pipeline {
    let shard = id.shard();
    pipe.cmd("HMGET").arg(layout::record_key(hash)).arg(layout::RECORD).arg(layout::REVOKED_AT);
    pipe.cmd("ZSCORE").arg(layout::used_key(shard)).arg(id.as_str());
    pipe.cmd("HGET").arg(layout::uses_key(shard)).arg(id.as_str())
}

fn read_stored(hash: &KeyHash, (record, last_used_at, uses): Stored) -> Result<StoredKey, StoreError> {
    let record = layout::read_record(hash, record)?.ok_or_else(|| {
        StoreError::Corrupt(format!("the record of {hash:?}: it is in the list and not there"))
    })?;
    // A score is a double, which holds milliseconds exactly for some 285,000 years.
    let last_used_at = last_used_at.map(|millis| Timestamp::from_millis(millis as i64));
    Ok(StoredKey { record, last_used_at, uses: uses.unwrap_or(0) })
}

fn parse_hash(id: &KeyId, hash: &str) -> Result<KeyHash, StoreError> {
    hash.parse().map_err(|_| StoreError::Corrupt(format!("the hash of {id}")))
}

fn matches(query: &ListQuery, key: &StoredKey) -> bool {
    let in_environment = query.environment.is_none_or(|environment| key.record.environment == environment);
    let in_status = |(status, at): (KeyStatus, Timestamp)| key.record.status(at) == status;
    in_environment && query.status.is_none_or(in_status)
}
