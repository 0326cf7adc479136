//! *Gateways*: the fleet, with how far each is behind.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::admin::AdminState;
use crate::admin::problem::Problem;
use crate::admin::session::Visitor;
use crate::keys::KeyError;
use crate::model::Timestamp;
use crate::roll::Gateway;

use super::page;
use super::shell::{Page, Shell};
use super::view::{self, Time, count, grouped};

/// A gateway writes its line each second; from here on its silence is worth a word.
const SILENT: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "gateways.html")]
struct GatewaysPage {
    shell: Shell,
    gateways: Vec<Row>,
    summary: String,
}

struct Row {
    id: String,
    name: String,
    this: bool,
    version: String,
    started: Time,
    lag: String,
    silent: String,
    state: &'static str,
    css: &'static str,
}

/// `GET /settings/gateways`.
pub(super) async fn show(State(state): State<AdminState>, visitor: Visitor) -> Result<Response, Problem> {
    let gateways = state.roll.gateways().await.map_err(KeyError::from)?;
    let now = state.clock.now().wall;
    let ready = state.health.readiness().is_ready();
    let rows: Vec<Row> = gateways.into_iter().map(|gateway| Row::of(gateway, ready, now)).collect();
    let current = rows.iter().filter(|row| row.state == "Current").count();
    let summary = format!("{current} of {} current.", count(rows.len() as u64, "gateway"));
    page::html(&GatewaysPage { shell: Shell::of(&state, &visitor, Page::Gateways), gateways: rows, summary })
}

impl Row {
    /// `ready` is whether the gateway that shows this is.
    fn of(gateway: Gateway, ready: bool, now: Timestamp) -> Row {
        let Gateway { member, this, lag, silent_for } = gateway;
        let (state, css) = match lag {
            _ if silent_for >= SILENT => ("Silent", "status-expiring"),
            Some(0) => ("Current", "status-active"),
            // One that keeps its keys itself has nobody to follow.
            None if this && ready => ("Current", "status-active"),
            Some(_) => ("Catching up", "status-rotating"),
            None => ("Starting", "status-rotating"),
        };
        Row {
            id: member.id.to_string(),
            name: member.name,
            this,
            version: member.version,
            started: Time::relative(member.started_at, now),
            lag: match lag {
                Some(lag) => grouped(lag),
                None if state == "Current" => "0".to_owned(),
                None => "Not known yet".to_owned(),
            },
            silent: view::ago(silent_for),
            state,
            css,
        }
    }
}
