//! `keygate keys`.

use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::keys::{Grace, MalformedExpiry, RelativeExpiry};
use crate::model::{Environment, KeyId, Timestamp};

use super::api::{Api, ApiArguments};
use super::card::{Key, card, not_understood, table};
use super::failure::Failure;
use super::receipt::receipt;
use super::table::{printable, time};
use super::{World, import, print, print_json, story};

/// Keys in one page of a list.
const PAGE: usize = 200;
/// More than a key has; what is longer is a file in the wrong place.
const MAX_INPUT: u64 = 4096;

#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
pub(super) struct KeysArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Prints what the admin API answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Makes a key, and shows it for the only time.
    Create {
        /// Where the key will be used, as "Production Server".
        #[arg(long)]
        label: String,
        /// live or sandbox.
        #[arg(long = "env", value_name = "ENVIRONMENT")]
        environment: Environment,
        /// Whose key it is [default: default].
        #[arg(long)]
        team: Option<String>,
        /// When it stops working: 30d, 12h, or 2026-01-31T12:00:00Z.
        #[arg(long, value_name = "WHEN")]
        expires: Option<Expiry>,
    },
    /// Lists keys.
    List {
        /// Only this team's.
        #[arg(long)]
        team: Option<String>,
        /// Only live or sandbox.
        #[arg(long = "env", value_name = "ENVIRONMENT")]
        environment: Option<Environment>,
        /// Only those with this status, or of which this is true.
        #[arg(long)]
        status: Option<Status>,
        /// Only those whose label has this in it, or whose id or shown characters do.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// In this order [default: created].
        #[arg(long)]
        sort: Option<Sort>,
        /// Which way [default: desc, and asc for labels].
        #[arg(long)]
        order: Option<Order>,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Shows one key, how often it was used in the last 30 days, and what happened to it.
    Show {
        /// As `keys list` shows it: key_…
        id: KeyId,
    },
    /// Says which key it is that somebody has found: reads the key itself from standard input.
    Find,
    /// Changes a key's label or its expiry date.
    Edit(EditArguments),
    /// Revokes a key, at once and for ever, and says which gateways have stopped accepting it.
    Revoke(RevokeArguments),
    /// Makes a key that takes the place of another, which ends after a grace.
    Rotate {
        /// As `keys list` shows it: key_…
        id: KeyId,
        /// How long the old key goes on: 0s to 7d [default: 24h].
        #[arg(long)]
        grace: Option<Grace>,
    },
    /// Takes over existing keys by their SHA-256: JSON lines, or CSV with sha256,label,environment[,team].
    Import {
        /// `-` is standard input.
        file: PathBuf,
    },
}

/// At least one of both changes.
#[derive(Debug, Args)]
struct EditArguments {
    /// As `keys list` shows it: key_…
    id: KeyId,
    /// Where the key is used.
    #[arg(long, required_unless_present = "expires")]
    label: Option<String>,
    /// When it stops working: 30d, 12h, 2026-01-31T12:00:00Z, or never.
    #[arg(long, value_name = "WHEN")]
    expires: Option<NewExpiry>,
}

/// One of both.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RevokeArguments {
    /// As `keys list` shows it: key_…
    id: Option<KeyId>,
    /// Reads the key itself from standard input: for whoever found one and has no id.
    #[arg(long)]
    key_stdin: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Active,
    Rotating,
    Expired,
    Revoked,
    /// It ends within 7 days.
    Expiring,
    /// It was neither made nor used for 90 days.
    Idle,
    #[value(name = "never_used")]
    NeverUsed,
    /// It was made 90 days ago or before.
    #[value(name = "rotation_due")]
    RotationDue,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Created,
    #[value(name = "last_used")]
    LastUsed,
    Label,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

/// An expiry, or none any more.
#[derive(Clone, Copy, Debug)]
enum NewExpiry {
    Never,
    When(Expiry),
}

impl FromStr for NewExpiry {
    type Err = MalformedExpiry;

