//! `keygate gateways` and `keygate store`.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{GatewayId, Head, Timestamp};

use super::api::{Api, ApiArguments};
use super::card::not_understood;
use super::failure::Failure;
use super::table::{Table, date, printable};
use super::{World, print, print_json};

/// A gateway whose line has not changed for so long is said to be silent: it writes one each second, and others look
/// every five.
const SILENT_MS: u64 = 10_000;

#[derive(Debug, Args)]
pub(super) struct GatewaysArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Prints what the admin API answers, as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
pub(super) struct StoreArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Prints what the admin API answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Shows what is there where the store should be, and whether it is the fleet's.
    Show,
    /// Makes what is there the fleet's store, as it is.
    Accept {
        /// Does it. Without it, says what it would mean.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Deserialize)]
struct Gateway {
    id: GatewayId,
    name: String,
    version: String,
    started_at: Timestamp,
    this: bool,
    lag_events: Option<u64>,
    silent_for_ms: u64,
    positions: Vec<Head>,
}

#[derive(Debug, Deserialize)]
struct Report {
    ours: Option<String>,
    found: Option<String>,
    entries: u64,
    mismatch: Option<String>,
}

/// `keygate gateways`.
pub(super) fn gateways(
    arguments: &GatewaysArguments,
    world: &mut World<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let fleet = Api::open(&arguments.api, world)?.get("/v1/gateways")?;
    if arguments.json {
        return print_json(world, &fleet);
    }
    let gateways: Vec<Gateway> =
        Deserialize::deserialize(&fleet["data"]).map_err(|error| not_understood(&error.to_string()))?;
    let mut table = Table::new(["ID", "NAME", "VERSION", "STARTED", "APPLIED", "BEHIND", "STATE"]);
    for gateway in &gateways {
        let state = match gateway.silent_for_ms {
            silent @ SILENT_MS.. => format!("silent for {} s", silent / 1000),
            _ if gateway.positions.is_empty() => "starting".to_owned(),
            _ if gateway.this => "answers this".to_owned(),
            _ => "well".to_owned(),
        };
        table.row([
            gateway.id.to_string(),
            printable(&gateway.name),
            printable(&gateway.version),
            date(gateway.started_at, now),
            gateway.positions.iter().map(|position| position.seq).sum::<u64>().to_string(),
            gateway.lag_events.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string()),
            state,
        ]);
    }
    print(world, &table.to_string())
}

/// `keygate store`.
pub(super) fn store(arguments: &StoreArguments, world: &mut World<'_>) -> Result<(), Failure> {
    let api = Api::open(&arguments.api, world)?;
    let found = api.get("/v1/store")?;
    match arguments.command {
        StoreCommand::Show if arguments.json => print_json(world, &found),
        StoreCommand::Show => print(world, &card(&read(&found)?)),
        StoreCommand::Accept { yes } => accept(&api, &found, yes, arguments.json, world),
    }
}

fn accept(api: &Api, found: &Value, yes: bool, json: bool, world: &mut World<'_>) -> Result<(), Failure> {
    let report = read(found)?;
    if report.mismatch.is_none() {
        return match json {
            true => print_json(world, found),
            false => print(
                world,
                &format!("{}\nIt is the fleet's store: nothing has to be accepted.\n", card(&report)),
            ),
        };
    }
    if !yes {
        match json {
            true => print_json(world, found)?,
            false => print(world, &format!("{}\n{}\n", card(&report), meaning(&report)))?,
        }
        return Err(Failure::usage(anyhow!(
            "nothing was done; repeat it with --yes to accept the store as it is"
        )));
    }
    let accepted = api.post("/v1/store/accept", &json!({ "found": report.found }))?;
    match json {
        true => print_json(world, &accepted),
        false => {
            print(world, &format!("{}\nIt is the fleet's store from now on.\n", card(&read(&accepted)?)))
        }
    }
}

fn read(report: &Value) -> Result<Report, Failure> {
    Report::deserialize(report).map_err(|error| not_understood(&error.to_string()))
}

fn card(report: &Report) -> String {
    let name = |id: &Option<String>| id.as_deref().map_or_else(|| "none".to_owned(), printable);
    let state = report.mismatch.as_deref().map_or_else(|| "well".to_owned(), printable);
    format!(
        "{:<13}{}\n{:<13}{}\n{:<13}{}\n{:<13}{state}\n",
        "fleet's",
        name(&report.ours),
        "found",
        name(&report.found),
        "entries",
        report.entries,
        "state",
    )
}

fn meaning(report: &Report) -> String {
    let loss = match report.entries {
        0 => {
            "it holds nothing: every key that it held is unknown from then on, and every revocation that no gateway \
             remembers is forgotten"
        }
        _ => {
            "what it does not hold is lost: keys that are not in it are unknown from then on, and a key that was \
             revoked after this copy was made works again, unless a gateway remembers its revocation"
        }
    };
    format!(
        "To accept it means that the fleet goes on with it as it is, under the fleet's identity and secrets, and that \
         {loss}. If there is a backup or an append-only file, restore it instead."
    )
}
