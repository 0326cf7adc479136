//! One line that says how far a run is, where somebody watches.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};

/// A line on stderr that is written over and over, and wiped in the end. Nothing at all without a terminal.
pub struct Progress {
    shown: bool,
    part: RefCell<String>,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { shown: io::stderr().is_terminal(), part: RefCell::default() }
    }

    /// From here on the line begins with the name of this part of the run.
    pub fn enter(&self, part: &str) {
        *self.part.borrow_mut() = format!("{part}: ");
        self.say("starting");
    }

    pub fn say(&self, what: &str) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{}{what}", self.part.borrow()); // a watcher who left misses nothing
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.part.borrow_mut().clear();
        self.say("");
    }
}
