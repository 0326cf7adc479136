//! People in Redis.
//!
//! All of it is in the slot of the fleet's settings, so that each script sees in the same step whose store it is. There
//! are few people, and they are read far less often than keys.

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};
use serde::{Deserialize, Serialize};

use super::layout::FLEET_KEY;
use super::{RedisStore, lua};
use crate::model::{Account, Timestamp, TokenHash, UserId};
use crate::store::StoreError;
use crate::store::people::{Link, PeopleStore, Purpose, Replacement, Session, StoredUser};

/// Hash: each user as JSON, by id.
const USERS_KEY: &str = "keygate:{keygate:fleet}:users";
/// Hash: ids by account.
const ACCOUNTS_KEY: &str = "keygate:{keygate:fleet}:accounts";

/// Hash, for as long as it lasts: a session, by the hash of its id.
fn session_key(hash: &TokenHash) -> String {
    format!("keygate:{{keygate:fleet}}:session:{}", hash.to_hex())
}

/// String, for as long as it lasts: a link as JSON, by the hash of its secret.
fn link_key(hash: &TokenHash) -> String {
    format!("keygate:{{keygate:fleet}}:link:{}", hash.to_hex())
}

/// KEYS from 2: users, accounts. ARGV from 2: id, account, user.
const ADD: &str = r#"
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 or redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[2])
return 1
"#;

/// For the two that follow. KEYS from 2: users. ARGV from 2: id, whether an admin must be left.
const ADMINS: &str = r#"
local function is_admin(user)
  return user.role == 'admin' and (user.team == nil or user.team == cjson.null) and not user.disabled
end
local function others_administer()
  local users = redis.call('HGETALL', KEYS[2])
  for field = 1, #users, 2 do
    if users[field] ~= ARGV[2] and is_admin(cjson.decode(users[field + 1])) then return true end
  end
  return false
end
local found = redis.call('HGET', KEYS[2], ARGV[2])
if not found then return 'unknown' end
local old = cjson.decode(found)
"#;

/// ARGV from 4: user.
const REPLACE: &str = r#"
local new = cjson.decode(ARGV[4])
if old.revision + 1 ~= new.revision then return 'outdated' end
if ARGV[3] == '1' and is_admin(old) and not is_admin(new) and not others_administer() then return 'last admin' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return 'done'
"#;

/// KEYS from 3: accounts.
const REMOVE: &str = r#"
if ARGV[3] == '1' and is_admin(old) and not others_administer() then return 'last admin' end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], old.account)
return 'done'
"#;

/// KEYS from 2: users. ARGV from 2: id.
const USER: &str = "return redis.call('HGET', KEYS[2], ARGV[2])";

/// KEYS from 2: users, accounts. ARGV from 2: account.
const USER_OF: &str = r#"
local id = redis.call('HGET', KEYS[3], ARGV[2])
return id and redis.call('HGET', KEYS[2], id)
"#;

/// KEYS from 2: users.
const USERS: &str = "return redis.call('HVALS', KEYS[2])";

/// KEYS from 2: session. ARGV from 2: life in milliseconds, then fields.
const OPEN_SESSION: &str = r#"
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"#;

/// KEYS from 2: users, session.
const SESSION: &str = r#"
local session = redis.call('HMGET', KEYS[3], 'user', 'epoch', 'created_at', 'seen_at')
local user = session[1] and redis.call('HGET', KEYS[2], session[1])
return {user, session[2], session[3], session[4]}
"#;

/// KEYS from 2: session. ARGV from 2: life in milliseconds, seen_at.
const TOUCH_SESSION: &str = r#"
local seen_at = redis.call('HGET', KEYS[2], 'seen_at')
if not seen_at or tonumber(seen_at) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[2], 'seen_at', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"#;

/// KEYS from 2: what shall go.
const FORGET: &str = "return redis.call('DEL', KEYS[2])";

/// KEYS from 2: link. ARGV from 2: link, its end in milliseconds.
const ADD_LINK: &str = "redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[3]) return 1";

