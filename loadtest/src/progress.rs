//! One line that says how far a run is, where somebody watches.

use std::io::{self, IsTerminal, Write};

/// A line on stderr that is written over and over, and wiped in the end. Nothing at all without a terminal.
pub struct Progress {
    shown: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { shown: io::stderr().is_terminal() }
    }

    pub fn say(&self, what: &str) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{what}"); // a watcher who left misses nothing
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.say("");
    }
}
