//! `keygate users`.

use std::io::Read;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

use crate::model::{Account, Role, Team, Timestamp, User, UserId};

use super::api::{Api, ApiArguments};
use super::card::not_understood;
use super::failure::Failure;
use super::table::{Table, date, printable};
use super::{World, print, print_json};

/// More than a password has; what is longer is a file in the wrong place.
const MAX_INPUT: u64 = 4096;

#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
pub(super) struct UsersArguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Prints what the admin API answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: UsersCommand,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Adds somebody who may log in, and asks for the password, twice.
    Add(AddArguments),
    /// Lists everybody who may log in.
    List,
    /// Changes what somebody may do, or whether they may log in.
    Edit(EditArguments),
    /// Removes somebody, and ends their sessions.
    Remove {
        /// The account, or the id: usr_…
        user: String,
    },
    /// Makes a link by which somebody sets a new password, once, within 24 hours.
    Link {
        /// The account, or the id: usr_…
        user: String,
    },
}

#[derive(Debug, Args)]
struct AddArguments {
    /// An e-mail address or a name, to log in with.
    account: Account,
    /// What others see [default: the account].
    #[arg(long)]
    name: Option<String>,
    /// viewer, editor or admin.
    #[arg(long, required_unless_present = "admin", conflicts_with = "admin")]
    role: Option<Role>,
    /// As --role admin; without --team, of the whole fleet.
    #[arg(long)]
    admin: bool,
    /// Whose keys this user sees. Only an admin may do without.
    #[arg(long)]
    team: Option<Team>,
    /// Reads the password from standard input.
    #[arg(long, conflicts_with = "link")]
    password_stdin: bool,
    /// Sets no password, and prints a link by which the user sets one.
    #[arg(long)]
    link: bool,
}

/// At least one change.
#[derive(Debug, Args)]
struct EditArguments {
    /// The account, or the id: usr_…
    user: String,
    /// viewer, editor or admin. Another one ends their sessions.
    #[arg(long, required_unless_present_any = ["disable", "enable"])]
    role: Option<Role>,
    /// Refuses their log-in, and ends their sessions.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Lets them log in again.
    #[arg(long)]
    enable: bool,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(flatten)]
    user: User,
    has_password: bool,
}

pub(super) fn run(arguments: UsersArguments, world: &mut World<'_>, now: Timestamp) -> Result<(), Failure> {
    let api = Api::open(&arguments.api, world)?;
    match arguments.command {
        UsersCommand::Add(add) => self::add(&api, &add, arguments.json, world),
        UsersCommand::List if arguments.json => print_json(world, &api.get("/v1/users")?),
        UsersCommand::List => print(world, &table(&listed(&api)?, now)),
        UsersCommand::Edit(edit) => self::edit(&api, &edit, arguments.json, world),
        UsersCommand::Remove { user } => {
            let id = id_of(&api, &user)?;
            api.delete(&format!("/v1/users/{id}"))?;
            match arguments.json {
                true => print_json(world, &json!({ "id": id, "removed": true })),
                false => print(world, &format!("{id} is removed, and no session of theirs is left.\n")),
            }
        }
        UsersCommand::Link { user } => {
            let id = id_of(&api, &user)?;
            let link = link(&api, &id)?;
            match arguments.json {
                true => print_json(world, &link),
                false => print(world, &link_text(&link)),
            }
        }
    }
}

fn add(api: &Api, add: &AddArguments, json: bool, world: &mut World<'_>) -> Result<(), Failure> {
    let role = add.role.unwrap_or(Role::Admin);
    let mut body = json!({ "account": add.account, "role": role, "team": add.team });
    if let Some(name) = &add.name {
        body["display_name"] = name.as_str().into();
    }
    let mut password = match (add.link, add.password_stdin) {
        (true, _) => None,
        (false, true) => Some(read_password(world)?),
        (false, false) => Some(ask_password()?),
    };
    if let Some(password) = &mut password {
        body["password"] = std::mem::take(&mut **password).into();
    }
    let added = api.post("/v1/users", &body);
    if let Value::String(text) = &mut body["password"] {
        text.zeroize();
    }
    let mut added = added?;
    let user: User = read(&added)?;
    if add.link {
        added["link"] = link(api, &user.id)?;
    }
    if json {
        return print_json(world, &added);
    }
    let team = team_of(&user);
    print(world, &format!("{} is added: {} of {team}, as {}.\n", user.account, user.role, user.id))?;
    match added.get("link") {
        Some(link) => print(world, &link_text(link)),
        None => Ok(()),
    }
}

