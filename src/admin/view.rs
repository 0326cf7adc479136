//! A key as the admin API shows it.

use serde::Serialize;

use crate::model::{ApiKey, Environment, KeyId, KeyRecord, KeyStatus, Timestamp};
use crate::store::StoredKey;

/// A key, without the key. The members and their names are a contract.
#[derive(Debug, Serialize)]
pub(super) struct KeyView {
    id: KeyId,
    label: String,
    team: String,
    environment: Environment,
    display: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    status: KeyStatus,
    uses: u64,
}

/// The one answer that shows the key itself.
#[derive(Serialize)]
pub(super) struct CreatedView<'a> {
    #[serde(flatten)]
    view: KeyView,
    key: &'a str,
}

/// A revoked key, and how far its revocation got.
#[derive(Debug, Serialize)]
pub(super) struct RevokedView {
    #[serde(flatten)]
    view: KeyView,
    revocation: RevocationView,
}

#[derive(Debug, Serialize)]
struct RevocationView {
    effective_on_this_gateway: bool,
    /// False if the key had been revoked before.
    newly_revoked: bool,
}

/// One page of keys.
#[derive(Debug, Serialize)]
pub(super) struct PageView {
    pub(super) data: Vec<KeyView>,
    pub(super) next_cursor: Option<String>,
}

/// What an import did.
#[derive(Debug, Serialize)]
pub(super) struct ImportView {
    pub(super) created: usize,
    pub(super) already_there: usize,
}

impl KeyView {
    /// As of `now`, which decides whether it has expired.
    pub(super) fn of(stored: StoredKey, now: Timestamp) -> KeyView {
        let StoredKey { record, last_used_at, uses } = stored;
        let status = record.status(now);
        let KeyRecord { id, hash: _, label, team, environment, display, created_at, expires_at, revoked_at } =
            record;
        KeyView {
            id,
            label,
            team,
            environment,
            display,
            created_at,
            expires_at,
            revoked_at,
            last_used_at,
            status,
            uses,
        }
    }
}

impl<'a> CreatedView<'a> {
    pub(super) fn of(record: KeyRecord, key: &'a ApiKey, now: Timestamp) -> CreatedView<'a> {
        let stored = StoredKey { record, last_used_at: None, uses: 0 };
        CreatedView { view: KeyView::of(stored, now), key: key.expose() }
    }
}

impl RevokedView {
    pub(super) fn of(stored: StoredKey, newly_revoked: bool, now: Timestamp) -> RevokedView {
        let revocation = RevocationView { effective_on_this_gateway: true, newly_revoked };
        RevokedView { view: KeyView::of(stored, now), revocation }
    }
}
