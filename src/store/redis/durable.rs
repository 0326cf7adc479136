//! Whether what was written outlasts a crash of Redis.
//!
//! `WAIT` and `WAITAOF` hold up whatever else is sent on their connection: they have connections of their own.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use tokio::time::timeout;

use super::link::{Line, Link};
use super::scripts::Scripts;
use super::{Answer, RedisSettings};
use crate::model::Shard;
use crate::store::{Durability, StoreError};

/// Connections that are kept for the next time.
const IDLE: usize = 4;

/// Redis notices up to a tenth of a second late that a wait is over.
const LATE: Duration = Duration::from_millis(250);

/// What is waited for, and the connections to wait on.
pub(super) struct Durable {
    wait_replicas: u32,
    wait_fsync: bool,
    connect_timeout: Duration,
    idle: Mutex<Vec<MultiplexedConnection>>,
}

impl Durable {
    pub(super) fn new(settings: &RedisSettings) -> Durable {
        Durable {
            wait_replicas: settings.wait_replicas,
            wait_fsync: settings.wait_fsync,
            connect_timeout: settings.connect_timeout,
            idle: Mutex::default(),
        }
    }

    /// Waits at most `within`, if there is something to wait for.
    pub(super) async fn confirm(
        &self,
        link: &Link,
        scripts: &Scripts,
        ours: &str,
        shard: Shard,
        within: Duration,
    ) -> Result<Durability, StoreError> {
        if !self.wait_fsync && self.wait_replicas == 0 {
            return settings_of(&*link.line()?).await;
        }
        let confirm = async {
            let mut connection = self.connection(link).await.map_err(StoreError::unavailable)?;
            // What replicas and disk are asked for is the last write of this connection; all before it come with it.
            let write = scripts.write_something(ours, shard)?;
            write.invoke_async::<()>(&mut connection).await.map_err(StoreError::unavailable)?;
            // Redis' own deadline comes first, so that its answer is heard. 0 would be for ever.
            let patience = within - LATE.min(within / 2);
            let patience = patience.as_millis().clamp(1, 1 << 31) as u64;
            let verdict = match self.wait_fsync {
                true => self.wait_for_disks(&mut connection, patience).await?,
                false => self.wait_for_replicas(&mut connection, patience).await?,
            };
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push(connection);
            }
            Ok(verdict)
        };
        timeout(within, confirm).await.unwrap_or_else(|_| {
            Ok(not_confirmed(format!("Redis did not answer within {} ms", within.as_millis())))
        })
    }

    async fn wait_for_replicas(
        &self,
        connection: &mut MultiplexedConnection,
        patience: u64,
    ) -> Result<Durability, StoreError> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.wait_replicas).arg(patience);
        let have: u64 = wait.query_async(connection).await.map_err(StoreError::unavailable)?;
        Ok(enough_replicas(have, self.wait_replicas))
    }

    async fn wait_for_disks(
        &self,
        connection: &mut MultiplexedConnection,
        patience: u64,
    ) -> Result<Durability, StoreError> {
        let mut wait = redis::cmd("WAITAOF");
        wait.arg(1).arg(self.wait_replicas).arg(patience);
        let answer: RedisResult<(u64, u64)> = wait.query_async(connection).await;
        match answer {
            Ok((0, _)) => Ok(not_confirmed("Redis has not synced it to its disk in time")),
            Ok((_, replicas)) => Ok(enough_replicas(replicas, self.wait_replicas)),
            Err(error) if is_unknown_command(&error) => Ok(not_confirmed(
                "this Redis has no WAITAOF, which came with Redis 7.2: upgrade it, or set revocation.wait_fsync to false \
                 and appendfsync to always",
            )),
            Err(error) if error.is_io_error() => Err(StoreError::unavailable(error)),
            Err(error) => Ok(not_confirmed(format!("Redis refuses WAITAOF: {error}"))),
        }
    }

    async fn connection(&self, link: &Link) -> RedisResult<MultiplexedConnection> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = idle else { break };
            // It may have died since, or lead to where the store no longer is.
            let answer: RedisResult<()> = redis::cmd("PING").query_async(&mut connection).await;
            if answer.is_ok() {
                return Ok(connection);
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            // The caller's deadline is the only one.
            .set_response_timeout(None);
        link.client().get_multiplexed_async_connection_with_config(&config).await
    }
}

fn enough_replicas(have: u64, want: u32) -> Durability {
    match have >= u64::from(want) {
        true => Durability::Durable,
        false => not_confirmed(format!("only {have} of the {want} replicas asked for have it")),
    }
}

/// What the settings of Redis alone promise.
async fn settings_of(line: &Line) -> Result<Durability, StoreError> {
    let mut pipe = redis::pipe();
    pipe.cmd("CONFIG").arg(&["GET", "appendonly"]).cmd("CONFIG").arg(&["GET", "appendfsync"]);
    let answer: RedisResult<(Vec<String>, Vec<String>)> = pipe.query_async(&mut line.connection()).await;
    let (appendonly, appendfsync) = match answer {
        Err(error) if !error.is_io_error() && !error.is_timeout() => {
            return Ok(not_confirmed(format!(
                "this Redis does not tell its settings ({error}): allow CONFIG GET, or set revocation.wait_replicas or \
                 revocation.wait_fsync"
            )));
        }
        answer => answer.or_failed(line)?,
    };
    let value = |pair: &[String]| pair.get(1).cloned().unwrap_or_default();
    let (appendonly, appendfsync) = (value(&appendonly), value(&appendfsync));
    Ok(if appendonly != "yes" {
        not_confirmed("Redis keeps no log of its commands: set appendonly to yes and appendfsync to always")
    } else if appendfsync != "always" {
        not_confirmed(format!(
            "Redis syncs its log later (appendfsync {appendfsync}): set appendfsync to always, or \
             revocation.wait_replicas or revocation.wait_fsync"
        ))
    } else {
        Durability::Durable
    })
}

fn is_unknown_command(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("unknown command"))
        || error.to_string().contains("unknown command")
}

pub(super) fn not_confirmed(reason: impl Into<Cow<'static, str>>) -> Durability {
    Durability::NotConfirmed(reason.into())
}
