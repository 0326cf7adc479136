//! What the pages are made of: times, badges, a key as people see it, and the frame around all pages.

use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::model::{Environment, KeyId, KeyStatus, Timestamp};
use crate::store::{Mark, StoredKey};

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// A moment: in words or as a day, the exact one on hover. A script puts the hover into the reader's time zone.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<time datetime="{{ iso }}" title="{{ exact }}"{% if relative %} data-relative{% endif %}>{{ text }}</time>"#
)]
pub(super) struct Time {
    iso: String,
    exact: String,
    text: String,
    relative: bool,
}

impl HtmlSafe for Time {}

impl Time {
    /// As `3 days ago`, or `in 2 hours`.
    pub(super) fn relative(at: Timestamp, now: Timestamp) -> Time {
        Time { text: relative(at, now), relative: true, ..Time::day(at) }
    }

    /// As `24 Nov 2025`, in UTC.
    pub(super) fn day(at: Timestamp) -> Time {
        Time { iso: at.to_string(), exact: exact(at), text: day(at), relative: false }
    }

    /// With date and time of day, in UTC.
    pub(super) fn exact(at: Timestamp) -> Time {
        let time = Time::day(at);
        Time { text: time.exact.clone(), ..time }
    }
}

/// As `24 November 2025, 16:00:00 UTC`.
pub(super) fn exact(at: Timestamp) -> String {
    spelled(at, "%-d %B %Y, %H:%M:%S UTC")
}

/// As `24 Nov 2025`, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    spelled(at, "%-d %b %Y")
}

/// As `2025-11-24`, in UTC: what a date field takes.
pub(super) fn date(at: Timestamp) -> String {
    spelled(at, "%Y-%m-%d")
}

fn spelled(at: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => "out of range".to_owned(),
    }
}

/// In words, from the largest unit that fits and without rounding up.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let ahead = at > now;
    match in_words(if ahead { at.since(now) } else { now.since(at) }) {
        None if ahead => "in less than a minute".to_owned(),
        None => "just now".to_owned(),
        Some(words) if ahead => format!("in {words}"),
        Some(words) => format!("{words} ago"),
    }
}

/// How long ago, in words; seconds are told.
pub(super) fn ago(long: Duration) -> String {
    match in_words(long) {
        Some(words) => format!("{words} ago"),
        None if long.as_secs() < 2 => "just now".to_owned(),
        None => format!("{} ago", count(long.as_secs(), "second")),
    }
}

fn in_words(long: Duration) -> Option<String> {
    let units = [
        ("year", 365 * DAY_S),
        ("month", 30 * DAY_S),
        ("day", DAY_S),
        ("hour", HOUR_S),
        ("minute", MINUTE_S),
    ];
    let (unit, length) = units.into_iter().find(|(_, length)| long.as_secs() >= *length)?;
    Some(count(long.as_secs() / length, unit))
}

/// How far behind the uses of keys are that pages tell, with the interval in which they are written.
pub(super) fn behind(flush_interval: Duration) -> String {
    format!("usually at most {} behind", count(flush_interval.as_secs().max(1), "second"))
}

/// As `1 key` or `1,234 keys`.
pub(super) fn count(number: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// With a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What is wrong with a member, for people: `label` is the Label.
pub(super) fn sentence(detail: &str) -> String {
    let mut text = detail.trim_end_matches('.').replace('`', "");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text + "."
}

/// Live or Sandbox.
#[derive(Clone, Copy, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<span class="badge env-{{ environment.as_str() }}">{{ self.name() }}</span>"#
)]
pub(super) struct EnvironmentBadge {
    environment: Environment,
}

impl HtmlSafe for EnvironmentBadge {}

impl EnvironmentBadge {
    fn name(self) -> &'static str {
        match self.environment {
            Environment::Live => "Live",
            Environment::Sandbox => "Sandbox",
        }
    }
}

/// What a key is worth, as people see it: an active key whose end is near is expiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Template)]
#[template(ext = "html", source = r#"<span class="status status-{{ self.css() }}">{{ self.name() }}</span>"#)]
pub(super) enum Standing {
    Active,
    Expiring,
    Rotating,
    Expired,
    Revoked,
}

impl HtmlSafe for Standing {}

impl Standing {
    pub(super) fn of(key: &StoredKey, now: Timestamp) -> Standing {
        match key.record.status(now) {
            KeyStatus::Active if Mark::Expiring.is_on(key, now) => Standing::Expiring,
            KeyStatus::Active => Standing::Active,
            KeyStatus::Rotating => Standing::Rotating,
            KeyStatus::Expired => Standing::Expired,
            KeyStatus::Revoked => Standing::Revoked,
        }
    }

    /// Whether a request with the key is permitted.
    pub(super) fn lives(self) -> bool {
        matches!(self, Standing::Active | Standing::Expiring | Standing::Rotating)
    }

