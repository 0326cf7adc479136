//! Waiting for many sockets at once.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;

/// Sockets, each with a number that it was given.
pub struct Watch {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Watch {
    pub fn new() -> anyhow::Result<Watch> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("watching sockets")?;
        Ok(Watch { epoll, ready: Vec::with_capacity(256) })
    }

    /// Watches a socket until it is closed.
    pub fn add(&self, socket: impl AsFd, number: u64) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).context("watching a socket")
    }

    /// Waits until some have something to read, however long, and tells which have. A signal ends the wait too.
    pub fn wait_long(&mut self) -> anyhow::Result<impl Iterator<Item = u64> + use<'_>> {
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), None) {
            Ok(_) | Err(Errno::INTR) => Ok(self.ready.iter().map(|event| event.data.u64())),
            Err(error) => Err(error).context("waiting for sockets"),
        }
    }

    /// Waits until some have something to read, or until then at the latest, and tells which have. A signal ends the wait
    /// too.
    pub fn wait(&mut self, until: Instant) -> anyhow::Result<impl Iterator<Item = u64> + use<'_>> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("a wait has a sensible length")?;
        self.ready.clear();
        // The wait is `poll`'s: `epoll` alone would round it up to whole milliseconds.
        let waited = match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => Ok(0),
            Ok(_) => epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&Timespec::default())),
            Err(error) => Err(error),
        };
        waited.context("waiting for sockets")?;
        Ok(self.ready.iter().map(|event| event.data.u64()))
    }
}
