//! *Create Key*: the form, and the one answer that shows the new key.
//!
//! The key is in the answer to the form itself, with and without script. A redirect to a page that shows it would have to
//! keep it somewhere, or put it into an address; a call of the API from a script would be a second way, and none without
//! script. The answer may not be kept by any cache, and cannot be had again: the form carries an idempotency key, so
//! that sending it again makes no second key and shows none. Script takes the key out of the page when the dialog is
//! closed or the page is left, so that nothing comes back with the back button, and gives the page an address that is
//! loaded again without sending the form.

use std::time::Duration;

use askama::Template;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use url::form_urlencoded;

use crate::admin::AdminState;
use crate::admin::keys::detached;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::keys::{KeyError, Made, NewKey, RelativeExpiry, without_keys};
use crate::model::{Environment, Role, Timestamp};

use crate::store::{Activity, Once, StoredKey};

use super::form::Fields;
use super::key::{KeyPage, Reveal, Story};
use super::labels;
use super::shell::{Page, Shell};
use super::view::{date, sentence};
use super::{edited_by, page};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the list of expiries offers: the value of each, and its words.
const EXPIRIES: [(&str, &str); 7] = [
    ("", "Never"),
    ("7d", "In 7 days"),
    ("30d", "In 30 days"),
    ("90d", "In 90 days"),
    ("180d", "In 180 days"),
    ("365d", "In a year"),
    (ON_DATE, "On a date"),
];
const ON_DATE: &str = "date";

#[derive(Template)]
#[template(path = "create.html")]
struct CreatePage {
    shell: Shell,
    idempotency_key: String,
    problem: Option<String>,
    label: String,
    /// To be chosen, by who may make keys for every team.
    team: Option<String>,
    environment: String,
    expires: String,
    expires_on: String,
    expiries: [(&'static str, &'static str); 7],
    /// The first day that can be the last one.
    today: String,
    generic: String,
}

/// `GET /settings/api-keys/new`.
pub(super) async fn ask(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    visitor.may(Role::Editor)?;
    page::html(&CreatePage::of(&state, &visitor, None)?)
}

/// `POST /settings/api-keys`: 201, with the key for the only time.
pub(super) async fn create(
    State(state): State<AdminState>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, Problem> {
    let keys = edited_by(&state, &visitor)?;
    let fields = Fields::read(request).await?;
    let new = match wanted(&fields, &visitor, state.clock.now().wall) {
        Ok(new) => new,
        Err(what) => return refused(&state, &visitor, &fields, what),
    };
    let once = once(&visitor, "create", &fields, &["label", "team", "environment", "expires", "expires_on"]);
    match detached(async move { keys.create_once(new, Some(once)).await }).await {
        Ok(Made::Now((record, key))) => {
            let story = Story::begins(&record, None);
            let stored = StoredKey { record, activity: Activity::default() };
            let page = KeyPage::with(&state, &visitor, &stored, story);
            let reveal = Reveal::of(&page, "Your new key", &key);
            page::html_with(StatusCode::CREATED, &KeyPage { reveal: Some(reveal), ..page })
        }
        Ok(Made::Before(stored)) => shown_before(&state, &visitor, &stored).await,
        Err(problem) if problem.status() == StatusCode::UNPROCESSABLE_ENTITY => {
            let what = sentence(problem.words().1);
            refused(&state, &visitor, &fields, what)
        }
        Err(problem) => Err(problem),
    }
}

/// The answer to a form that was sent again: the key's page, without the key.
pub(super) async fn shown_before(
    state: &AdminState,
    visitor: &Visitor,
    stored: &StoredKey,
) -> Result<Response, Problem> {
    let said = "This form was sent before, and made this key then. The key was shown before, and is not shown again.";
    let page = KeyPage::of(state, visitor, stored).await;
    page::html(&KeyPage { said: Some(said.to_owned()), ..page })
}

/// What makes a form one request however often it is sent: who sent it, its idempotency key, and these fields.
pub(super) fn once(visitor: &Visitor, what: &str, fields: &Fields, says: &[&str]) -> Once {
    let mut body = form_urlencoded::Serializer::new(String::new());
    for name in says {
        body.append_pair(name, fields.get(name));
    }
    let caller = visitor.user.id.to_string();
    Once::new(&caller, &format!("console: {what}"), fields.get("idempotency_key"), body.finish().as_bytes())
}

/// The form again, with what is wrong with it.
fn refused(
    state: &AdminState,
    visitor: &Visitor,
    fields: &Fields,
    what: String,
) -> Result<Response, Problem> {
    let page = CreatePage { problem: Some(what), ..CreatePage::of(state, visitor, Some(fields))? };
    page::html_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
}

impl CreatePage {
    /// Empty, or as it was filled in.
    fn of(state: &AdminState, visitor: &Visitor, filled: Option<&Fields>) -> Result<CreatePage, Problem> {
        let said = |name: &str| filled.map_or("", |fields| fields.get(name)).to_owned();
        Ok(CreatePage {
            shell: Shell::of(state, visitor, Page::ApiKeys),
            idempotency_key: fresh_key()?,
            problem: None,
            label: without_keys(&said("label")),
            team: visitor.wall().is_none().then(|| said("team")),
            environment: said("environment"),
            expires: said("expires"),
            expires_on: said("expires_on"),
            expiries: EXPIRIES,
            today: date(state.clock.now().wall),
            generic: labels::GENERAL.join(" "),
        })
    }
}

/// What the form asks for.
fn wanted(fields: &Fields, visitor: &Visitor, now: Timestamp) -> Result<NewKey, String> {
    let environment = fields.get("environment").parse::<Environment>();
    let expires_at = match fields.get("expires") {
        "" => None,
        ON_DATE => Some(end_of(fields.get("expires_on"))?),
        life => {
            let RelativeExpiry(life) =
                life.parse().map_err(|_| "Choose an expiry of the list.".to_owned())?;
            Some(now.plus(life))
        }
    };
    Ok(NewKey {
        label: fields.get("label").to_owned(),
        team: Some(visitor.wall().unwrap_or_else(|| fields.get("team").trim()).to_owned()),
        environment: environment.map_err(|_| "Choose Live or Sandbox.".to_owned())?,
        expires_at,
    })
}

/// The end of a day in UTC, given as `2026-01-31`.
fn end_of(date: &str) -> Result<Timestamp, String> {
    let midnight: Timestamp =
        format!("{date}T00:00:00Z").parse().map_err(|_| "Choose the last day.".to_owned())?;
    Ok(midnight.plus(DAY))
}

/// A key for a form: whoever sends the form twice gets one key.
pub(super) fn fresh_key() -> Result<String, Problem> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(KeyError::NoRandomness)?;
    Ok(format!("form_{:032x}", u128::from_be_bytes(random)))
}
