//! Which keys are listed, in which order, and a page of them: what every store means by it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StoredKey;
use crate::model::{Environment, KeyId, KeyStatus, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A key that ends within this time is expiring.
pub const EXPIRING_WITHIN: Duration = DAY.saturating_mul(7);
/// A key that nobody has used for this time is likely safe to revoke.
pub const IDLE_AFTER: Duration = DAY.saturating_mul(90);
/// A key of this age is due for rotation.
pub const ROTATION_AFTER: Duration = DAY.saturating_mul(90);
/// Ids and displayed characters are searched for by at least so many characters: fewer would find them by chance.
const SEARCH_NAMES_FROM: usize = 4;

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only this team's keys.
    pub team: Option<String>,
    /// Only this environment's keys.
    pub environment: Option<Environment>,
    /// Only keys that are this at the moment given.
    pub state: Option<(KeyState, Timestamp)>,
    /// Only keys of which this is a part of the label, or, from four characters on, of the displayed characters, or the
    /// beginning of the id. Case does not matter.
    pub search: Option<String>,
    /// In which order.
    pub sort: Sort,
    /// Only keys behind this one, as a page before told.
    pub after: Option<Cursor>,
    /// At most so many; at least 1.
    pub limit: usize,
    /// Whether to count all keys that are meant, on all pages. Costs a look at each of them.
    pub count: bool,
}

/// What a key can be listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It has this status.
    Status(KeyStatus),
    /// It bears this mark.
    Mark(Mark),
}

/// Something about a key that its team should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It opens, and ends within [`EXPIRING_WITHIN`].
    Expiring,
    /// It is active, and was neither made nor used for [`IDLE_AFTER`]: likely safe to revoke.
    Idle,
    /// It opens, and was never used.
    NeverUsed,
    /// It is active, and was made [`ROTATION_AFTER`] ago or before.
    RotationDue,
}

/// What keys are sorted by, and which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// By what. Where two keys are alike, the id decides.
    pub by: SortBy,
    /// From the last to the first, or from the first to the last.
    pub order: SortOrder,
}

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// When they were made.
    #[default]
    Created,
    /// When they were last used; one that never was comes before all others.
    LastUsed,
    /// The label, as [`fold`] makes it.
    Label,
}

/// Which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// The latest, or the end of the alphabet, first.
    #[default]
    Descending,
    /// The other way round.
    Ascending,
}

/// A place in a list: the last key of the page before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// What it is sorted by.
    pub place: Place,
    /// Its id.
    pub id: KeyId,
}

/// What a key is sorted by. All places in one list are of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// When it was made.
    Created(Timestamp),
    /// When it was last used.
    LastUsed(Option<Timestamp>),
    /// Its label, as [`fold`] makes it.
    Label(String),
}

/// Some of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order that was asked for.
    pub keys: Vec<StoredKey>,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
    /// How many keys are meant, on all pages; if that was asked for.
    pub total: Option<u64>,
}

/// The text in small letters, one by one: a letter does not depend on what stands beside it, as the sigma at the end of a
/// word does.
pub fn fold(text: &str) -> String {
    let small = text.chars().flat_map(char::to_lowercase);
    small.map(|letter| if letter == 'ς' { 'σ' } else { letter }).collect()
}

impl Mark {
    /// Every mark, in the order in which they are shown.
    pub const ALL: [Mark; 4] = [Mark::Expiring, Mark::Idle, Mark::NeverUsed, Mark::RotationDue];

    /// The wire form, as `never_used`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mark::Expiring => "expiring",
            Mark::Idle => "idle",
            Mark::NeverUsed => "never_used",
            Mark::RotationDue => "rotation_due",
        }
    }

    /// Whether `key` bears it at `now`.
    pub fn is_on(self, key: &StoredKey, now: Timestamp) -> bool {
        let record = &key.record;
        let status = record.status(now);
        let (active, last_used_at) = (status == KeyStatus::Active, key.activity.last_used_at);
        let opens = active || status == KeyStatus::Rotating;
        let is_past = |moment: Timestamp, long: Duration| moment.plus(long) <= now;
        match self {
            Mark::Expiring => opens && record.ends_at().is_some_and(|end| end <= now.plus(EXPIRING_WITHIN)),
            Mark::Idle => {
                active
                    && is_past(record.created_at, IDLE_AFTER)
                    && last_used_at.is_none_or(|used| is_past(used, IDLE_AFTER))
            }
            Mark::NeverUsed => opens && last_used_at.is_none(),
            Mark::RotationDue => active && is_past(record.created_at, ROTATION_AFTER),
        }
    }
}

