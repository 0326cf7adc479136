//! The console: the pages where a team lives with its keys.
//!
//! Every page is rendered here, from the templates in `pages/`, and works without script: links lead to small forms, and
//! forms are answered with pages. `assets/` has the style sheet and the scripts, which open these forms in dialogs, copy a
//! new key, filter the list as one types and keep times true. A file for each page; `page` is around them all, `shell`
//! is their frame, and `view` what they are made of. Whatever a page does goes through [`KeyService`](crate::keys).

mod assets;
mod create;
mod form;
mod gateways;
mod key;
mod labels;
mod leak;
mod list;
mod page;
mod receipt;
mod revoke;
mod rotate;
mod shell;
mod spark;
mod users;
mod view;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};

use super::problem::Problem;
use super::session::{Caller, HOME, Visitor};
use super::walled::{EditedKeys, SeenKeys};
use super::{AdminState, login};

pub(super) use page::frame;
pub(super) use shell::{Gate, Page, Shell};

/// The pages, with those for logging in.
pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/", get(home))
        .route("/settings", get(home))
        .route("/settings/api-keys", get(list::show).post(create::create))
        .route("/settings/api-keys/new", get(create::ask))
        .route("/settings/api-keys/{id}", get(key::show))
        .route("/settings/api-keys/{id}/revoke", get(revoke::ask).post(revoke::revoke))
        .route("/settings/api-keys/{id}/rotate", get(rotate::ask).post(rotate::rotate))
        .route("/settings/gateways", get(gateways::show))
        .route("/settings/leaked-key", get(leak::ask).post(leak::look))
        .route("/settings/users", get(users::list).post(users::add))
        .route("/settings/users/new", get(users::ask))
        .route("/settings/users/{id}", get(users::edit).post(users::change))
        .route("/settings/users/{id}/link", post(users::link))
        .route("/settings/users/{id}/remove", get(users::ask_removal).post(users::remove))
        .merge(login::routes())
}

/// What the pages load. Nobody has to log in for it.
pub(super) fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{hash}/{name}", get(assets::serve))
}

async fn home() -> Response {
    page::see(HOME)
}

/// The keys that a visitor may know of.
fn seen_by(state: &AdminState, visitor: &Visitor) -> SeenKeys {
    state.keys.seen_by(&Caller::Person(visitor.clone()))
}

/// Those that a visitor may change.
///
/// # Errors
/// 403 for a viewer.
fn edited_by(state: &AdminState, visitor: &Visitor) -> Result<EditedKeys, Problem> {
    state.keys.edited_by(&Caller::Person(visitor.clone()))
}
