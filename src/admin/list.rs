//! The query of a list of keys, and the cursors that clients hold.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::form_urlencoded;
use utoipa::{IntoParams, ToSchema};

use crate::keys::{MAX_DAYS, has_key_digits};
use crate::model::{Environment, KeyId, KeyStatus, Timestamp};
use crate::store::{Cursor, KeyState, ListQuery, Mark, Place, Sort, SortBy, SortOrder};

use super::problem::Problem;

/// Keys in a page where nothing is said.
pub(super) const DEFAULT_PAGE: usize = 50;
/// Keys in a page at most.
pub(super) const MAX_PAGE: usize = 200;
/// Days of a key's usage where nothing is said.
pub(super) const DEFAULT_DAYS: usize = 30;
/// Characters of a search at most: as many as a label has.
pub(super) const MAX_SEARCH: usize = 100;

/// What the query of a list may say; [`read`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the API's description alone")]
pub(super) struct ListParameters {
    /// A part of the label; or, from four characters on, of the displayed characters, or the beginning of the id. Case does
    /// not matter.
    #[param(max_length = 100)]
    q: Option<String>,
    /// Only this team's keys.
    team: Option<String>,
    /// Only this environment's keys.
    environment: Option<Environment>,
    /// Only keys of this status, or with this mark: `expiring` is what ends within 7 days, `idle` what was neither made nor
    /// used for 90 days, `rotation_due` what was made 90 days ago or before.
    #[param(inline)]
    status: Option<StatusParameter>,
    /// By what; `created` if nothing is said.
    #[param(inline)]
    sort: Option<SortParameter>,
    /// Which way; `desc` if nothing is said, and `asc` for labels.
    #[param(inline)]
    order: Option<OrderParameter>,
    /// Keys in a page; 50 if nothing is said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of a page before of the same list. Keys that are made meanwhile shift nothing.
    cursor: Option<String>,
    /// Whether to count the keys on all pages.
    total: Option<bool>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the API's description alone")]
enum StatusParameter {
    Active,
    Expiring,
    Rotating,
    Expired,
    Revoked,
    Idle,
    NeverUsed,
    RotationDue,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the API's description alone")]
enum SortParameter {
    Created,
    LastUsed,
    Label,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the API's description alone")]
enum OrderParameter {
    Asc,
    Desc,
}

const KNOWN: &str =
    "is unknown; allowed are q, team, environment, status, sort, order, limit, cursor and total";

/// Reads the query of a list, as of `now`. Names that it does not know are refused: a misspelled filter would list
/// everything.
///
/// # Errors
/// 400, with the name of the parameter.
pub(super) fn read(query: &str, now: Timestamp) -> Result<ListQuery, Problem> {
    let mut list = ListQuery::default();
    let (mut by, mut order, mut cursor) = (None, None, None);
    let (mut limit, mut count) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let bad = |what: &str| bad_parameter(&name, what);
        let once = |first: bool| first.then_some(()).ok_or_else(|| bad("is there twice"));
        match name.as_ref() {
            "q" => once(list.search.replace(search(&value).map_err(bad)?).is_none())?,
            "team" => once(list.team.replace(value.into_owned()).is_none())?,
            "environment" => {
                let environment = value.parse().map_err(|_| bad("must be live or sandbox"))?;
                once(list.environment.replace(environment).is_none())?;
            }
            "status" => {
                let state = state(&value).ok_or_else(|| {
                    bad("must be active, expiring, rotating, expired, revoked, idle, never_used or rotation_due")
                })?;
                once(list.state.replace((state, now)).is_none())?;
            }
            "sort" => {
                let sort = sort_by(&value).ok_or_else(|| bad("must be created, last_used or label"))?;
                once(by.replace(sort).is_none())?;
            }
            "order" => {
                let way = match value.as_ref() {
                    "asc" => SortOrder::Ascending,
                    "desc" => SortOrder::Descending,
                    _ => return Err(bad("must be asc or desc")),
                };
                once(order.replace(way).is_none())?;
            }
            "limit" => {
                let number: Option<usize> = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                let number = number.ok_or_else(|| bad(&format!("must be 1 to {MAX_PAGE}")))?;
                once(limit.replace(number).is_none())?;
            }
            "cursor" => once(cursor.replace(value.into_owned()).is_none())?,
            "total" => {
                let wanted: bool = value.parse().map_err(|_| bad("must be true or false"))?;
                once(count.replace(wanted).is_none())?;
            }
            _ => return Err(bad(KNOWN)),
        }
    }
    let by = by.unwrap_or_default();
    list.sort = Sort { by, order: order.unwrap_or(usual_order(by)) };
    list.limit = limit.unwrap_or(DEFAULT_PAGE);
    list.count = count.unwrap_or(false);
    list.after = cursor
        .map(|text| {
            let cursor = decode_cursor(&text).filter(|cursor| sorted_by(cursor) == by);
            cursor.ok_or_else(|| bad_parameter("cursor", "is not a next_cursor of a page of this list"))
        })
        .transpose()?;
    Ok(list)
}

/// Reads the query of a key's usage: how many days.
///
/// # Errors
/// 400, with the name of the parameter.
pub(super) fn read_days(query: &str) -> Result<usize, Problem> {
    let mut days = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "days" {
            return Err(bad_parameter(&name, "is unknown; allowed is days"));
        }
        let number = value.parse().ok().filter(|number| (1..=MAX_DAYS).contains(number));
        let number = number.ok_or_else(|| bad_parameter(&name, &format!("must be 1 to {MAX_DAYS}")))?;
        if days.replace(number).is_some() {
            return Err(bad_parameter(&name, "is there twice"));
        }
    }
    Ok(days.unwrap_or(DEFAULT_DAYS))
}

/// Which way people expect where nothing is said.
fn usual_order(by: SortBy) -> SortOrder {
    match by {
        SortBy::Created | SortBy::LastUsed => SortOrder::Descending,
        SortBy::Label => SortOrder::Ascending,
    }
}

/// Who searches for a whole key has found one: it has to be revoked, and must not stand in an address.
fn search(text: &str) -> Result<String, &'static str> {
    if text.chars().count() > MAX_SEARCH {
        Err("must be at most 100 characters")
    } else if has_key_digits(text) {
        Err("must not be a whole key; send it to /v1/keys/find to see whose it is, or to /v1/keys/revoke")
    } else {
        Ok(text.to_owned())
    }
}