/// Changes a user as it was seen a moment ago, or not at all.
fn edit(api: &Api, edit: &EditArguments, json: bool, world: &mut World<'_>) -> Result<(), Failure> {
    let mut body = json!({});
    if let Some(role) = edit.role {
        body["role"] = json!(role);
    }
    if edit.disable || edit.enable {
        body["disabled"] = edit.disable.into();
    }
    let path = format!("/v1/users/{}", id_of(api, &edit.user)?);
    let (_, tag) = api.get_tagged(&path)?;
    let edited = api.patch(&path, &tag, &body)?;
    if json {
        return print_json(world, &edited);
    }
    let user: User = read(&edited)?;
    let may = if user.disabled { "may not log in" } else { "may log in" };
    print(world, &format!("{} is now {} of {}, and {may}.\n", user.account, user.role, team_of(&user)))
}

fn team_of(user: &User) -> String {
    user.team.as_deref().map_or_else(|| "all teams".to_owned(), |team| format!("the team {team}"))
}

/// From a terminal, twice, without showing it.
fn ask_password() -> Result<Zeroizing<String>, Failure> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
            Failure::usage(anyhow!(
                "no terminal to ask for the password at ({error}); use --password-stdin, or --link"
            ))
        })
    };
    let password = ask("Password: ")?;
    if ask("The same once more: ")? == password {
        Ok(password)
    } else {
        Err(Failure::usage(anyhow!("the two passwords are not the same; nothing was done")))
    }
}

/// The first line of standard input.
fn read_password(world: &mut World<'_>) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = (&mut *world.input).take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::usage(anyhow!("the password cannot be read from standard input: {error}"))
    })?;
    if text.len() as u64 > MAX_INPUT {
        return Err(Failure::usage(anyhow!("standard input is longer than a password")));
    }
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn link(api: &Api, id: &UserId) -> Result<Value, Failure> {
    let mut link = api.post(&format!("/v1/users/{id}/link"), &json!({}))?;
    let path = link["path"].as_str().ok_or_else(|| not_understood("a link has no path"))?;
    link["url"] = api.url(path).into();
    Ok(link)
}

fn link_text(link: &Value) -> String {
    format!(
        "{}\nThe link works once, until {}. Whoever has it can set the password.\n",
        link["url"].as_str().unwrap_or_default(),
        link["expires_at"].as_str().unwrap_or_default()
    )
}

/// Who is meant: by id, or by account.
fn id_of(api: &Api, text: &str) -> Result<UserId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let account: Account = text.parse().map_err(|error| Failure::usage(anyhow!("{error}")))?;
    let found = listed(api)?.into_iter().find(|listed| listed.user.account == account);
    found.map(|listed| listed.user.id).ok_or_else(|| Failure::other(anyhow!("there is no such user")))
}

fn listed(api: &Api) -> Result<Vec<Listed>, Failure> {
    read(&api.get("/v1/users")?["data"])
}

fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| not_understood(&error.to_string()))
}

fn table(users: &[Listed], now: Timestamp) -> String {
    let mut table = Table::new(["ID", "ACCOUNT", "NAME", "ROLE", "TEAM", "ADDED", "STATE"]);
    for Listed { user, has_password } in users {
        let state = match (user.disabled, has_password) {
            (true, _) => "disabled",
            (false, true) => "active",
            (false, false) => "no password yet",
        };
        table.row([
            user.id.to_string(),
            user.account.to_string(),
            printable(&user.display_name),
            user.role.to_string(),
            user.team.as_deref().unwrap_or("all").to_owned(),
            date(user.created_at, now),
            state.to_owned(),
        ]);
    }
    table.to_string()
}
