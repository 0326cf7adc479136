//! A key as people see it: a row of a list, or a card of its own.

use std::fmt::Write as _;

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::Value;

use crate::model::{Environment, KeyId, Timestamp};

use super::failure::Failure;
use super::table::{Table, date, printable, time};

/// A key as the admin API shows it; more members may come, and an older one has fewer.
#[derive(Debug, Deserialize)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) label: String,
    pub(super) team: String,
    pub(super) environment: Environment,
    pub(super) display: String,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) revoked_at: Option<Timestamp>,
    pub(super) retires_at: Option<Timestamp>,
    pub(super) replaced_by: Option<KeyId>,
    pub(super) replaces: Option<KeyId>,
    pub(super) last_used_at: Option<Timestamp>,
    pub(super) status: String,
    #[serde(default)]
    pub(super) uses: u64,
    #[serde(default)]
    pub(super) uses_in_grace: u64,
    #[serde(default)]
    pub(super) refusals: u64,
    pub(super) last_refused_at: Option<Timestamp>,
}

impl Key {
    pub(super) fn read(key: &Value) -> Result<Key, Failure> {
        Key::deserialize(key).map_err(|error| not_understood(&error.to_string()))
    }

    /// Whether it was rotated and its grace has not ended. The gateway says so: its clock decides, not ours.
    pub(super) fn is_rotating(&self) -> bool {
        self.status == "rotating"
    }
}

pub(super) fn not_understood(why: &str) -> Failure {
    Failure::other(anyhow!("the admin API's answer is not understood: {why}; is it of another version?"))
}

pub(super) fn table(keys: &[Value], now: Timestamp) -> Result<String, Failure> {
    if keys.is_empty() {
        return Ok("No keys.\n".to_owned());
    }
    let mut table = Table::new([
        "ID",
        "LABEL",
        "ENVIRONMENT",
        "TEAM",
        "KEY",
        "STATUS",
        "CREATED",
        "LAST USED",
        "EXPIRES",
    ]);
    for key in keys {
        let key = Key::read(key)?;
        table.row([
            key.id.to_string(),
            printable(&key.label),
            key.environment.to_string(),
            printable(&key.team),
            printable(&key.display),
            printable(&key.status),
            date(key.created_at, now),
            key.last_used_at.map_or_else(|| "never".to_owned(), |used| date(used, now)),
            key.expires_at.map_or_else(|| "never".to_owned(), |expiry| date(expiry, now)),
        ]);
    }
    Ok(table.to_string())
}

pub(super) fn card(key: &Key, now: Timestamp) -> String {
    let moment =
        |moment: Option<Timestamp>| moment.map_or_else(|| "never".to_owned(), |moment| time(moment, now));
    let mut lines = vec![
        ("id", key.id.to_string()),
        ("label", printable(&key.label)),
        ("environment", key.environment.to_string()),
        ("team", printable(&key.team)),
        ("key", printable(&key.display)),
        ("status", printable(&key.status)),
        ("created", time(key.created_at, now)),
        ("expires", moment(key.expires_at)),
        ("last used", moment(key.last_used_at)),
        ("uses", key.uses.to_string()),
    ];
    if let Some(old) = key.replaces {
        lines.push(("replaces", old.to_string()));
    }
    if let Some(end) = key.retires_at {
        lines.push((
            "replaced by",
            key.replaced_by.map_or_else(|| "unknown".to_owned(), |new| new.to_string()),
        ));
        let ends = if key.is_rotating() { "ends" } else { "ended" };
        lines.push((ends, time(end, now)));
        lines.push(("in grace", format!("{} uses", key.uses_in_grace)));
    }
    if key.revoked_at.is_some() {
        lines.push(("revoked", moment(key.revoked_at)));
    }
    if key.refusals > 0 {
        let last = moment(key.last_refused_at);
        let times = if key.refusals == 1 { "time" } else { "times" };
        lines.push(("after death", format!("tried {} {times}, last {last}", key.refusals)));
    }
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<13}{value}");
        text
    })
}