fn state(text: &str) -> Option<KeyState> {
    let status = match text {
        "active" => KeyStatus::Active,
        "rotating" => KeyStatus::Rotating,
        "expired" => KeyStatus::Expired,
        "revoked" => KeyStatus::Revoked,
        other => return Mark::ALL.into_iter().find(|mark| mark.as_str() == other).map(KeyState::Mark),
    };
    Some(KeyState::Status(status))
}

fn sort_by(text: &str) -> Option<SortBy> {
    match text {
        "created" => Some(SortBy::Created),
        "last_used" => Some(SortBy::LastUsed),
        "label" => Some(SortBy::Label),
        _ => None,
    }
}

fn bad_parameter(name: &str, what: &str) -> Problem {
    Problem::bad_request(format!("the parameter `{name}` {what}"))
}

/// What the list was sorted by in which this is a place.
pub(super) fn sorted_by(cursor: &Cursor) -> SortBy {
    match cursor.place {
        Place::Created(_) => SortBy::Created,
        Place::LastUsed(_) => SortBy::LastUsed,
        Place::Label(_) => SortBy::Label,
    }
}

/// Opaque to clients, so that its form can change.
pub(super) fn encode_cursor(cursor: &Cursor) -> String {
    let id = &cursor.id;
    URL_SAFE_NO_PAD.encode(match &cursor.place {
        Place::Created(at) => format!("{id}.c.{}", at.as_millis()),
        Place::LastUsed(Some(at)) => format!("{id}.u.{}", at.as_millis()),
        Place::LastUsed(None) => format!("{id}.u."),
        Place::Label(label) => format!("{id}.l.{label}"),
    })
}

