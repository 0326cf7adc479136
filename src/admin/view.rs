//! What the admin API shows. The members and their names are a contract.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{Happening, HappeningKind, KeyUsage, RotatedKey};
use crate::model::{ApiKey, Environment, GatewayId, Head, KeyId, KeyRecord, KeyStatus, Timestamp};
use crate::roll::{Gateway, Receipt};
use crate::store::{Activity, Durability, Mark, PeriodCount, StoreReport, StoredKey};

/// A key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyView {
    id: KeyId,
    label: String,
    team: String,
    environment: Environment,
    display: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// When its grace ends or has ended, if it was rotated.
    retires_at: Option<Timestamp>,
    replaced_by: Option<KeyId>,
    replaces: Option<KeyId>,
    status: KeyStatus,
    /// What its team should know.
    marks: Vec<Mark>,
    last_used_at: Option<Timestamp>,
    uses: u64,
    uses_in_grace: u64,
    /// Attempts with it after it was revoked or had expired.
    refusals: u64,
    last_refused_at: Option<Timestamp>,
}

/// An answer that shows the key itself.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedKey)]
pub(super) struct CreatedView<'a> {
    #[serde(flatten)]
    view: KeyView,
    /// The key itself, for the only time.
    key: &'a str,
}

/// A key that was made in place of another, and the other one.
#[derive(Serialize, ToSchema)]
#[schema(as = RotatedKey)]
pub(super) struct RotatedView<'a> {
    #[serde(flatten)]
    new: CreatedView<'a>,
    old: KeyView,
}

/// The answer to a request that came before: what it made then, as it is now, and never the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyShownBefore)]
pub(super) struct RepeatedView {
    #[serde(flatten)]
    view: KeyView,
    /// Always true: in the first answer.
    key_shown: bool,
    message: &'static str,
    /// The key that was rotated, if it was a rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<KeyView>,
}

/// How often a key was used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyUsage)]
pub(super) struct UsageView {
    days: Vec<DayView>,
    hours: Vec<HourView>,
    /// What was counted since the beginning of the hour before this one.
    recent: Option<HourView>,
    last_used_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Day)]
struct DayView {
    /// In UTC.
    #[schema(format = Date)]
    date: String,
    uses: u64,
    refusals: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hour)]
struct HourView {
    start: Timestamp,
    uses: u64,
    refusals: u64,
}

/// What happened to a key, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryView {
    data: Vec<HappeningView>,
}

/// Something that happened to a key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Happening)]
#[serde(tag = "what", rename_all = "snake_case")]
enum HappeningView {
    Created { at: Timestamp, replaces: Option<KeyId> },
    Imported { at: Timestamp },
    Renamed { at: Timestamp, from: String, to: String },
    ExpiryChanged { at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp> },
    Rotated { at: Timestamp, replaced_by: KeyId, retires_at: Timestamp },
    Revoked { at: Timestamp },
}

/// A revoked key, and how far its revocation got.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevokedKey)]
pub(super) struct RevokedView {
    #[serde(flatten)]
    view: KeyView,
    revocation: RevocationView,
}

/// What is said of another team's key that somebody holds and has revoked, and of one that does not exist.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnseenKey)]
pub(super) struct UnseenView {
    message: &'static str,
}

impl UnseenView {
    pub(super) fn new() -> UnseenView {
        UnseenView {
            message: "if there is such a key, it is revoked from now on; it is no key of your team, so no more is said about it",
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Revocation)]
struct RevocationView {
    /// False if the key had been revoked before.
    newly_revoked: bool,
    effective_on_this_gateway: bool,
    acknowledged: usize,
    gateways: usize,
    /// Rounded up: it did not take less.
    #[schema(value_type = u64)]
    elapsed_ms: u128,
    unacknowledged: Vec<NameView>,
    /// False if the gateways of the fleet are not known; those that are counted are the last known.
    roll_read: bool,
    effective_by: Timestamp,
    durable: bool,
    durable_reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayName)]
struct NameView {
    id: GatewayId,
    name: String,
    version: String,
}