impl ListQuery {
    /// Whether `key` is meant, wherever it stands.
    pub fn means(&self, key: &StoredKey) -> bool {
        let record = &key.record;
        let in_state = |(state, now): (KeyState, Timestamp)| match state {
            KeyState::Status(status) => record.status(now) == status,
            KeyState::Mark(mark) => mark.is_on(key, now),
        };
        self.team.as_ref().is_none_or(|team| record.team == *team)
            && self.environment.is_none_or(|environment| record.environment == environment)
            && self.state.is_none_or(in_state)
            && self.needle().is_none_or(|needle| needle.is_in(key))
    }

    /// What to search for.
    pub(super) fn needle(&self) -> Option<Needle> {
        let text = fold(self.search.as_deref()?.trim());
        let names = text.chars().count() >= SEARCH_NAMES_FROM;
        (!text.is_empty()).then_some(Needle { text, names })
    }
}

/// What is searched for.
pub(super) struct Needle {
    /// As [`fold`] makes it.
    pub(super) text: String,
    /// Whether it is long enough to be searched for in ids and displayed characters.
    pub(super) names: bool,
}

impl Needle {
    fn is_in(&self, key: &StoredKey) -> bool {
        let record = &key.record;
        fold(&record.label).contains(&self.text)
            || (self.names
                && (record.id.as_str().starts_with(&self.text)
                    || record.display.to_ascii_lowercase().contains(&self.text)))
    }
}

impl Sort {
    /// Where `key` stands.
    pub fn place(self, key: &StoredKey) -> Cursor {
        let place = match self.by {
            SortBy::Created => Place::Created(key.record.created_at),
            SortBy::LastUsed => Place::LastUsed(key.activity.last_used_at),
            SortBy::Label => Place::Label(fold(&key.record.label)),
        };
        Cursor { place, id: key.record.id }
    }
}

impl SortOrder {
    /// Whether it is the latest first.
    pub fn is_descending(self) -> bool {
        self == SortOrder::Descending
    }
}

/// A page that is put together from keys in any order.
pub(crate) struct Selection<'a> {
    query: &'a ListQuery,
    /// The first ones behind the cursor, one more than the page takes: it tells whether there is a next page.
    first: BTreeMap<Rank, StoredKey>,
    total: u64,
}

/// A place that sorts as the list does.
#[derive(PartialEq, Eq)]
struct Rank {
    cursor: Cursor,
    order: SortOrder,
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        let ascending = self.cursor.cmp(&other.cursor);
        if self.order.is_descending() { ascending.reverse() } else { ascending }
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> Selection<'a> {
    pub(crate) fn new(query: &'a ListQuery) -> Selection<'a> {
        Selection { query, first: BTreeMap::new(), total: 0 }
    }

    /// Takes the key, if it is meant.
    pub(crate) fn offer(&mut self, key: StoredKey) {
        if !self.query.means(&key) {
            return;
        }
        self.total += 1;
        let order = self.query.sort.order;
        let rank = Rank { cursor: self.query.sort.place(&key), order };
        let behind = self.query.after.clone().is_none_or(|cursor| rank > Rank { cursor, order });
        let in_front = !self.is_full() || self.first.last_key_value().is_some_and(|(last, _)| rank < *last);
        if behind && in_front {
            if self.is_full() {
                self.first.pop_last();
            }
            self.first.insert(rank, key);
        }
    }

    /// Whether the page is complete, if all keys that come are behind those that came.
    pub(crate) fn is_full(&self) -> bool {
        self.first.len() > self.query.limit.max(1)
    }

    pub(crate) fn into_page(mut self) -> Page {
        let more = self.is_full();
        if more {
            self.first.pop_last();
        }
        let next = self.first.last_key_value().filter(|_| more).map(|(last, _)| last.cursor.clone());
        let total = self.query.count.then_some(self.total);
        Page { keys: self.first.into_values().collect(), next, total }
    }
}
