//! A key's page: facts, usage by day, refusals, its rotation, its history.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use zeroize::Zeroize;

use crate::admin::AdminState;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::keys::{Happening, HappeningKind, KeyError};
use crate::model::{ApiKey, KeyId, KeyRecord, Role, Timestamp};
use crate::store::{Mark, PeriodCount, StoredKey};

use super::receipt::ReceiptView;
use super::shell::{Page, Shell};
use super::spark::{DAYS, Spark, unused_days};
use super::view::{self, KeyFace, Standing, Time, count, grouped};
use super::{page, seen_by};

/// What only the store knows of a key besides its record; `None` of what it does not tell.
#[derive(Default)]
pub(super) struct Story {
    pub(super) days: Option<Vec<PeriodCount>>,
    pub(super) happenings: Option<Vec<Happening>>,
    /// The key that it replaces or is replaced by.
    pub(super) other: Option<StoredKey>,
}

#[derive(Template)]
#[template(path = "key.html")]
pub(super) struct KeyPage {
    pub(super) shell: Shell,
    pub(super) may_edit: bool,
    pub(super) key: KeyFace,
    pub(super) notes: Vec<Note>,
    pub(super) pair: Option<Pair>,
    pub(super) usage: Option<Spark>,
    pub(super) refusals: Refusals,
    /// `None` if the store does not tell.
    pub(super) history: Option<Vec<Event>>,
    /// How far behind the uses are.
    pub(super) behind: String,
    pub(super) reveal: Option<Reveal>,
    pub(super) receipt: Option<ReceiptView>,
    pub(super) said: Option<String>,
}

/// The new key in full: the only time that it is anywhere but with its owner.
pub(super) struct Reveal {
    /// Where the page can be loaded again, without the key.
    pub(super) page: String,
    pub(super) title: &'static str,
    pub(super) label: String,
    pub(super) environment: super::view::EnvironmentBadge,
    pub(super) key: String,
}

/// Something that its owner should know.
pub(super) struct Note {
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// A rotated key and the one that takes its place.
pub(super) struct Pair {
    pub(super) old: KeyFace,
    pub(super) new: KeyFace,
    pub(super) words: String,
    /// When the old one ends or has ended.
    pub(super) ends: Option<Time>,
    /// How long that is from now.
    pub(super) ends_in: Option<Time>,
    pub(super) end_words: &'static str,
    pub(super) in_grace: String,
}

/// Attempts after the end of the key.
pub(super) struct Refusals {
    pub(super) title: &'static str,
    pub(super) count: String,
    pub(super) last: Option<Time>,
}

/// Something that happened to the key.
pub(super) struct Event {
    pub(super) what: String,
    pub(super) at: Time,
    /// Another key that it is about.
    pub(super) other: Option<KeyId>,
}

/// `GET /settings/api-keys/{id}`.
pub(super) async fn show(
    State(state): State<AdminState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let stored = of_visitor(&state, &visitor, &id).await?;
    page::html(&KeyPage::of(&state, &visitor, &stored).await)
}

impl KeyPage {
    /// The page of a key that the visitor may see. What the store does not tell of it is left out: the page may be the
    /// answer to something that was done.
    pub(super) async fn of(state: &AdminState, visitor: &Visitor, stored: &StoredKey) -> KeyPage {
        let (keys, record) = (seen_by(state, visitor), &stored.record);
        let other = match record.replaced_by.or(record.replaces) {
            Some(id) => keys.get(&id).await.ok(),
            None => None,
        };
        let days = keys.usage(&record.id, DAYS).await.ok().map(|usage| usage.days);
        let happenings = keys.history(&record.id).await.ok();
        KeyPage::with(state, visitor, stored, Story { days, happenings, other })
    }