/// KEYS from 2: users, link.
const LINK: &str = r#"
local link = redis.call('GET', KEYS[3])
local user = link and redis.call('HGET', KEYS[2], cjson.decode(link).user)
return {user, link}
"#;

/// The scripts, hashed once.
pub(super) struct PeopleScripts {
    add: Script,
    replace: Script,
    remove: Script,
    user: Script,
    user_of: Script,
    users: Script,
    open_session: Script,
    session: Script,
    touch_session: Script,
    forget: Script,
    add_link: Script,
    link: Script,
}

impl PeopleScripts {
    pub(super) fn new() -> PeopleScripts {
        let script = |parts: &[&str]| Script::new(&[&[lua::OURS], parts].concat().concat());
        PeopleScripts {
            add: script(&[ADD]),
            replace: script(&[ADMINS, REPLACE]),
            remove: script(&[ADMINS, REMOVE]),
            user: script(&[USER]),
            user_of: script(&[USER_OF]),
            users: script(&[USERS]),
            open_session: script(&[OPEN_SESSION]),
            session: script(&[SESSION]),
            touch_session: script(&[TOUCH_SESSION]),
            forget: script(&[FORGET]),
            add_link: script(&[ADD_LINK]),
            link: script(&[LINK]),
        }
    }
}

/// A link as it stands in Redis, where its hash is its name.
#[derive(Serialize, Deserialize)]
struct LinkForm {
    user: UserId,
    epoch: u64,
    purpose: Purpose,
    expires_at: Timestamp,
}

impl RedisStore {
    /// Runs a script that looks first whether the store is ours, and needs the fleet's slot alone.
    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, StoreError> {
        let ours = self.ours()?;
        let mut script = script.prepare_invoke();
        script.key(FLEET_KEY).arg(&ours.store_id);
        fill(&mut script);
        ours.hear(script.invoke_async(&mut ours.line.connection()).await).await
    }
}

#[async_trait]
impl PeopleStore for RedisStore {
    async fn add_user(&self, user: &StoredUser) -> Result<bool, StoreError> {
        let json = write(user)?;
        self.run(&self.people.add, |script| {
            script.key(USERS_KEY).key(ACCOUNTS_KEY);
            script.arg(user.user.id.to_string()).arg(&*user.user.account).arg(json);
        })
        .await
    }

    async fn user(&self, id: &UserId) -> Result<Option<StoredUser>, StoreError> {
        let found: Option<Vec<u8>> = self
            .run(&self.people.user, |script| {
                script.key(USERS_KEY).arg(id.to_string());
            })
            .await?;
        found.as_deref().map(read).transpose()
    }