/// One page of keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyPage)]
pub(super) struct PageView {
    pub(super) data: Vec<KeyView>,
    pub(super) next_cursor: Option<String>,
    /// How many keys are meant, on all pages; if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportReport)]
pub(super) struct ImportView {
    pub(super) created: usize,
    pub(super) already_there: usize,
}

/// The fleet.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Gateways)]
pub(super) struct GatewaysView {
    pub(super) data: Vec<GatewayView>,
}

/// A gateway on the roll.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Gateway)]
pub(super) struct GatewayView {
    id: GatewayId,
    name: String,
    version: String,
    started_at: Timestamp,
    max_staleness_s: u64,
    /// Whether it is the one that answers.
    this: bool,
    /// `null` if it is not known.
    lag_events: Option<u64>,
    #[schema(value_type = u64)]
    silent_for_ms: u128,
    /// By shard; empty until it has read the logs once.
    positions: Vec<Head>,
}

/// What is there where the store should be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Store)]
pub(super) struct StoreView {
    ours: Option<String>,
    found: Option<String>,
    entries: u64,
    mismatch: Option<String>,
}

impl KeyView {
    /// As of `now`, which decides whether it has expired.
    pub(super) fn of(stored: StoredKey, now: Timestamp) -> KeyView {
        let marks = Mark::ALL.into_iter().filter(|mark| mark.is_on(&stored, now)).collect();
        let StoredKey { record, activity } = stored;
        let status = record.status(now);
        let KeyRecord {
            id,
            hash: _,
            label,
            team,
            environment,
            display,
            created_at,
            expires_at,
            revoked_at,
            retires_at,
            replaced_by,
            replaces,
        } = record;
        let Activity { last_used_at, uses, uses_in_grace, last_refused_at, refusals } = activity;
        KeyView {
            id,
            label,
            team,
            environment,
            display,
            created_at,
            expires_at,
            revoked_at,
            retires_at,
            replaced_by,
            replaces,
            status,
            marks,
            last_used_at,
            uses,
            uses_in_grace,
            refusals,
            last_refused_at,
        }
    }
}

impl<'a> CreatedView<'a> {
    pub(super) fn of(record: KeyRecord, key: &'a ApiKey, now: Timestamp) -> CreatedView<'a> {
        let stored = StoredKey { record, activity: Activity::default() };
        CreatedView { view: KeyView::of(stored, now), key: key.expose() }
    }
}

impl<'a> RotatedView<'a> {
    pub(super) fn of(rotated: RotatedKey, key: &'a ApiKey, now: Timestamp) -> RotatedView<'a> {
        let RotatedKey { old, record, told: _ } = rotated;
        RotatedView { new: CreatedView::of(record, key, now), old: KeyView::of(old, now) }
    }
}

impl RepeatedView {
    /// As of `now`, which decides whether a key has expired.
    pub(super) fn of(new: StoredKey, old: Option<StoredKey>, now: Timestamp) -> RepeatedView {
        RepeatedView {
            view: KeyView::of(new, now),
            key_shown: true,
            message: "this request came before, and made this key then; the key was shown in the first answer and cannot be \
                      shown again. If that answer was lost, revoke the key and make another",
            old: old.map(|old| KeyView::of(old, now)),
        }
    }
}

impl UsageView {
    pub(super) fn of(usage: &KeyUsage) -> UsageView {
        let hour =
            |count: PeriodCount| HourView { start: count.start, uses: count.uses, refusals: count.refusals };
        let day = |count: &PeriodCount| DayView {
            date: count.start.to_string().chars().take(10).collect(),
            uses: count.uses,
            refusals: count.refusals,
        };
        UsageView {
            days: usage.days.iter().map(day).collect(),
            hours: usage.hours.iter().copied().map(hour).collect(),
            recent: usage.recent().map(hour),
            last_used_at: usage.last_used_at,
        }
    }
}

impl HistoryView {
    pub(super) fn of(happenings: Vec<Happening>) -> HistoryView {
        let data = happenings.into_iter().map(|Happening { at, what }| match what {
            HappeningKind::Created { replaces } => HappeningView::Created { at, replaces },
            HappeningKind::Imported => HappeningView::Imported { at },
            HappeningKind::Renamed { from, to } => HappeningView::Renamed { at, from, to },
            HappeningKind::ExpiryChanged { from, to } => HappeningView::ExpiryChanged { at, from, to },
            HappeningKind::Rotated { replaced_by, retires_at } => {
                HappeningView::Rotated { at, replaced_by, retires_at }
            }
            HappeningKind::Revoked => HappeningView::Revoked { at },
        });
        HistoryView { data: data.collect() }
    }
}

impl RevokedView {
    pub(super) fn of(
        stored: StoredKey,
        newly_revoked: bool,
        receipt: Receipt,
        now: Timestamp,
    ) -> RevokedView {
        let (durable, durable_reason) = match receipt.durable {
            Durability::Durable => (true, None),
            Durability::NotConfirmed(reason) => (false, Some(reason.into_owned())),
        };
        let unacknowledged = receipt.unacknowledged.into_iter();
        let revocation = RevocationView {
            newly_revoked,
            effective_on_this_gateway: true,
            acknowledged: receipt.acknowledged,
            gateways: receipt.gateways,
            elapsed_ms: receipt.elapsed.as_nanos().div_ceil(1_000_000),
            unacknowledged: unacknowledged
                .map(|member| NameView { id: member.id, name: member.name, version: member.version })
                .collect(),
            roll_read: receipt.roll_read,
            effective_by: receipt.effective_by,
            durable,
            durable_reason,
        };
        RevokedView { view: KeyView::of(stored, now), revocation }
    }
}

impl GatewayView {
    pub(super) fn of(gateway: Gateway) -> GatewayView {
        let Gateway { member, this, lag, silent_for } = gateway;
        GatewayView {
            id: member.id,
            max_staleness_s: member.max_staleness().as_secs(),
            name: member.name,
            version: member.version,
            started_at: member.started_at,
            this,
            lag_events: lag,
            silent_for_ms: silent_for.as_millis(),
            positions: member.positions,
        }
    }
}

impl StoreView {
    pub(super) fn of(report: StoreReport) -> StoreView {
        let StoreReport { ours, found, entries, mismatch } = report;
        StoreView { ours, found, entries, mismatch: mismatch.map(|mismatch| mismatch.to_string()) }
    }
}
