//! What happened to a key, and how often it was used.

use crate::model::{KeyId, KeyRecord, Timestamp};
use crate::store::{Change, ChangeKind, Editable, Period, PeriodCount};

use super::{KeyError, KeyService, within_deadline};

/// Days whose uses can be asked for.
pub const MAX_DAYS: usize = Period::Day.kept();

/// How often a key was used, as of the last flush. Each period is one of UTC by the fleet's clock; a use may be counted in
/// the one after its own if it was made just before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// The last days, the oldest first; the last one is today.
    pub days: Vec<PeriodCount>,
    /// The last 48 hours, the oldest first; the last one is this hour.
    pub hours: Vec<PeriodCount>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: HappeningKind,
}

/// What can happen to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HappeningKind {
    /// It was made; in the place of another one, if it was made by a rotation.
    Created {
        /// The key whose place it took.
        replaces: Option<KeyId>,
    },
    /// It was imported; it may have been made long before.
    Imported,
    /// It got another label.
    Renamed {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// It got another expiry date.
    ExpiryChanged {
        /// The old one.
        from: Option<Timestamp>,
        /// The new one.
        to: Option<Timestamp>,
    },
    /// It was rotated.
    Rotated {
        /// The key that took its place.
        replaced_by: KeyId,
        /// When its grace ends.
        retires_at: Timestamp,
    },
    /// It was revoked.
    Revoked,
}

impl KeyUsage {
    /// What was counted in this hour and the one before, which holds all of the last 60 minutes and more; and since when
    /// that is.
    pub fn recent(&self) -> Option<PeriodCount> {
        let [.., before, this] = &self.hours[..] else { return None };
        Some(PeriodCount {
            start: before.start,
            uses: before.uses + this.uses,
            refusals: before.refusals + this.refusals,
        })
    }
}

impl KeyService {
    /// How often a key was used in the last `days` days, at most [`MAX_DAYS`].
    ///
    /// # Errors
    /// There is no such key, or the store failed.
    pub async fn usage(&self, id: &KeyId, days: usize) -> Result<KeyUsage, KeyError> {
        let last_used_at = self.get(id).await?.activity.last_used_at;
        let now = self.clock.now().wall;
        let counts = async |period, count| within_deadline(self.store.counts(id, period, count, now)).await;
        Ok(KeyUsage {
            days: counts(Period::Day, days.clamp(1, MAX_DAYS)).await?,
            hours: counts(Period::Hour, Period::Hour.kept()).await?,
            last_used_at,
        })
    }

    /// What happened to a key, the oldest first.
    ///
    /// # Errors
    /// There is no such key, or the store failed.
    pub async fn history(&self, id: &KeyId) -> Result<Vec<Happening>, KeyError> {
        let record = self.get(id).await?.record;
        let changes = within_deadline(self.store.changes(id)).await?;
        let rotated_at = match &record.replaced_by {
            // It was made in the moment of the rotation.
            Some(new) => within_deadline(self.store.get(new)).await?.map(|new| new.record.created_at),
            None => None,
        };
        Ok(tell(&record, changes, rotated_at))
    }
}

fn tell(record: &KeyRecord, changes: Vec<Change>, rotated_at: Option<Timestamp>) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let mut add = |at, what| happenings.push(Happening { at, what });
    if !changes.iter().any(|change| change.what == ChangeKind::Imported) {
        add(record.created_at, HappeningKind::Created { replaces: record.replaces });
    }
    for Change { at, what } in changes {
        match what {
            ChangeKind::Imported => add(at, HappeningKind::Imported),
            ChangeKind::Edited { before, after } => {
                let (Editable { label: from, expires_at }, to) = (before, after.label);
                if from != to {
                    add(at, HappeningKind::Renamed { from, to });
                }
                if expires_at != after.expires_at {
                    add(at, HappeningKind::ExpiryChanged { from: expires_at, to: after.expires_at });
                }
            }
        }
    }
    if let (Some(replaced_by), Some(retires_at)) = (record.replaced_by, record.retires_at) {
        add(rotated_at.unwrap_or(retires_at), HappeningKind::Rotated { replaced_by, retires_at });
    }
    if let Some(at) = record.revoked_at {
        add(at, HappeningKind::Revoked);
    }
    happenings.sort_by_key(|happening| happening.at);
    happenings
}
