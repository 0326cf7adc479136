//! *Revoke*: the dialog, and the revocation with its receipt.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::admin::AdminState;
use crate::admin::keys::detached;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::model::{Role, Timestamp};

use super::key::{self, KeyPage};
use super::receipt::ReceiptView;
use super::shell::{Page, Shell};
use super::view::{KeyFace, count, grouped};
use super::{edited_by, page, seen_by};

/// Days of use that the dialog tells, today included.
const WEEK: usize = 7;
/// A key that was used within this time is in use.
const LATELY: Duration = Duration::from_secs(60 * 60);

#[derive(Template)]
#[template(path = "revoke.html")]
struct RevokePage {
    shell: Shell,
    key: KeyFace,
    lately: String,
    in_use: bool,
}

/// `GET /settings/api-keys/{id}/revoke`: asks whether it shall be.
pub(super) async fn ask(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    visitor.may(Role::Editor)?;
    let stored = key::of_visitor(&state, &visitor, &id).await?;
    let now = state.clock.now().wall;
    let usage = seen_by(&state, &visitor).usage(&stored.record.id, WEEK).await?;
    let uses = usage.days.iter().fold(0, |sum: u64, day| sum.saturating_add(day.uses));
    let in_use = is_in_use(stored.activity.last_used_at, now);
    let recent = usage.recent().filter(|_| in_use).map_or(0, |recent| recent.uses);
    let page = RevokePage {
        shell: Shell::of(&state, &visitor, Page::ApiKeys),
        key: KeyFace::of(&stored, now),
        lately: match recent {
            0 => format!("{} in the last 7 days", count(uses, "request")),
            recent => format!(
                "{} in this hour and the one before, {} in the last 7 days",
                count(recent, "request"),
                grouped(uses)
            ),
        },
        in_use,
    };
    page::html(&page)
}

fn is_in_use(last_used_at: Option<Timestamp>, now: Timestamp) -> bool {
    last_used_at.is_some_and(|at| now.since(at) <= LATELY)
}

/// `POST /settings/api-keys/{id}/revoke`. To repeat it changes nothing.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let keys = edited_by(&state, &visitor)?;
    let began = state.clock.now().tick;
    let id = key::of_visitor(&state, &visitor, &id).await?.record.id;
    let revoked = detached(async move { keys.revoke(&id).await }).await?;
    let receipt = state.roll.receipt(revoked.told, id.shard(), revoked.revoked_at, began).await;
    let receipt = ReceiptView::of(&revoked, receipt, state.clock.now().wall);
    let page = KeyPage::of(&state, &visitor, &revoked.key).await;
    page::html(&KeyPage { receipt: Some(receipt), ..page })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_use_for_an_hour_after_each_use() {
        let used = Timestamp::from_millis(1_764_000_000_000);
        let soon = |seconds: u64| used.plus(Duration::from_secs(seconds));
        assert!(is_in_use(Some(used), used) && is_in_use(Some(used), soon(3_600)));
        assert!(!is_in_use(Some(used), soon(3_601)) && !is_in_use(None, used));
        // One that was used on a machine whose clock is ahead.
        assert!(is_in_use(Some(soon(5)), used));
    }
}