    async fn user_of(&self, account: &Account) -> Result<Option<StoredUser>, StoreError> {
        let found: Option<Vec<u8>> = self
            .run(&self.people.user_of, |script| {
                script.key(USERS_KEY).key(ACCOUNTS_KEY).arg(&**account);
            })
            .await?;
        found.as_deref().map(read).transpose()
    }

    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        let found: Vec<Vec<u8>> = self
            .run(&self.people.users, |script| {
                script.key(USERS_KEY);
            })
            .await?;
        let mut users: Vec<StoredUser> = found.iter().map(|json| read(json)).collect::<Result<_, _>>()?;
        users.sort_by(|left, right| left.user.account.cmp(&right.user.account));
        Ok(users)
    }

    async fn replace_user(&self, user: &StoredUser, keep_an_admin: bool) -> Result<Replacement, StoreError> {
        let json = write(user)?;
        let answer: String = self
            .run(&self.people.replace, |script| {
                script.key(USERS_KEY).arg(user.user.id.to_string()).arg(u8::from(keep_an_admin)).arg(json);
            })
            .await?;
        replacement(&answer)
    }

    async fn remove_user(&self, id: &UserId, keep_an_admin: bool) -> Result<Replacement, StoreError> {
        let answer: String = self
            .run(&self.people.remove, |script| {
                script.key(USERS_KEY).key(ACCOUNTS_KEY).arg(id.to_string()).arg(u8::from(keep_an_admin));
            })
            .await?;
        replacement(&answer)
    }

    async fn open_session(&self, session: &Session, forget_at: Timestamp) -> Result<(), StoreError> {
        self.run(&self.people.open_session, |script| {
            script.key(session_key(&session.hash)).arg(life(session.seen_at, forget_at));
            script.arg("user").arg(session.user.to_string()).arg("epoch").arg(session.epoch);
            script.arg("created_at").arg(session.created_at.as_millis());
            script.arg("seen_at").arg(session.seen_at.as_millis());
        })
        .await
    }

    async fn session(&self, hash: &TokenHash) -> Result<Option<(Session, StoredUser)>, StoreError> {
        let found: (Option<Vec<u8>>, Option<u64>, Option<i64>, Option<i64>) = self
            .run(&self.people.session, |script| {
                script.key(USERS_KEY).key(session_key(hash));
            })
            .await?;
        let (Some(user), Some(epoch), Some(created_at), Some(seen_at)) = found else { return Ok(None) };
        let user: StoredUser = read(&user)?;
        let session = Session {
            hash: *hash,
            user: user.user.id,
            epoch,
            created_at: Timestamp::from_millis(created_at),
            seen_at: Timestamp::from_millis(seen_at),
        };
        Ok(is_current(&user, epoch).then_some((session, user)))
    }

    async fn touch_session(
        &self,
        hash: &TokenHash,
        seen_at: Timestamp,
        forget_at: Timestamp,
    ) -> Result<(), StoreError> {
        let touched: Result<bool, StoreError> = self
            .run(&self.people.touch_session, |script| {
                script.key(session_key(hash)).arg(life(seen_at, forget_at)).arg(seen_at.as_millis());
            })
            .await;
        touched.map(drop)
    }

    async fn end_session(&self, hash: &TokenHash) -> Result<(), StoreError> {
        self.forget(session_key(hash)).await.map(drop)
    }

    /// Redis forgets by itself.
    async fn forget_expired(&self, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn add_link(&self, link: &Link) -> Result<(), StoreError> {
        let Link { hash, user, epoch, purpose, expires_at } = link.clone();
        let json = write(&LinkForm { user, epoch, purpose, expires_at })?;
        self.run(&self.people.add_link, |script| {
            script.key(link_key(&hash)).arg(json).arg(expires_at.as_millis());
        })
        .await
    }

    async fn link(&self, hash: &TokenHash) -> Result<Option<(Link, StoredUser)>, StoreError> {
        let found: (Option<Vec<u8>>, Option<Vec<u8>>) = self
            .run(&self.people.link, |script| {
                script.key(USERS_KEY).key(link_key(hash));
            })
            .await?;
        let (Some(stored), Some(link)) = found else { return Ok(None) };
        let stored: StoredUser = read(&stored)?;
        let LinkForm { user, epoch, purpose, expires_at } = read(&link)?;
        let link = Link { hash: *hash, user, epoch, purpose, expires_at };
        Ok(is_current(&stored, epoch).then_some((link, stored)))
    }

    async fn take_link(&self, hash: &TokenHash) -> Result<bool, StoreError> {
        self.forget(link_key(hash)).await
    }
}

impl RedisStore {
    /// Whether it was there.
    async fn forget(&self, key: String) -> Result<bool, StoreError> {
        self.run(&self.people.forget, |script| {
            script.key(key);
        })
        .await
    }
}

fn is_current(user: &StoredUser, epoch: u64) -> bool {
    user.epoch == epoch && !user.user.disabled
}

/// For Redis, which expires nothing in 0 ms.
fn life(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX).max(1)
}

fn replacement(answer: &str) -> Result<Replacement, StoreError> {
    match answer {
        "done" => Ok(Replacement::Done),
        "unknown" => Ok(Replacement::Unknown),
        "outdated" => Ok(Replacement::Outdated),
        "last admin" => Ok(Replacement::LastAdmin),
        _ => Err(StoreError::Corrupt("what became of a user".to_owned())),
    }
}

fn write(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::unavailable)
}

/// The error does not carry the text: there may be a password's hash in it.
fn read<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|_| StoreError::Corrupt("a user or a link".to_owned()))
}
