//! How a command fails: with which exit code, and with which words.

use std::io;

use crate::app::StartError;
use crate::config::ConfigErrors;

/// Wrong usage, or wrong settings (`EX_USAGE`).
const USAGE: u8 = 64;
/// Something that is needed is not there (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;

#[derive(Debug)]
pub(super) enum Failure {
    /// To be said in one line, with this exit code.
    Failed {
        code: u8,
        /// Its `Display` says all: what was wrong, where, and what to do.
        error: anyhow::Error,
    },
    /// Whoever read the output has read enough.
    OutputClosed,
}

impl Failure {
    pub(super) fn with_code(code: u8, error: anyhow::Error) -> Failure {
        Failure::Failed { code, error }
    }

    pub(super) fn usage(error: anyhow::Error) -> Failure {
        Failure::with_code(USAGE, error)
    }

    pub(super) fn unavailable(error: anyhow::Error) -> Failure {
        Failure::with_code(UNAVAILABLE, error)
    }

    pub(super) fn other(error: anyhow::Error) -> Failure {
        Failure::with_code(1, error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Failure {
        Failure::usage(errors.into())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        Failure::with_code(error.exit_code(), error.into())
    }
}

/// Of writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::other(anyhow::anyhow!("cannot write to standard output: {error}")),
        }
    }
}
