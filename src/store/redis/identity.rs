//! Whether what answers is the fleet's store, and fit to be.
//!
//! A *survey* reads in one round trip all that decides it. Each connection begins with one, and each reading of the heads
//! is one. In between every operation looks whether the shard that it reads or writes is ours: in the same step, or after what it read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{RedisResult, Script, Value};

use super::layout::{self, FLEET_KEY, FleetFields};
use super::link::Line;
use super::{Answer, lua, scripts};
use crate::model::{Head, Heads, SHARDS, Shard, Timestamp};
use crate::store::{FleetSettings, Mismatch, StoreError, StoreReport};

/// What this process knows of the identity of its store.
pub(super) struct Identity {
    standing: Mutex<Standing>,
    found: Script,
    accept: Script,
}

#[derive(Default)]
struct Standing {
    /// The identity of the fleet: pinned, or the first one seen. Never changes.
    ours: Option<String>,
    /// The fleet's settings as they were last seen in our store.
    settings: Option<FleetSettings>,
    /// What the last survey found wrong.
    mismatch: Option<Mismatch>,
}

/// What a survey saw.
pub(super) struct Survey {
    time: Timestamp,
    policy: String,
    is_primary: bool,
    entries: u64,
    fleet: FleetFields,
    heads: Vec<HeadFields>,
    /// What is wrong with it.
    pub(super) mismatch: Option<Mismatch>,
}

/// The fields of a head: identity, number, name.
type HeadFields = (Option<String>, Option<u64>, Option<String>);

impl Identity {
    pub(super) fn new(pinned: Option<String>) -> Identity {
        let standing = Standing { ours: pinned, ..Standing::default() };
        Identity {
            standing: Mutex::new(standing),
            found: Script::new(lua::FOUND),
            accept: Script::new(lua::ACCEPT),
        }
    }

    /// The identity that every operation must find; fails if the last survey did not find it.
    pub(super) fn ours(&self) -> Result<String, StoreError> {
        let standing = self.standing();
        match (&standing.mismatch, &standing.ours) {
            (Some(mismatch), _) => Err(StoreError::NotOurs(mismatch.clone())),
            (None, Some(ours)) => Ok(ours.clone()),
            (None, None) => Err(StoreError::unavailable(NotSurveyed)),
        }
    }