/// Reads what [`encode_cursor`] wrote.
pub(super) fn decode_cursor(text: &str) -> Option<Cursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = text.splitn(3, '.');
    let (id, kind, value): (KeyId, &str, &str) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let millis = || value.parse().ok().map(Timestamp::from_millis);
    let place = match kind {
        "c" => Place::Created(millis()?),
        "u" if value.is_empty() => Place::LastUsed(None),
        "u" => Place::LastUsed(Some(millis()?)),
        "l" => Place::Label(value.to_owned()),
        _ => return None,
    };
    Some(Cursor { place, id })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Shard;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn places() -> impl Strategy<Value = Place> {
        let moment = || any::<i64>().prop_map(Timestamp::from_millis);
        prop_oneof![
            moment().prop_map(Place::Created),
            prop::option::of(moment()).prop_map(Place::LastUsed),
            ".{0,100}".prop_map(Place::Label),
        ]
    }

    proptest! {
        #[test]
        fn a_cursor_survives_the_way_to_the_client_and_back(place in places(), random in any::<[u8; 10]>()) {
            let cursor = Cursor { place, id: KeyId::new(Shard::all().next().unwrap(), random) };
            prop_assert_eq!(decode_cursor(&encode_cursor(&cursor)), Some(cursor));
        }

        #[test]
        fn no_query_panics(query in ".{0,80}", cursor in "[A-Za-z0-9_-]{0,60}") {
            let _ = read(&query, NOW);
            let _ = read(&format!("cursor={cursor}"), NOW);
        }
    }

    #[test]
    fn every_parameter_is_read() {
        let id = KeyId::new(Shard::all().next().unwrap(), [7; 10]);
        let after = Cursor { place: Place::Label("a.b".to_owned()), id };
        let query = format!(
            "q=Prod%20Server&team=acme&environment=live&status=idle&sort=label&order=desc&limit=7&total=true&cursor={}",
            encode_cursor(&after)
        );
        let expected = ListQuery {
            team: Some("acme".into()),
            environment: Some(Environment::Live),
            state: Some((KeyState::Mark(Mark::Idle), NOW)),
            search: Some("Prod Server".into()),
            sort: Sort { by: SortBy::Label, order: SortOrder::Descending },
            after: Some(after),
            limit: 7,
            count: true,
        };
        assert_eq!(read(&query, NOW).unwrap(), expected);
        assert_eq!(read("", NOW).unwrap(), ListQuery { limit: DEFAULT_PAGE, ..ListQuery::default() });
        assert_eq!(read("sort=label", NOW).unwrap().sort.order, SortOrder::Ascending);
    }

    #[test]
    fn days_are_a_number_that_is_kept() {
        assert_eq!((read_days("").unwrap(), read_days("days=90").unwrap()), (30, 90));
        for bad in ["days=0", "days=91", "days=-1", "days=x", "days=1&days=2", "day=1"] {
            assert!(read_days(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let id = KeyId::new(Shard::all().next().unwrap(), [7; 10]);
        let of_another_list = encode_cursor(&Cursor { place: Place::LastUsed(None), id });
        for query in [
            "team=a&team=b",
            "q=a&q=b",
            "sort=colour",
            "order=up",
            "total=1",
            "limit=0",
            "limit=201",
            "status=dead",
            "label=a",
            "cursor=nonsense",
            &format!("cursor={of_another_list}"),
            &format!("q={}", "ß".repeat(101)),
            &format!("q=sk_live_{}", "0".repeat(64)),
        ] {
            assert!(read(query, NOW).is_err(), "{query}");
        }
    }
}
