//! *Settings → API Keys*: the list, with search, filters and sort.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use url::form_urlencoded;

use crate::admin::AdminState;
use crate::admin::list::{decode_cursor, encode_cursor, sorted_by};
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::keys::has_key_digits;
use crate::model::{KeyStatus, Role, Timestamp};
use crate::store::{KeyState, ListQuery, Mark, Sort, SortBy, SortOrder};

use super::shell::{Page, Shell};
use super::view::{self, KeyFace, count};
use super::{page, seen_by};

/// Keys on a page.
const PAGE: usize = 50;
/// Characters of a search; a label has no more.
const MAX_SEARCH: usize = 100;
const PATH: &str = "/settings/api-keys";

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    shell: Shell,
    may_edit: bool,
    filter: Filter,
    columns: Vec<Column>,
    rows: Vec<KeyFace>,
    summary: String,
    first: Option<String>,
    next: Option<String>,
    /// How far behind Last Used is.
    behind: String,
}

/// What is asked of the list. A value that it does not know is as if it were not there: an old address goes on.
#[derive(Clone, Default)]
struct Filter {
    search: String,
    environment: &'static str,
    state: &'static str,
    /// As in [`SORTS`]; nothing is the latest first.
    sort: &'static str,
    cursor: Option<String>,
    /// Whether only one team's keys are seen.
    team_walls: bool,
}

/// A list of choices, in groups; the first group has no name.
struct Select {
    name: &'static str,
    title: &'static str,
    groups: Vec<Group>,
}

struct Group {
    name: &'static str,
    options: Vec<Choice>,
}

struct Choice {
    value: &'static str,
    text: &'static str,
    chosen: bool,
}

/// The head of a column.
struct Column {
    title: &'static str,
    /// Where the list is sorted by this column, or the other way round.
    path: Option<String>,
    /// For `aria-sort`.
    sorted: Option<&'static str>,
}

type Choices = &'static [(&'static str, &'static str)];

const ENVIRONMENTS: Choices = &[("", "All"), ("live", "Live"), ("sandbox", "Sandbox")];
const STATUSES: Choices = &[
    ("", "All"),
    ("active", "Active"),
    ("expiring", "Expiring"),
    ("rotating", "Rotating"),
    ("expired", "Expired"),
    ("revoked", "Revoked"),
];
const MARKS: Choices = &[
    ("idle", "No activity for 90 days"),
    ("never_used", "Never used"),
    ("rotation_due", "Due for rotation"),
];

/// How each order is spelled, and its column; of each column, the order that people expect first stands first.
const SORTS: [(&str, &str, Sort); 6] = [
    ("label", "Label", Sort { by: SortBy::Label, order: SortOrder::Ascending }),
    ("-label", "Label", Sort { by: SortBy::Label, order: SortOrder::Descending }),
    ("", "Created", Sort { by: SortBy::Created, order: SortOrder::Descending }),
    ("created", "Created", Sort { by: SortBy::Created, order: SortOrder::Ascending }),
    ("-last_used", "Last Used", Sort { by: SortBy::LastUsed, order: SortOrder::Descending }),
    ("last_used", "Last Used", Sort { by: SortBy::LastUsed, order: SortOrder::Ascending }),
];
/// The same orders in words, for screens on which the columns have no heads.
const ORDERS: Choices = &[
    ("", "Newest first"),
    ("created", "Oldest first"),
    ("label", "Label, A to Z"),
    ("-label", "Label, Z to A"),
    ("-last_used", "Last used first"),
    ("last_used", "Longest unused first"),
];
const COLUMNS: [&str; 5] = ["Label", "Environment", "Created", "Last Used", "Status"];

/// `GET /settings/api-keys`.
pub(super) async fn show(
    State(state): State<AdminState>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let now = state.clock.now().wall;
    let filter = Filter {
        team_walls: visitor.wall().is_some(),
        ..Filter::read(query.as_deref().unwrap_or_default())?
    };
    let found = seen_by(&state, &visitor).list(&filter.query(visitor.wall(), now)).await?;
    let total = found.total.unwrap_or(0);
    let summary = match found.keys.len() as u64 {
        shown if shown == total => format!("{}.", count(total, "key")),
        shown => format!("{} of {}.", shown, count(total, "key")),
    };
    let page = ListPage {
        shell: Shell::of(&state, &visitor, Page::ApiKeys),
        may_edit: visitor.role >= Role::Editor,
        columns: filter.columns(),
        rows: found.keys.iter().map(|key| KeyFace::of(key, now)).collect(),
        summary,
        first: filter.cursor.as_ref().map(|_| filter.behind(None)),
        next: found.next.map(|cursor| filter.behind(Some(encode_cursor(&cursor)))),
        behind: view::behind(state.flush_interval),
        filter,
    };
    page::html(&page)
}