    /// What the last survey found wrong.
    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        self.standing().mismatch.clone()
    }

    /// Surveys what answers on `line`, and founds the fleet if there is nothing and nothing is expected.
    pub(super) async fn survey(&self, line: &Line) -> Result<Survey, StoreError> {
        let mut survey = Survey::read(line).await?;
        let ours = self.standing().ours.clone();
        match survey.judge(ours.as_deref()) {
            None | Some(Mismatch::Evicting { .. } | Mismatch::Replica) => {}
            Some(mismatch) => {
                if mismatch == Mismatch::Empty && ours.is_none() {
                    self.found_fleet(line).await?;
                }
                // Also because the first look may have seen half of somebody else's founding or acceptance.
                survey = Survey::read(line).await?;
            }
        }
        survey.mismatch = self.settle(&survey);
        Ok(survey)
    }

    /// What is there, for an operator.
    pub(super) async fn inspect(&self, line: &Line) -> Result<StoreReport, StoreError> {
        let survey = self.survey(line).await?;
        Ok(StoreReport {
            ours: self.standing().ours.clone(),
            found: survey.found().map(str::to_owned),
            entries: survey.entries,
            mismatch: survey.mismatch,
        })
    }

    /// Makes what answers on `line` the fleet's store, if it is still `found`.
    pub(super) async fn accept(&self, line: &Line, found: Option<&str>) -> Result<(), StoreError> {
        let survey = self.survey(line).await?;
        match survey.mismatch {
            None => return Ok(()),
            Some(mismatch @ (Mismatch::Evicting { .. } | Mismatch::Replica)) => {
                return Err(StoreError::NotOurs(mismatch));
            }
            Some(_) => {}
        }
        let (ours, known) = {
            let standing = self.standing();
            (standing.ours.clone(), standing.settings.clone())
        };
        let new = FleetSettings::random()?;
        // Who knows no identity keeps the one that is there in part: the rest of the fleet may know it.
        let ours = ours.or(found.map(str::to_owned)).unwrap_or(new.store_id);
        let mut script = self.accept.prepare_invoke();
        script.key(FLEET_KEY).key(of_all_shards(layout::head_key)).key(of_all_shards(layout::log_key));
        script
            .arg(found.unwrap_or_default())
            .arg(&ours)
            .arg(known.as_ref().map(|known| layout::write_secrets(&known.check_secrets)).unwrap_or_default())
            .arg(u8::from(known.is_some_and(|known| known.accept_unchecked_keys)))
            .arg(layout::write_secrets(&new.check_secrets));
        for _ in Shard::all() {
            script.arg(scripts::nonce()?);
        }
        let accepted: bool = script.invoke_async(&mut line.connection()).await.or_failed(line)?;
        if accepted {
            tracing::warn!(
                found = found.unwrap_or("none"),
                store_id = ours,
                "the store was accepted as the fleet's"
            );
            self.standing().ours.get_or_insert(ours);
        }
        match self.survey(line).await?.mismatch {
            Some(mismatch) => Err(StoreError::NotOurs(mismatch)),
            None => Ok(()),
        }
    }

    /// Founds the fleet, unless there is anything by now.
    pub(super) async fn found_fleet(&self, line: &Line) -> Result<(), StoreError> {
        let new = FleetSettings::random()?;
        let mut script = self.found.prepare_invoke();
        script.key(FLEET_KEY).key(of_all_shards(layout::head_key));
        script
            .arg(&new.store_id)
            .arg(layout::write_secrets(&new.check_secrets))
            .arg(u8::from(new.accept_unchecked_keys));
        for _ in Shard::all() {
            script.arg(scripts::nonce()?);
        }
        let founded: bool = script.invoke_async(&mut line.connection()).await.or_failed(line)?;
        if founded {
            tracing::info!(store_id = new.store_id, "the store was empty: a new fleet was founded in it");
        }
        Ok(())
    }

    /// Remembers what the survey says; what is wrong, if anything is.
    fn settle(&self, survey: &Survey) -> Option<Mismatch> {
        let mut standing = self.standing();
        let mismatch = survey.judge(standing.ours.as_deref());
        if mismatch.is_none() {
            if standing.ours.is_none() {
                standing.ours = survey.whole().map(str::to_owned);
            }
            // Settings that cannot be read are the trouble of whoever asks for them.
            if let Ok(Some(settings)) = layout::read_fleet(survey.fleet.clone()) {
                standing.settings = Some(settings);
            }
        }
        if standing.mismatch != mismatch {
            match &mismatch {
                Some(mismatch) => {
                    tracing::error!(%mismatch, "what is found at the store's address is not used")
                }
                None => tracing::info!("what is found at the store's address is the fleet's store again"),
            }
            standing.mismatch.clone_from(&mismatch);
        }
        mismatch
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Survey {
    /// Not one transaction: on a Cluster the shards will be read where each of them is.
    async fn read(line: &Line) -> Result<Survey, StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("INFO").arg("memory").cmd("INFO").arg("replication").cmd("DBSIZE");
        pipe.cmd("HMGET").arg(FLEET_KEY);
        pipe.arg(&[layout::STORE_ID, layout::CHECK_SECRETS, layout::ACCEPT_UNCHECKED_KEYS]);
        for shard in Shard::all() {
            pipe.cmd("HMGET").arg(layout::head_key(shard));
            pipe.arg(&[layout::STORE_ID, layout::SEQ, layout::NONCE]);
        }
        let mut answers: Vec<Value> = pipe.query_async(&mut line.connection()).await.or_failed(line)?;
        let heads = answers.split_off(answers.len().min(5));
        let read = || -> RedisResult<Survey> {
            type Common = ((i64, i64), String, String, u64, FleetFields);
            let (time, memory, replication, entries, fleet): Common =
                redis::from_redis_value(Value::Array(answers))?;
            let heads = redis::from_redis_value(Value::Array(heads))?;
            let (seconds, micros) = time;
            Ok(Survey {
                time: Timestamp::from_millis(seconds.saturating_mul(1_000).saturating_add(micros / 1_000)),
                policy: info(&memory, "maxmemory_policy").unwrap_or("unknown").to_owned(),
                is_primary: info(&replication, "role") == Some("master"),
                entries,
                fleet,
                heads,
                mismatch: None,
            })
        };
        read().or_failed(line)
    }

    /// What is wrong with it for a fleet whose store is `ours`, or that has none yet.
    fn judge(&self, ours: Option<&str>) -> Option<Mismatch> {
        if !self.is_primary {
            return Some(Mismatch::Replica);
        }
        if self.policy != "noeviction" {
            return Some(Mismatch::Evicting { policy: self.policy.clone() });
        }
        match (self.whole(), ours) {
            (Some(found), Some(ours)) if ours != found => {
                Some(Mismatch::Foreign { found: found.to_owned(), ours: ours.to_owned() })
            }
            (Some(_), _) => None,
            (None, _) if self.entries == 0 => Some(Mismatch::Empty),
            (None, _) => Some(Mismatch::Nameless),
        }
    }

    /// The ends of all logs; fails if the store is not ours.
    pub(super) fn heads(self) -> Result<Heads, StoreError> {
        if let Some(mismatch) = self.mismatch {
            return Err(StoreError::NotOurs(mismatch));
        }
        let read =
            |(_, seq, nonce): HeadFields| scripts::read_head((seq.unwrap_or(0), nonce.unwrap_or_default()));
        let heads = self.heads.into_iter().map(read).collect::<Result<Vec<Head>, _>>()?;
        let heads: [Head; SHARDS] =
            heads.try_into().map_err(|_| StoreError::Corrupt("the heads of the logs".to_owned()))?;
        Ok(Heads { time: self.time, heads })
    }

    /// The identity that is there, be it in part.
    fn found(&self) -> Option<&str> {
        let in_heads = || self.heads.iter().find_map(|(store_id, ..)| store_id.as_deref());
        self.fleet.0.as_deref().or_else(in_heads)
    }

    /// The identity that is there, if all parts of it are and agree.
    fn whole(&self) -> Option<&str> {
        let (Some(store_id), Some(_), Some(_)) = &self.fleet else { return None };
        let is_whole = |(of_shard, seq, nonce): &HeadFields| {
            of_shard.as_ref() == Some(store_id) && seq.is_some() && nonce.is_some()
        };
        (self.heads.len() == SHARDS && self.heads.iter().all(is_whole)).then_some(store_id)
    }
}

fn of_all_shards(key: fn(Shard) -> String) -> Vec<String> {
    Shard::all().map(key).collect()
}

/// The value of a field in the answer to INFO.
pub(super) fn info<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
}

#[derive(Debug, thiserror::Error)]
#[error("it is not known yet whose store it is")]
struct NotSurveyed;
