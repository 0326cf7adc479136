//! Logs: text for people, JSON for machines, always to standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// For people or for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line of text an event.
    Text,
    /// A JSON object an event.
    Json,
}

/// Starts logging. Later calls in the same process change nothing.
///
/// # Errors
/// `filter` is not of the form that `RUST_LOG` takes.
pub fn start(format: Format, filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().try_init(),
    };
    drop(started);
    Ok(())
}
