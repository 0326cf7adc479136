//! People: who they are, what they may do, and whose keys they see.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Timestamp, hex};

const ID_PREFIX: &str = "usr_";
const ID_DIGITS: usize = 20;
const MAX_ACCOUNT: usize = 254;
const MAX_TEAM: usize = 64;

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What others call this user in addresses and logs. Never changes.
    pub id: UserId,
    /// What is typed to log in. Unique.
    pub account: Account,
    /// What others see.
    pub display_name: String,
    /// What this user may do.
    pub role: Role,
    /// Whose keys this user sees; `None`, for an admin alone, is all of them.
    pub team: Option<Team>,
    /// Whether log-in is refused.
    pub disabled: bool,
    /// When the user was added.
    pub created_at: Timestamp,
}

impl User {
    /// Whether this user manages everybody.
    pub fn is_fleet_admin(&self) -> bool {
        self.role == Role::Admin && self.team.is_none()
    }
}

/// What somebody may do. Each may do what those below may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See keys.
    Viewer,
    /// Create, change, rotate and revoke keys.
    Editor,
    /// Manage users.
    Admin,
}

impl Role {
    /// As it is written: `viewer`, `editor` or `admin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Editor => "editor",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a role: allowed are viewer, editor and admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        [Role::Viewer, Role::Editor, Role::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

/// `usr_` and 20 random hex characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId([u8; ID_DIGITS]);

/// The text is not a user's id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a user's id: expected `usr_` and 20 lowercase hex characters")]
pub struct MalformedUserId;

impl UserId {
    /// An id from 10 random bytes.
    pub fn new(random: [u8; 10]) -> UserId {
        let mut digits = [0; ID_DIGITS];
        digits.copy_from_slice(random.map(hex::pair).as_flattened());
        UserId(digits)
    }
}

impl FromStr for UserId {
    type Err = MalformedUserId;

    fn from_str(text: &str) -> Result<UserId, MalformedUserId> {
        let digits = text.strip_prefix(ID_PREFIX).ok_or(MalformedUserId)?.as_bytes();
        let digits: [u8; ID_DIGITS] = digits.try_into().map_err(|_| MalformedUserId)?;
        if digits.iter().all(|digit| hex::DIGITS.contains(digit)) {
            Ok(UserId(digits))
        } else {
            Err(MalformedUserId)
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ID_PREFIX)?;
        f.write_str(std::str::from_utf8(&self.0).expect("every constructor puts ASCII here"))
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
        parsed(deserializer)
    }
}

/// An e-mail address or a name to log in with, in lower case: two that differ in case alone are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Account(String);

/// The text cannot be an account.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "not an account: expected an e-mail address or a name, 1 to 254 of a-z, 0-9, `.`, `_`, `-`, `+` and `@`"
)]
pub struct MalformedAccount;

impl FromStr for Account {
    type Err = MalformedAccount;

    fn from_str(text: &str) -> Result<Account, MalformedAccount> {
        let account = text.trim().to_ascii_lowercase();
        // ASCII alone, so that no two accounts look alike.
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'@');
        if (1..=MAX_ACCOUNT).contains(&account.len()) && account.bytes().all(allowed) {
            Ok(Account(account))
        } else {
            Err(MalformedAccount)
        }
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Account, D::Error> {
        parsed(deserializer)
    }
}

/// Whose keys, and who sees them: 1 to 64 of `A-Z a-z 0-9 _ . -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Team(String);

/// The text cannot be a team's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a team: expected 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`")]
pub struct MalformedTeam;

impl FromStr for Team {
    type Err = MalformedTeam;

    fn from_str(text: &str) -> Result<Team, MalformedTeam> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=MAX_TEAM).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Team(text.to_owned()))
        } else {
            Err(MalformedTeam)
        }
    }
}

impl<'de> Deserialize<'de> for Team {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Team, D::Error> {
        parsed(deserializer)
    }
}

macro_rules! is_text {
    ($($name:ident)*) => { $(
        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}
is_text!(Account Team);

fn parsed<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_one_however_it_is_typed() {
        let account: Account = "  Ada@Example.COM ".parse().unwrap();
        assert_eq!(&*account, "ada@example.com");
        for wrong in ["", " ", "a b", "ada\u{0430}", "a\nb", &"a".repeat(255), "<b>"] {
            assert_eq!(wrong.parse::<Account>(), Err(MalformedAccount), "{wrong}");
        }
    }

    #[test]
    fn a_role_may_what_those_below_may() {
        assert!(Role::Viewer < Role::Editor && Role::Editor < Role::Admin);
        assert_eq!("admin".parse(), Ok(Role::Admin));
        assert_eq!("Admin".parse::<Role>(), Err(UnknownRole));
    }

    #[test]
    fn an_id_comes_back_from_its_text() {
        let id = UserId::new([0xa5; 10]);
        assert_eq!(id.to_string(), "usr_a5a5a5a5a5a5a5a5a5a5");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "usr_", "usr_A5a5a5a5a5a5a5a5a5a5", "key_a5a5a5a5a5a5a5a5a5a5"] {
            assert_eq!(wrong.parse::<UserId>(), Err(MalformedUserId), "{wrong}");
        }
    }
}