    fn css(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Expiring => "expiring",
            Standing::Rotating => "rotating",
            Standing::Expired => "expired",
            Standing::Revoked => "revoked",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Standing::Active => "Active",
            Standing::Expiring => "Expiring",
            Standing::Rotating => "Rotating",
            Standing::Expired => "Expired",
            Standing::Revoked => "Revoked",
        }
    }
}

/// A key, as its row in the list and its own page show it.
#[derive(Clone, Debug)]
pub(super) struct KeyFace {
    pub(super) id: KeyId,
    pub(super) label: String,
    pub(super) display: String,
    pub(super) team: String,
    pub(super) environment: EnvironmentBadge,
    pub(super) created: Time,
    pub(super) used: Option<Time>,
    pub(super) standing: Standing,
    pub(super) lives: bool,
    pub(super) rotatable: bool,
    pub(super) expires: Option<Time>,
    /// The end of its grace, if it was rotated.
    pub(super) retires: Option<Time>,
    pub(super) revoked: Option<Time>,
    /// When it ends or has ended, in a few words under its status.
    pub(super) end: Option<String>,
    pub(super) uses: String,
    /// What its owner should think about.
    pub(super) marks: Vec<MarkPill>,
}

/// Something to think about, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkPill {
    /// How loud it is: `warn` or `plain`.
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
    /// Why, on hover; the key's own page says it in full.
    pub(super) why: &'static str,
}

impl KeyFace {
    pub(super) fn of(key: &StoredKey, now: Timestamp) -> KeyFace {
        let (record, activity) = (&key.record, &key.activity);
        let standing = Standing::of(key, now);
        let end = match standing {
            Standing::Active => None,
            Standing::Expiring | Standing::Rotating => {
                record.ends_at().map(|at| format!("ends {}", relative(at, now)))
            }
            Standing::Expired => record.ends_at().map(day),
            Standing::Revoked => record.revoked_at.map(day),
        };
        KeyFace {
            id: record.id,
            label: record.label.clone(),
            display: record.display.clone(),
            team: record.team.clone(),
            environment: EnvironmentBadge { environment: record.environment },
            created: Time::day(record.created_at),
            used: activity.last_used_at.map(|at| Time::relative(at, now)),
            standing,
            lives: standing.lives(),
            rotatable: matches!(standing, Standing::Active | Standing::Expiring),
            expires: record.expires_at.map(Time::exact),
            retires: record.retires_at.map(Time::exact),
            revoked: record.revoked_at.map(Time::exact),
            end,
            uses: grouped(activity.uses),
            marks: marks(key, standing, now),
        }
    }
}

/// What the owner of a key should think about.
fn marks(key: &StoredKey, standing: Standing, now: Timestamp) -> Vec<MarkPill> {
    let warn = |text, why| MarkPill { kind: "warn", text, why };
    if !standing.lives() {
        let tried = (key.activity.refusals > 0).then(|| warn("Still tried", "Requests with it are refused"));
        return tried.into_iter().collect();
    }
    let idle = Mark::Idle.is_on(key, now);
    let pill = |mark: Mark| match mark {
        // Its status says so.
        Mark::Expiring => None,
        Mark::Idle => Some(warn("Likely safe to revoke", "No activity for 90 days or more")),
        // Who revokes it need not rotate it.
        Mark::NeverUsed | Mark::RotationDue if idle => None,
        Mark::NeverUsed => {
            Some(MarkPill { kind: "plain", text: "Never used", why: "No request has come with it" })
        }
        Mark::RotationDue => Some(warn("Due for rotation", "Older than 90 days")),
    };
    Mark::ALL.into_iter().filter(|mark| mark.is_on(key, now)).filter_map(pill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    #[test]
    fn a_moment_is_told_in_the_largest_unit_that_fits() {
        let before =
            |seconds: u64| relative(Timestamp::from_millis(NOW.as_millis() - 1_000 * seconds as i64), NOW);
        assert_eq!(before(0), "just now");
        assert_eq!(before(59), "just now");
        assert_eq!(before(60), "1 minute ago");
        assert_eq!(before(2 * HOUR_S - 1), "1 hour ago");
        assert_eq!(before(29 * DAY_S), "29 days ago");
        assert_eq!(before(90 * DAY_S), "3 months ago");
        assert_eq!(before(800 * DAY_S), "2 years ago");
        assert_eq!(relative(NOW.plus(Duration::from_secs(3 * DAY_S)), NOW), "in 3 days");
        assert_eq!(relative(NOW.plus(Duration::from_secs(5)), NOW), "in less than a minute");
    }

    #[test]
    fn a_time_shows_words_and_holds_the_exact_one() {
        assert_eq!(
            Time::day(NOW).to_string(),
            r#"<time datetime="2025-11-24T16:00:00.000Z" title="24 November 2025, 16:00:00 UTC">24 Nov 2025</time>"#
        );
        assert!(Time::relative(NOW, NOW).to_string().contains(" data-relative>just now<"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!((count(1, "key"), count(1_000, "key")), ("1 key".into(), "1,000 keys".into()));
    }
}
