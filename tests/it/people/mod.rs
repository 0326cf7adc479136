//! People: log-in, sessions, forms, roles and the walls between teams, on either store.

mod browser;
mod commands;
mod edits;
mod forms;
mod log_in;
mod sessions;
mod walls;

use serde_json::{Value, json};

use crate::stores::Store;
use crate::support::{Gateway, Upstream};

use browser::Browser;

/// Every promise becomes a test on each store.
macro_rules! on_both_stores {
    ($($promise:ident)*) => {
        mod sqlite {
            $(#[test] fn $promise() { super::$promise(&crate::stores::Store::sqlite()); })*
        }
        mod redis {
            $(#[test] fn $promise() { super::$promise(&crate::stores::Store::redis()); })*
        }
    };
}
use on_both_stores;

const PASSWORD: &str = "four words nobody guesses";

/// A gateway and its upstream.
struct House {
    gateway: Gateway,
    _upstream: Upstream,
}

impl House {
    fn of(store: &Store) -> House {
        House::with(store, |builder| builder)
    }

    fn with(
        store: &Store,
        set: impl FnOnce(crate::support::GatewayBuilder) -> crate::support::GatewayBuilder,
    ) -> House {
        let upstream = Upstream::start();
        House { gateway: set(store.builder().live(&upstream)).start(), _upstream: upstream }
    }

    /// Adds somebody whose password is [`PASSWORD`]; the user's id.
    #[track_caller]
    fn add(&self, account: &str, role: &str, team: Option<&str>) -> String {
        let user = json!({"account": account, "role": role, "team": team, "password": PASSWORD});
        let answer = self.gateway.admin().post("/v1/users", &user);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().expect("a user has an id").to_owned()
    }

    /// A browser at which this user has logged in.
    #[track_caller]
    fn logged_in(&self, account: &str) -> Browser {
        let mut browser = self.browser();
        let answer = browser.log_in(account, PASSWORD);
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    fn browser(&self) -> Browser {
        Browser::at(&self.gateway)
    }

    /// A key of a team.
    #[track_caller]
    fn key_of(&self, team: &str) -> (String, String) {
        let label = format!("Server of {team}");
        let created =
            self.gateway.admin().create_with(json!({"label": label, "environment": "live", "team": team}));
        (created.id, created.key)
    }
}

/// What an answer says of an error.
fn code(answer: &crate::support::Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}