impl Filter {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// Somebody searches for a whole key.
    fn read(query: &str) -> Result<Filter, Problem> {
        let mut filter = Filter::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let known =
                |choices: Choices| choices.iter().map(|(known, _)| *known).find(|known| *known == value);
            match name.as_ref() {
                "q" => filter.search = value.trim().chars().take(MAX_SEARCH).collect(),
                "environment" => filter.environment = known(ENVIRONMENTS).unwrap_or_default(),
                "status" => filter.state = known(STATUSES).or(known(MARKS)).unwrap_or_default(),
                "sort" => {
                    let sort = SORTS.iter().map(|(spelling, ..)| *spelling).find(|known| *known == value);
                    filter.sort = sort.unwrap_or_default();
                }
                "cursor" => filter.cursor = Some(value.into_owned()),
                _ => {}
            }
        }
        if has_key_digits(&filter.search) {
            return Err(Problem::invalid(
                "this is a whole key. Never put one into a search: its address is kept. Use Report a leaked key",
            ));
        }
        Ok(filter)
    }

    /// What the keys are asked.
    fn query(&self, team: Option<&str>, now: Timestamp) -> ListQuery {
        let sort = self.order();
        let cursor = self.cursor.as_deref().and_then(decode_cursor);
        ListQuery {
            team: team.map(str::to_owned),
            environment: self.environment.parse().ok(),
            state: self.state().map(|state| (state, now)),
            search: (!self.search.is_empty()).then(|| self.search.clone()),
            sort,
            // One of another order says nothing here.
            after: cursor.filter(|cursor| sorted_by(cursor) == sort.by),
            limit: PAGE,
            count: true,
        }
    }

    fn state(&self) -> Option<KeyState> {
        Some(match self.state {
            "active" => KeyState::Status(KeyStatus::Active),
            "rotating" => KeyState::Status(KeyStatus::Rotating),
            "expired" => KeyState::Status(KeyStatus::Expired),
            "revoked" => KeyState::Status(KeyStatus::Revoked),
            mark => KeyState::Mark(Mark::ALL.into_iter().find(|known| known.as_str() == mark)?),
        })
    }

    fn order(&self) -> Sort {
        SORTS.iter().find(|(spelling, ..)| *spelling == self.sort).map(|(.., sort)| *sort).unwrap_or_default()
    }

    fn selects(&self) -> [Select; 3] {
        let group = |name, choices: Choices, chosen| {
            let choice = |(value, text): &(&'static str, &'static str)| Choice {
                value,
                text,
                chosen: *value == chosen,
            };
            Group { name, options: choices.iter().map(choice).collect() }
        };
        let environments = vec![group("", ENVIRONMENTS, self.environment)];
        let states = vec![group("", STATUSES, self.state), group("Worth a look", MARKS, self.state)];
        [
            Select { name: "environment", title: "Environment", groups: environments },
            Select { name: "status", title: "Status", groups: states },
            Select { name: "sort", title: "Sort by", groups: vec![group("", ORDERS, self.sort)] },
        ]
    }

    fn columns(&self) -> Vec<Column> {
        let column = |title| {
            let mut orders = SORTS.iter().filter(|(_, column, _)| *column == title);
            let (first, second) = (orders.next(), orders.next());
            let chosen = [first, second].into_iter().flatten().find(|(spelling, ..)| *spelling == self.sort);
            // What the column is sorted by is turned round; else it begins as people expect.
            let next = if chosen.is_some() && chosen == first { second } else { first };
            Column {
                title,
                path: next.map(|(sort, ..)| Filter { sort, ..self.clone() }.behind(None)),
                sorted: chosen
                    .map(|(.., sort)| if sort.order.is_descending() { "descending" } else { "ascending" }),
            }
        };
        COLUMNS.map(column).into()
    }

    /// Whether nothing is filtered out.
    fn is_open(&self) -> bool {
        self.search.is_empty()
            && self.environment.is_empty()
            && self.state.is_empty()
            && self.cursor.is_none()
    }

    /// The address of the page behind a cursor, or of the first one.
    fn behind(&self, cursor: Option<String>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let cursor = cursor.unwrap_or_default();
        let members = [
            ("q", self.search.as_str()),
            ("environment", self.environment),
            ("status", self.state),
            ("sort", self.sort),
            ("cursor", &cursor),
        ];
        for (name, value) in members.into_iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        match query.finish() {
            query if query.is_empty() => PATH.to_owned(),
            query => format!("{PATH}?{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_is_shown() {
        let query = "q=a+%26+b&environment=live&status=never_used&sort=-label";
        let filter = Filter::read(query).unwrap();
        assert_eq!(filter.behind(None), format!("{PATH}?{query}"));
        assert_eq!(filter.behind(Some("x".into())), format!("{PATH}?{query}&cursor=x"));
        assert_eq!(Filter::read("environment=mars&status=dead&sort=x&y=z").unwrap().behind(None), PATH);
        assert!(Filter::read(&format!("q=sk_live_{}", "0".repeat(64))).is_err());
    }

    #[test]
    fn every_choice_is_understood() {
        for (value, _) in STATUSES.iter().chain(MARKS).filter(|(value, _)| !value.is_empty()) {
            assert!(Filter { state: value, ..Filter::default() }.state().is_some(), "{value}");
        }
        let spelled: Vec<_> = ORDERS.iter().map(|(spelling, _)| *spelling).collect();
        assert!(SORTS.iter().all(|(spelling, ..)| spelled.contains(spelling)));
    }

    #[test]
    fn a_column_is_turned_round_by_its_head() {
        let columns = Filter::default().columns();
        assert_eq!(columns[2].sorted, Some("descending"));
        assert_eq!(columns[2].path.as_deref(), Some("/settings/api-keys?sort=created"));
        assert_eq!(columns[0].path.as_deref(), Some("/settings/api-keys?sort=label"));
        let columns = Filter { sort: "label", ..Filter::default() }.columns();
        assert_eq!(columns[0].sorted, Some("ascending"));
        assert_eq!(columns[0].path.as_deref(), Some("/settings/api-keys?sort=-label"));
        assert_eq!((columns[1].path.as_deref(), columns[1].sorted), (None, None));
    }
}
