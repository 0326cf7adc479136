//! The `keygate` command.

use std::io;
use std::process::ExitCode;

use keygate::allocator::Allocator;
use keygate::cli::{self, World};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator {};

fn main() -> ExitCode {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    // Not locked: other threads log while a command runs.
    let (mut input, mut output, mut errors) = (io::stdin(), io::stdout(), io::stderr());
    let mut world = World {
        env: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
        input: &mut input,
        output: &mut output,
        errors: &mut errors,
    };
    ExitCode::from(cli::run(std::env::args_os(), &mut world))
}
