//! The `keygate` command: what can be said on a command line, and what the process then says and returns.
//!
//! `serve`, `demo` and `check` load the settings and hand them to [`app`]; `keys`, `users`, `gateways`, `store` and
//! `health` talk to the admin API of a gateway that runs.

mod api;
mod card;
mod failure;
mod fleet;
mod import;
mod keys;
mod receipt;
mod settings;
mod story;
mod table;
#[cfg(test)]
mod tests;
mod users;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};

use clap::{Parser, Subcommand};

use crate::app::{self, Finding, ServeOptions};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;

use failure::Failure;
use settings::SettingFlags;

/// What a command sees of the world, so that tests can be the world.
pub struct World<'a> {
    /// Variables of the environment. Those that are empty count as unset.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
}

/// Verifies API keys in front of a payments API.
#[derive(Debug, Parser)]
#[command(name = "keygate", version, arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a gateway.
    Serve {
        #[command(flatten)]
        settings: SettingFlags,
        /// Ends with 69 if the store does not answer, instead of waiting for it.
        #[arg(long)]
        fail_fast: bool,
    },
    /// Runs a gateway with everything embedded in front of a sample API, and prints what to try.
    Demo {
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Says whether `serve` would start, and what is wrong if not.
    Check {
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Makes, lists, edits, rotates, revokes and imports keys, through the admin API.
    Keys(keys::KeysArguments),
    /// Shows the gateways of the fleet, and how far each of them is, through the admin API.
    Gateways(fleet::GatewaysArguments),
    /// Shows what is there where the store should be, or accepts it as the fleet's, through the admin API.
    Store(fleet::StoreArguments),
    /// Adds, lists and removes people who may log in at the console, through the admin API.
    Users(users::UsersArguments),
    /// Exits with 0 if a gateway is ready. For containers.
    Health(api::HealthArguments),
}

/// Carries out a command line, the name of the program included; the exit code of the process.
///
/// 0 if it is done, 64 for wrong usage and wrong settings, 69 if something needed is not there, else 1. What went
/// wrong stands on standard error, in one line that begins with `keygate:`.
pub fn run(arguments: impl IntoIterator<Item = OsString>, world: &mut World<'_>) -> u8 {
    world.env.retain(|_, value| !value.is_empty());
    let result = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => carry_out(arguments.command, world),
        Err(error) if !error.use_stderr() => print(world, &error.render().to_string()),
        Err(error) => Err(Failure::usage(anyhow::Error::msg(usage_message(&error)))),
    };
    match result {
        Ok(()) | Err(Failure::OutputClosed) => 0,
        Err(Failure::Failed { code, error }) => {
            // If nobody reads standard error either, the exit code must do.
            let _ = writeln!(world.errors, "keygate: {error}");
            code
        }
    }
}

fn carry_out(command: Command, world: &mut World<'_>) -> Result<(), Failure> {
    match command {
        Command::Serve { settings, fail_fast } => {
            let config = Config::load(&settings.sources(&world.env))?;
            Ok(app::serve(config, ServeOptions { fail_fast })?)
        }
        Command::Demo { settings } => {
            let (preset, _directory) = settings::demo_preset()?;
            let mut sources = settings.sources(&world.env);
            sources.preset = Some(preset);
            sources.brings_upstream = true;
            Ok(app::demo(Config::load(&sources)?)?)
        }
        Command::Check { settings } => check(&settings, world),
        Command::Keys(arguments) => keys::run(arguments, world, SystemClock::start().now().wall),
        Command::Gateways(arguments) => fleet::gateways(&arguments, world, SystemClock::start().now().wall),
        Command::Store(arguments) => fleet::store(&arguments, world),
        Command::Users(arguments) => users::run(arguments, world, SystemClock::start().now().wall),
        Command::Health(arguments) => api::health(&arguments, world),
    }
}

/// Prints a line for each thing that `serve` needs; fails as `serve` would.
fn check(settings: &SettingFlags, world: &mut World<'_>) -> Result<(), Failure> {
    let config = Config::load(&settings.sources(&world.env))?;
    print(world, "ok     settings\n")?;
    let mut first_wrong = None;
    for (what, found) in app::check(&config) {
        match found {
            Ok(Finding::Good(found)) => print(world, &format!("ok     {what}: {found}\n"))?,
            Ok(Finding::Doubtful(found)) => print(world, &format!("warn   {what}: {found}\n"))?,
            Err(error) => {
                print(world, &format!("wrong  {what}\n"))?;
                let _ = writeln!(world.errors, "keygate: {error}");
                first_wrong.get_or_insert(error.exit_code());
            }
        }
    }
    match first_wrong {
        None => Ok(()),
        Some(code) => Err(Failure::with_code(code, anyhow::anyhow!("serve would not start"))),
    }
}

fn print(world: &mut World<'_>, text: &str) -> Result<(), Failure> {
    world.output.write_all(text.as_bytes())?;
    Ok(world.output.flush()?)
}

fn print_json(world: &mut World<'_>, value: &serde_json::Value) -> Result<(), Failure> {
    print(world, &format!("{value:#}\n"))
}

/// clap's message without its own beginning, which ours replaces.
fn usage_message(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
}
