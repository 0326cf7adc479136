//! *Rotate*: the dialog, and the new key beside the old one.

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;

use crate::admin::AdminState;
use crate::admin::keys::detached;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::keys::{Grace, Made};
use crate::model::Role;
use crate::store::{Activity, StoredKey};

use super::create::{fresh_key, once, shown_before};
use super::form::Fields;
use super::key::{self, KeyPage, Reveal, Story};
use super::shell::{Page, Shell};
use super::view::KeyFace;
use super::{edited_by, page};

const GRACES: [(&str, &str); 6] = [
    ("0s", "No time: it ends at once"),
    ("1h", "1 hour"),
    ("24h", "24 hours"),
    ("48h", "2 days"),
    ("72h", "3 days"),
    ("7d", "7 days"),
];

#[derive(Template)]
#[template(path = "rotate.html")]
struct RotatePage {
    shell: Shell,
    key: KeyFace,
    idempotency_key: String,
    graces: [(&'static str, &'static str); 6],
}

/// `GET /settings/api-keys/{id}/rotate`.
pub(super) async fn ask(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    visitor.may(Role::Editor)?;
    let stored = key::of_visitor(&state, &visitor, &id).await?;
    let page = RotatePage {
        shell: Shell::of(&state, &visitor, Page::ApiKeys),
        key: KeyFace::of(&stored, state.clock.now().wall),
        idempotency_key: fresh_key()?,
        graces: GRACES,
    };
    page::html(&page)
}

/// `POST /settings/api-keys/{id}/rotate`: 201, with the new key for the only time.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let keys = edited_by(&state, &visitor)?;
    let fields = Fields::read(request).await?;
    let Grace(grace) =
        fields.get("grace").parse().map_err(|error| Problem::invalid(format!("grace: {error}")))?;
    let id = key::of_visitor(&state, &visitor, &id).await?.record.id;
    let once = once(&visitor, &format!("rotate {id}"), &fields, &["grace"]);
    match detached(async move { keys.rotate_once(&id, grace, Some(once)).await }).await? {
        Made::Now((rotated, key)) => {
            let story = Story::begins(&rotated.record, Some(rotated.old));
            let new = StoredKey { record: rotated.record, activity: Activity::default() };
            let page = KeyPage::with(&state, &visitor, &new, story);
            let reveal = Reveal::of(&page, "The new key", &key);
            page::html_with(StatusCode::CREATED, &KeyPage { reveal: Some(reveal), ..page })
        }
        Made::Before(new) => shown_before(&state, &visitor, &new).await,
    }
}