    fn from_str(text: &str) -> Result<NewExpiry, MalformedExpiry> {
        if text == "never" { Ok(NewExpiry::Never) } else { text.parse().map(NewExpiry::When) }
    }
}

/// A moment, or a length of life.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    At(Timestamp),
    In(RelativeExpiry),
}

impl FromStr for Expiry {
    type Err = MalformedExpiry;

    fn from_str(text: &str) -> Result<Expiry, MalformedExpiry> {
        match text.parse() {
            Ok(moment) => Ok(Expiry::At(moment)),
            Err(_) => text.parse().map(Expiry::In),
        }
    }
}

pub(super) fn run(arguments: KeysArguments, world: &mut World<'_>, now: Timestamp) -> Result<(), Failure> {
    let api = Api::open(&arguments.api, world)?;
    let json = arguments.json;
    match arguments.command {
        KeysCommand::Create { label, environment, team, expires } => {
            let mut body = json!({ "label": label, "environment": environment });
            if let Some(team) = team {
                body["team"] = team.into();
            }
            if let Some(expiry) = expires {
                put_expiry(&mut body, expiry);
            }
            let created = api.post("/v1/keys", &body)?;
            show_new(world, &created, "", json, now)
        }
        KeysCommand::List { team, environment, status, search, sort, order, limit } => {
            let filters = [
                ("team", team),
                ("environment", environment.map(|environment| environment.to_string())),
                ("status", name_of(status)),
                ("q", search),
                ("sort", name_of(sort)),
                ("order", name_of(order)),
            ];
            let keys = list(&api, &filters, limit.unwrap_or(usize::MAX))?;
            match json {
                true => print_json(world, &json!({ "data": keys })),
                false => print(world, &table(&keys, now)?),
            }
        }
        KeysCommand::Show { id } => {
            let path = format!("/v1/keys/{id}");
            let mut key = of_key(&id, api.get(&path))?;
            let mut usage = of_key(&id, api.get(&format!("{path}/usage")))?;
            let mut history = of_key(&id, api.get(&format!("{path}/history")))?;
            match json {
                true => {
                    key["usage"] = usage.take();
                    key["history"] = history["data"].take();
                    print_json(world, &key)
                }
                false => {
                    let shown = card(&Key::read(&key)?, now);
                    let (uses, past) = (story::uses(&usage)?, story::past(&history["data"], now)?);
                    print(world, &format!("{shown}{uses}\n{past}"))
                }
            }
        }
        KeysCommand::Find => {
            let found =
                api.post("/v1/keys/find", &json!({ "key": read_key("keys find", world)?.as_str() }))?;
            match json {
                true => print_json(world, &found),
                false => print(world, &card(&Key::read(&found)?, now)),
            }
        }
        KeysCommand::Edit(EditArguments { id, label, expires }) => {
            let path = format!("/v1/keys/{id}");
            let mut body = json!({});
            if let Some(label) = label {
                body["label"] = label.into();
            }
            match expires {
                Some(NewExpiry::Never) => body["expires_at"] = Value::Null,
                Some(NewExpiry::When(expiry)) => put_expiry(&mut body, expiry),
                None => {}
            }
            let (_, tag) = of_key(&id, api.get_tagged(&path))?;
            let edited = of_key(&id, api.patch(&path, &tag, &body))?;
            match json {
                true => print_json(world, &edited),
                false => print(world, &card(&Key::read(&edited)?, now)),
            }
        }
        KeysCommand::Revoke(RevokeArguments { id, key_stdin: _ }) => {
            let revoked = match id {
                Some(id) => of_key(&id, api.post(&format!("/v1/keys/{id}/revoke"), &json!({})))?,
                None => {
                    api.post("/v1/keys/revoke", &json!({ "key": read_key("--key-stdin", world)?.as_str() }))?
                }
            };
            match json {
                true => print_json(world, &revoked),
                false => print(world, &receipt(&revoked, now)?),
            }
        }
        KeysCommand::Rotate { id, grace } => {
            let Grace(grace) = grace.unwrap_or_default();
            let body = json!({ "grace": format!("{}s", grace.as_secs()) });
            let rotated = of_key(&id, api.post(&format!("/v1/keys/{id}/rotate"), &body))?;
            let fate = format!("\n{}\n", fate(&Key::read(&rotated["old"])?, now));
            show_new(world, &rotated, &fate, json, now)
        }
        KeysCommand::Import { file } => {
            let done = import::import(&api, &file, world, now)?;
            match json {
                true => print_json(world, &done),
                false => {
                    let (created, known) = (&done["created"], &done["already_there"]);
                    print(world, &format!("{created} keys imported, {known} were there already.\n"))
                }
            }
        }
    }
}

