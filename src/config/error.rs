//! What is wrong with the settings: all of it at once, each with where it came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the default holds.
    Default,
    /// By the command itself, as `keygate demo` does.
    Preset(&'static str),
    /// In a file.
    File {
        /// As it was given.
        path: PathBuf,
        /// From 1 on.
        line: usize,
    },
    /// By a variable of the environment.
    Environment(String),
    /// By a flag, as `--listen`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("not set"),
            Origin::Preset(name) => write!(f, "set by {name}"),
            Origin::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong. No variant shows a value that may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: not TOML: {what}", .path.display())]
    Syntax {
        /// As it was given.
        path: PathBuf,
        /// From 1 on.
        line: usize,
        /// What the parser expected. Not its snippet of the source, which may hold a secret.
        what: String,
    },
    /// There is no such setting.
    #[error("`{name}` ({origin}): there is no such setting{}", suggestion(.nearest))]
    Unknown {
        /// As it was spelled.
        name: String,
        /// Where.
        origin: Origin,
        /// The setting that is spelled most like it, in the origin's spelling.
        nearest: Option<String>,
    },
    /// A setting has a value that it may not have.
    #[error("`{field}` ({origin}): {what}")]
    Invalid {
        /// The setting's path, as `cache.ttl_s`.
        field: String,
        /// Where its value came from.
        origin: Origin,
        /// What is wrong, and what is allowed.
        what: String,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Everything that is wrong; never empty.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                write!(f, "{} settings are wrong:", all.len())?;
                all.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}
