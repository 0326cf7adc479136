//! Floor 0, the vocabulary: what every other room talks about.
//!
//! Nothing here knows tokio, hyper or redis. A *key* is the plaintext that a client presents; after the door
//! only its *hash* exists. A *record* is what the store knows of a key, a *denial* why a request is refused,
//! an *event* what changed.

mod chain;
mod denial;
mod event;
pub(crate) mod hex;
mod id;
mod member;
mod record;
mod secret;
mod text;
mod timestamp;
mod token;
mod user;

pub use chain::{Gap, Head, Heads, LogEntry, MalformedHead, Message, Nonce};
pub use denial::Denial;
pub use event::{Event, EventKind, MalformedEvent};
pub use id::{KeyId, MalformedKeyId, SHARDS, Shard};
pub use member::{GatewayId, MalformedGatewayId, Member};
pub use record::{Environment, KeyRecord, KeyStatus, UnknownEnvironment};
pub use secret::{
    ApiKey, CheckSecret, KeyFormat, KeyHash, KeyRandom, MalformedHash, MalformedKey, PrefixError,
};
pub use text::is_invisible;
pub use timestamp::{MalformedTimestamp, Timestamp};
pub use token::{CsrfToken, SecretToken, TokenHash};
pub use user::{
    Account, MalformedAccount, MalformedTeam, MalformedUserId, Role, Team, UnknownRole, User, UserId,
};
