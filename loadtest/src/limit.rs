//! When a run has to end: its time is over, or somebody wants it to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Asked often, so that whatever was started is ended by its owner and not left behind.
pub struct Limit {
    ends: Instant,
    interrupted: Arc<AtomicBool>,
}

/// A signal came.
#[derive(Debug)]
pub struct Interrupted;

impl Limit {
    /// Begins now. From here on Ctrl-C only sets a flag.
    pub fn begin(length: Duration) -> anyhow::Result<Limit> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        Ok(Limit { ends: Instant::now() + length, interrupted })
    }

    /// Whether the time is over: what was measured so far is the result.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// # Errors
    /// [`Interrupted`] if a signal came: there is no result.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped by a signal")
    }
}

impl std::error::Error for Interrupted {}
