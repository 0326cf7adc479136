//! Waiting for many sockets at once.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use epoll::EventFlags;

/// As many as one wait tells of.
const AT_ONCE: usize = 256;

/// Sockets, each with a number that it was given.
pub struct Watch {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Watch {
    pub fn new() -> anyhow::Result<Watch> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("watching sockets")?;
        Ok(Watch { epoll, ready: Vec::with_capacity(AT_ONCE) })
    }

    /// Watches a socket until it is closed.
    pub fn add(&self, socket: impl AsFd, number: u64) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.epoll, socket, data, EventFlags::IN).context("watching a socket")
    }

    /// Whether a socket that is watched is ready too when it takes something.
    pub fn also_to_write(&self, socket: impl AsFd, number: u64, wanted: bool) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(number);
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        epoll::modify(&self.epoll, socket, data, flags).context("watching a socket")
    }

    /// Waits until some are ready, or until then at the latest, and tells which are. A signal ends the wait too.
    pub fn wait(&mut self, until: Instant) -> anyhow::Result<impl Iterator<Item = u64> + use<'_>> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("a wait has a sensible length")?;
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(self.ready.iter().map(|event| event.data.u64())),
            Err(error) => Err(error).context("waiting for sockets"),
        }
    }
}
