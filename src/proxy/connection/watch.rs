//! What the deadlines of a connection are judged by.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Tick};

use super::Deadlines;

/// While draining, a connection without a request is kept so long: its client may be writing one just now, which
/// would be lost if the connection were closed under it. An answer given in that time ends the connection properly.
const DRAIN_LINGER: Duration = Duration::from_millis(500);

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was read yet.
    Silent,
    /// A request's head has begun.
    Head,
    /// Between two requests.
    Idle,
    /// A request is being served, until its answer and its own body are through: their deadlines hold.
    Service,
    /// The last words were said: the linger has a deadline of its own.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A head that began is not complete.
    Head,
    /// Nothing was asked.
    Idle,
    /// An answer is not being read.
    Write,
}

/// What the deadlines are judged by.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    phase: Cell<Phase>,
    since: Cell<Tick>,
    write_blocked: Cell<Option<Tick>>,
    draining: Cell<bool>,
    /// The head that was read last has a length and a transfer coding.
    two_lengths: Cell<bool>,
}

impl Watch {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Watch {
        let since = Cell::new(clock.now().tick);
        Watch {
            clock,
            phase: Cell::new(Phase::Silent),
            since,
            write_blocked: Cell::new(None),
            draining: Cell::new(false),
            two_lengths: Cell::new(false),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now().tick);
    }

    /// Each answer is the last of its connection from now on.
    pub(super) fn begin_drain(&self) {
        self.draining.set(true);
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    pub(super) fn begin_service(self: &Rc<Self>) -> Busy {
        self.phase.set(Phase::Service);
        Busy(Rc::new(Serving(Rc::clone(self))))
    }

    /// No request comes any more.
    pub(super) fn begin_closing(&self) {
        self.phase.set(Phase::Closing);
    }

    /// Whether the head of the request that begins has a length and a transfer coding.
    pub(super) fn had_two_lengths(&self) -> bool {
        self.two_lengths.take()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether a request's head is being read: only then does hyper answer by itself.
    pub(super) fn is_reading_head(&self) -> bool {
        self.phase.get() == Phase::Head
    }

    /// These bytes were read.
    pub(super) fn read(&self, bytes: &[u8]) {
        if matches!(self.phase.get(), Phase::Silent | Phase::Idle) && !bytes.is_empty() {
            self.enter(Phase::Head);
            self.two_lengths.set(has_two_lengths(bytes));
        }
    }

    pub(super) fn wrote(&self, blocked: bool) {
        match (blocked, self.write_blocked.get()) {
            (false, Some(_)) => {
                self.write_blocked.set(None);
                // The end of an answer is through only now.
                if self.phase.get() == Phase::Idle {
                    self.enter(Phase::Idle);
                }
            }
            (true, None) => self.write_blocked.set(Some(self.clock.now().tick)),
            (false, None) | (true, Some(_)) => {}
        }
    }

    pub(super) fn overdue(&self, deadlines: &Deadlines) -> Option<Overdue> {
        let now = self.clock.now().tick;
        if let Some(since) = self.write_blocked.get() {
            return (now.since(since) > deadlines.write).then_some(Overdue::Write);
        }
        let waited = now.since(self.since.get());
        match self.phase.get() {
            Phase::Head if waited > deadlines.head => Some(Overdue::Head),
            Phase::Idle if waited > deadlines.idle => Some(Overdue::Idle),
            Phase::Silent if waited > deadlines.head => Some(Overdue::Idle),
            Phase::Silent | Phase::Idle if self.draining.get() && waited > DRAIN_LINGER => {
                Some(Overdue::Idle)
            }
            Phase::Silent | Phase::Head | Phase::Idle | Phase::Service | Phase::Closing => None,
        }
    }
}

/// Whether the head at the beginning of `bytes` has both `Content-Length` and `Transfer-Encoding`, in any case.
///
/// Seen only as far as the head came in one piece. That is enough to refuse; the rest is safe without it, for hyper
/// goes by the coding, writes the request anew and closes the connection (RFC 9112, section 6.1).
fn has_two_lengths(bytes: &[u8]) -> bool {
    let (mut length, mut coding) = (false, false);
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[end + 1..];
        match line.first() {
            Some(b'c' | b'C') => length |= begins_with(line, b"content-length"),
            Some(b't' | b'T') => coding |= begins_with(line, b"transfer-encoding"),
            Some(b'\r' | b'\n') | None => break,
            Some(_) => {}
        }
    }
    length && coding
}

fn begins_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// A request is being served while this, or a clone of it, exists: its answer has one, and its own body another.
#[derive(Clone)]
pub(in crate::proxy) struct Busy(Rc<Serving>);

struct Serving(Rc<Watch>);

impl Busy {
    /// Whether the connection ends with this request.
    pub(super) fn is_last(&self) -> bool {
        self.0.0.draining.get()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beside_a_transfer_coding_is_seen() {
        let head = |lines: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n").into_bytes();
        assert!(has_two_lengths(&head("Content-Length: 5\r\nTransfer-Encoding: chunked")));
        assert!(has_two_lengths(&head("tRANSFER-eNCODING: chunked\r\nx: y\r\nCONTENT-LENGTH: 5")));
        assert!(!has_two_lengths(&head("Content-Length: 5\r\nX: Transfer-Encoding: chunked")));
        assert!(!has_two_lengths(&head("Transfer-Encoding: chunked\r\n\r\n5\r\ncontent-length: 5")));
    }
}
