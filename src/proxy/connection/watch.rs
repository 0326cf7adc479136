//! One connection as the rounds see it: what it is at, and since when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::clock::Tick;

use super::Deadlines;
use super::rounds::Rounds;

/// While draining, a connection without a request is kept so long: its client may be writing one just now, which
/// would be lost if the connection were closed under it. An answer given in that time ends the connection properly.
const DRAIN_LINGER: Duration = Duration::from_millis(500);
/// A connection that has been idle for so long gives up its buffers until something comes.
const REST_AFTER: Duration = Duration::from_secs(1);
/// No wait of its own.
const NEVER: Tick = Tick::from_nanos(u64::MAX);

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

/// Since when something is so. Nobody reads a clock when it begins: the next round notes the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    LastRound,
    Tick(Tick),
}

impl Since {
    /// How long it has been so, as far as the rounds have seen it.
    fn lasted(self, now: Tick) -> Duration {
        match self {
            Since::LastRound => Duration::ZERO,
            Since::Tick(tick) => now.since(tick),
        }
    }

    fn noted(self, now: Tick) -> Since {
        match self {
            Since::LastRound => Since::Tick(now),
            known @ Since::Tick(_) => known,
        }
    }
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

/// What the deadlines of a connection are judged by.
pub(super) struct Watch {
    rounds: Rc<Rounds>,
    phase: Cell<Phase>,
    since: Cell<Since>,
    write_blocked: Cell<Option<Since>>,
    /// Answers and bodies of a request that are not through.
    serving: Cell<usize>,
    /// A request's own body is on its way.
    uploading: Cell<bool>,
    /// The client did not wait for the answer before it went on.
    sent_ahead: Cell<bool>,
    /// The head that was read last has a length and a transfer coding.
    two_lengths: Cell<bool>,
    /// When somebody who waits within a request wants to be asked again.
    wake_at: Cell<Tick>,
    /// The last round found it overdue.
    noticed: Cell<bool>,
    rests: Cell<bool>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    pub(super) fn new(rounds: Rc<Rounds>) -> Rc<Watch> {
        Rc::new(Watch {
            rounds,
            phase: Cell::new(Phase::Silent),
            since: Cell::new(Since::LastRound),
            write_blocked: Cell::new(None),
            serving: Cell::new(0),
            uploading: Cell::new(false),
            sent_ahead: Cell::new(false),
            two_lengths: Cell::new(false),
            wake_at: Cell::new(NEVER),
            noticed: Cell::new(false),
            rests: Cell::new(true),
            waker: RefCell::default(),
        })
    }

    pub(super) fn rounds(&self) -> &Rc<Rounds> {
        &self.rounds
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Since::LastRound);
    }

    /// A look from the rounds.
    pub(super) fn look(&self, now: Tick, deadlines: &Deadlines) {
        self.since.set(self.since.get().noted(now));
        self.write_blocked.set(self.write_blocked.get().map(|since| since.noted(now)));
        let overdue = self.judge(now, deadlines).is_some();
        let tired = !self.rests.get() && self.may_rest(now);
        if overdue || tired || now >= self.wake_at.get() {
            self.noticed.set(overdue);
            self.rests.set(self.rests.get() || tired);
            self.wake_at.set(NEVER);
            self.wake();
        }
    }

    fn judge(&self, now: Tick, deadlines: &Deadlines) -> Option<Overdue> {
        if let Some(since) = self.write_blocked.get() {
            return (since.lasted(now) > deadlines.write).then_some(Overdue::Write);
        }
        let waited = self.since.get().lasted(now);
        match self.phase.get() {
            Phase::Head if waited > deadlines.head => Some(Overdue::Head),
            Phase::Idle if waited > deadlines.idle => Some(Overdue::Idle),
            Phase::Silent if waited > deadlines.head => Some(Overdue::Idle),
            Phase::Silent | Phase::Idle if self.is_draining() && waited > DRAIN_LINGER => Some(Overdue::Idle),
            Phase::Silent | Phase::Head | Phase::Idle | Phase::Service | Phase::Closing => None,
        }
    }

    fn may_rest(&self, now: Tick) -> bool {
        self.phase.get() == Phase::Idle
            && self.write_blocked.get().is_none()
            && self.since.get().lasted(now) >= REST_AFTER
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whom to wake.
    pub(super) fn wakes(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Polls the connection's task again at the first round after `tick`.
    pub(super) fn wake_at(&self, tick: Tick) {
        self.wake_at.set(self.wake_at.get().min(tick));
    }

    /// Each answer is the last of its connection from now on.
    pub(super) fn drain(&self) {
        if matches!(self.phase.get(), Phase::Silent | Phase::Idle) {
            self.since.set(Since::LastRound);
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.rounds.is_draining()
    }

    pub(super) fn begin_service(self: &Rc<Watch>) -> Busy {
        self.phase.set(Phase::Service);
        self.sent_ahead.set(false);
        Busy::new(Rc::clone(self))
    }

    /// Whether a request's own body is through and its answer is not: all that the client can do is to leave, or to go on
    /// already.
    pub(super) fn waits_for_answer(&self) -> bool {
        self.phase.get() == Phase::Service && !self.uploading.get() && !self.sent_ahead.get()
    }

    /// The client has gone on already.
    pub(super) fn has_sent_ahead(&self) {
        self.sent_ahead.set(true);
    }

    /// No request comes any more.
    pub(super) fn begin_closing(&self) {
        self.phase.set(Phase::Closing);
    }

    /// Whether the head of the request that begins has a length and a transfer coding.
    pub(super) fn had_two_lengths(&self) -> bool {
        self.two_lengths.take()
    }

    /// Whether a request's head is being read: only then does hyper answer by itself.
    pub(super) fn is_reading_head(&self) -> bool {
        self.phase.get() == Phase::Head
    }

    /// What the rounds found, if it still holds.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        self.noticed.take().then(|| self.judge(self.rounds.now(), self.rounds.deadlines())).flatten()
    }

    /// Whether the connection has been idle for so long that it may give up its buffers.
    pub(super) fn should_rest(&self) -> bool {
        self.rests.get() && self.phase.get() == Phase::Idle
    }

    /// Something comes: the connection needs its buffers again.
    pub(super) fn end_rest(&self) {
        self.rests.set(false);
        self.since.set(Since::LastRound);
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
            (true, None) => self.write_blocked.set(Some(Since::LastRound)),
            (false, None) | (true, Some(_)) => {}
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
pub(in crate::proxy) struct Busy(Rc<Watch>);

impl Busy {
    fn new(watch: Rc<Watch>) -> Busy {
        watch.serving.set(watch.serving.get() + 1);
        Busy(watch)
    }

    /// Whether the connection ends with this request.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_draining()
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.0
    }

    /// The request's own body is on its way, or is through.
    pub(in crate::proxy) fn uploads(&self, uploading: bool) {
        self.0.uploading.set(uploading);
    }

    /// The time from one round to the next.
    pub(in crate::proxy) fn round(&self) -> Duration {
        self.0.rounds.interval()
    }

    /// What time it is.
    pub(in crate::proxy) fn now(&self) -> Tick {
        self.0.rounds.clock().now().tick
    }
}

impl Clone for Busy {
    fn clone(&self) -> Busy {
        Busy::new(Rc::clone(&self.0))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.0.serving.get() - 1;
        self.0.serving.set(left);
        if left == 0 {
            self.0.enter(Phase::Idle);
        }
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