    /// The page of a key of which all is known: nothing is asked of the store.
    pub(super) fn with(state: &AdminState, visitor: &Visitor, stored: &StoredKey, story: Story) -> KeyPage {
        let Story { days, happenings, other } = story;
        let now = state.clock.now().wall;
        let pair = other.map(|other| match stored.record.replaced_by {
            Some(_) => Pair::of(stored, &other, now),
            None => Pair::of(&other, stored, now),
        });
        KeyPage {
            shell: Shell::of(state, visitor, Page::ApiKeys),
            may_edit: visitor.role >= Role::Editor,
            key: KeyFace::of(stored, now),
            notes: notes(stored, now),
            pair,
            usage: days.map(|days| Spark::of(&days)),
            refusals: Refusals::of(stored, now),
            history: happenings.map(history),
            behind: view::behind(state.flush_interval),
            reveal: None,
            receipt: None,
            said: None,
        }
    }
}

impl Pair {
    fn of(old: &StoredKey, new: &StoredKey, now: Timestamp) -> Pair {
        let standing = Standing::of(old, now);
        let in_grace = old.activity.uses_in_grace;
        let ends = old.record.revoked_at.or(old.record.ends_at());
        let words = match (standing, in_grace) {
            (Standing::Rotating, 0) => "Both keys work. The old one has not been used since the rotation.",
            (Standing::Rotating, _) => "Both keys work. The old one has been used since the rotation.",
            _ => "The old key no longer works.",
        };
        Pair {
            old: KeyFace::of(old, now),
            new: KeyFace::of(new, now),
            words: words.to_owned(),
            ends: ends.map(Time::exact),
            ends_in: ends.filter(|_| standing.lives()).map(|at| Time::relative(at, now)),
            end_words: match standing {
                Standing::Revoked => "Revoked",
                Standing::Expired => "Ended",
                Standing::Active | Standing::Expiring | Standing::Rotating => "Ends",
            },
            in_grace: match in_grace {
                0 => "Not used since the rotation".to_owned(),
                uses => format!("{} since the rotation", count(uses, "request")),
            },
        }
    }
}

impl Refusals {
    fn of(stored: &StoredKey, now: Timestamp) -> Refusals {
        let activity = &stored.activity;
        Refusals {
            title: match stored.record.revoked_at {
                Some(_) => "Tried after revocation",
                None => "Refused",
            },
            count: grouped(activity.refusals),
            last: activity.last_refused_at.map(|at| Time::relative(at, now)),
        }
    }
}

/// What the owner of a key should do, and why.
fn notes(stored: &StoredKey, now: Timestamp) -> Vec<Note> {
    let activity = &stored.activity;
    let standing = Standing::of(stored, now);
    let mut notes = Vec::new();
    let mut note = |kind, text: String| notes.push(Note { kind, text });
    if activity.refusals > 0 && !standing.lives() {
        let tried = count(activity.refusals, "request");
        let what = if standing == Standing::Revoked { "was revoked" } else { "had expired" };
        note(
            "bad",
            format!(
                "{tried} with this key came after it {what}, and every one was refused. Somebody still has it: a forgotten service, or whoever found it."
            ),
        );
    }
    if Mark::Idle.is_on(stored, now) {
        note(
            "warn",
            "This key has shown no activity for 90 days or more: it is likely safe to revoke. Ask your engineers first: \
             they may be about to use it for the first time."
                .to_owned(),
        );
    } else if Mark::RotationDue.is_on(stored, now) {
        note("warn", "This key is older than 90 days and due for rotation.".to_owned());
    }
    if standing == Standing::Expiring {
        note("warn", "This key ends soon. Create another one, and switch to it in time.".to_owned());
    }
    notes
}

/// What happened, the latest first.
fn history(happenings: Vec<Happening>) -> Vec<Event> {
    let event = |Happening { at, what }| {
        let (what, other) = match what {
            HappeningKind::Created { replaces: None } => ("Created".to_owned(), None),
            HappeningKind::Created { replaces } => ("Created by a rotation.".to_owned(), replaces),
            HappeningKind::Imported => ("Imported".to_owned(), None),
            HappeningKind::Renamed { from, to } => (format!("Renamed from “{from}” to “{to}”"), None),
            HappeningKind::ExpiryChanged { from: _, to: None } => ("Expiry date removed".to_owned(), None),
            HappeningKind::ExpiryChanged { from: _, to: Some(to) } => {
                (format!("Expiry date set to {}", view::exact(to)), None)
            }
            HappeningKind::Rotated { replaced_by, retires_at } => {
                let grace = view::exact(retires_at);
                (format!("Rotated. The grace of this key ends {grace}."), Some(replaced_by))
            }
            HappeningKind::Revoked => ("Revoked, for ever".to_owned(), None),
        };
        Event { what, at: Time::exact(at), other }
    };
    happenings.into_iter().rev().map(event).collect()
}

impl Story {
    /// That of a key which has just been made, in the place of `other` if it was made by a rotation.
    pub(super) fn begins(record: &KeyRecord, other: Option<StoredKey>) -> Story {
        let what = HappeningKind::Created { replaces: record.replaces };
        let happenings = Some(vec![Happening { at: record.created_at, what }]);
        Story { days: Some(unused_days(record.created_at)), happenings, other }
    }
}

impl Reveal {
    /// Of a key that has just been made.
    pub(super) fn of(page: &KeyPage, title: &'static str, key: &ApiKey) -> Reveal {
        Reveal {
            page: format!("/settings/api-keys/{}", page.key.id),
            title,
            label: page.key.label.clone(),
            environment: page.key.environment,
            key: key.expose().to_owned(),
        }
    }
}

/// What is shown is wiped with the page.
impl Drop for Reveal {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The key of this id, if the visitor may see it. One of another team is not there.
///
/// # Errors
/// There is no such key, or the store failed.
pub(super) async fn of_visitor(
    state: &AdminState,
    visitor: &Visitor,
    id: &str,
) -> Result<StoredKey, Problem> {
    let id: KeyId = id.parse().map_err(|_| KeyError::NotFound)?;
    Ok(seen_by(state, visitor).get(&id).await?)
}