fn put_expiry(body: &mut Value, expiry: Expiry) {
    match expiry {
        Expiry::At(moment) => body["expires_at"] = moment.to_string().into(),
        Expiry::In(RelativeExpiry(life)) => body["expires_in"] = format!("{}s", life.as_secs()).into(),
    }
}

/// As the API spells it.
fn name_of(value: Option<impl ValueEnum>) -> Option<String> {
    Some(value?.to_possible_value()?.get_name().to_owned())
}

/// Prints a new key and what is to be said besides. If that fails the key is lost, and its owner must hear of it.
fn show_new(
    world: &mut World<'_>,
    created: &Value,
    besides: &str,
    json: bool,
    now: Timestamp,
) -> Result<(), Failure> {
    let printed = match json {
        true => print_json(world, created),
        false => {
            let key = created["key"].as_str().ok_or_else(|| not_understood("it has no key"))?;
            // In full where its two ends stand otherwise: there is one key to copy, and nothing that looks like it.
            let shown = card(&Key { display: key.to_owned(), ..Key::read(created)? }, now);
            let advice = "This is the only time that the key is shown. Keep it in a secrets manager.";
            print(world, &format!("{shown}\n{advice}\n{besides}"))
        }
    };
    printed.map_err(|_| {
        let id = created["id"].as_str().unwrap_or("of an unknown id");
        Failure::other(anyhow!(
            "the key {id} was made but could not be shown; revoke it with `keygate keys revoke {id}` and make another"
        ))
    })
}

/// What becomes of a key that was rotated.
fn fate(old: &Key, now: Timestamp) -> String {
    let (id, label) = (old.id, printable(&old.label));
    match old.retires_at {
        Some(end) if old.is_rotating() => format!(
            "The old key, {id} ({label}), goes on until {}. `keygate keys revoke {id}` ends it before.",
            time(end, now)
        ),
        _ => format!("The old key, {id} ({label}), has ended."),
    }
}

/// All pages, up to `limit` keys.
fn list(api: &Api, filters: &[(&str, Option<String>)], limit: usize) -> Result<Vec<Value>, Failure> {
    let mut keys = Vec::new();
    let mut cursor: Option<String> = None;
    while keys.len() < limit {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &PAGE.min(limit - keys.len()).to_string());
        for (name, value) in filters {
            query.extend_pairs(value.iter().map(|value| (name, value)));
        }
        query.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
        let mut page = api.get(&format!("/v1/keys?{}", query.finish()))?;
        match page["data"].take() {
            Value::Array(data) => keys.extend(data),
            _ => return Err(not_understood("it has no list")),
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(keys)
}

/// Says which key it was that failed.
fn of_key<T>(id: &KeyId, result: Result<T, Failure>) -> Result<T, Failure> {
    result.map_err(|failure| match failure {
        Failure::Failed { code, error } => Failure::with_code(code, anyhow!("{id}: {error}")),
        Failure::OutputClosed => failure,
    })
}

/// The key that stands alone on standard input; `what` reads it.
fn read_key(what: &str, world: &mut World<'_>) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    world
        .input
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(anyhow!("{what}: standard input cannot be read: {error}")))?;
    match text.trim() {
        "" => Err(Failure::usage(anyhow!("{what}: standard input is empty; pipe the key into it"))),
        key => Ok(Zeroizing::new(key.to_owned())),
    }
}
