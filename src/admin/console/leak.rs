//! *Report a leaked key*: whose it is, and its end.
//!
//! Whoever holds a key may have it revoked: with the key itself in hand, to revoke it is the least that can be done.
//! Whose a key is, is told within its own team alone. What is said of another team's key and of one that does not exist
//! is the same, and as much is asked of the store before it is said: the revocation goes on behind the answer. A key of
//! one's own is revoked where every key is, on its own page, which asks once more.

use askama::Template;
use axum::extract::{Request, State};
use axum::response::Response;

use crate::admin::AdminState;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::model::Role;

use super::form::Fields;
use super::key::Note;
use super::shell::{Page, Shell};
use super::view::KeyFace;
use super::{edited_by, page, seen_by};

#[derive(Template)]
#[template(path = "leak.html")]
struct LeakPage {
    shell: Shell,
    may_edit: bool,
    said: Option<Note>,
    found: Option<KeyFace>,
}

const NOT_A_KEY: &str =
    "This is not a key. A key begins as the ones in your list do, and has 64 characters behind that.";
const NOT_YOURS: &str = "This is no key of your team. If you found it, you can have it revoked all the same.";
const REVOKED_UNSEEN: &str = "If there is such a key, it is revoked from now on. It is no key of your team, so no more is said about it.";

/// `GET /settings/leaked-key`.
pub(super) async fn ask(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    page::html(&LeakPage::of(&state, &visitor))
}

/// `POST /settings/leaked-key`: says whose it is, or sees to its revocation.
pub(super) async fn look(
    State(state): State<AdminState>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, Problem> {
    let fields = Fields::read(request).await?;
    let (keys, page) = (seen_by(&state, &visitor), LeakPage::of(&state, &visitor));
    let Ok(key) = keys.format().parse(fields.get("key").trim().as_bytes()) else {
        return page.saying("bad", NOT_A_KEY);
    };
    if let Some(found) = keys.find(&key).await? {
        let id = &found.record.id;
        if fields.get("do") == "revoke" && page.may_edit && found.record.revoked_at.is_none() {
            return Ok(page::see(&format!("/settings/api-keys/{id}/revoke")));
        }
        let now = state.clock.now().wall;
        return page::html(&LeakPage { found: Some(KeyFace::of(&found, now)), ..page });
    }
    if fields.get("do") != "revoke" {
        return page.saying("info", NOT_YOURS);
    }
    edited_by(&state, &visitor)?.revoke_unseen(key);
    page.saying("info", REVOKED_UNSEEN)
}

impl LeakPage {
    fn of(state: &AdminState, visitor: &Visitor) -> LeakPage {
        let may_edit = visitor.role >= Role::Editor;
        LeakPage { shell: Shell::of(state, visitor, Page::LeakedKey), may_edit, said: None, found: None }
    }

    fn saying(self, kind: &'static str, text: &str) -> Result<Response, Problem> {
        page::html(&LeakPage { said: Some(Note { kind, text: text.to_owned() }), ..self })
    }
}
