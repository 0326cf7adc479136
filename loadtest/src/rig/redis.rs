//! A Redis of our own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::launch::{Launch, Process, folder};
use crate::limit::Limit;

const PATIENCE: Duration = Duration::from_secs(10);

/// A `redis-server` on a port and in a folder of its own, with an append-only file that is synced every second.
pub struct Redis {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Redis {
    pub fn start(cores: &[usize], limit: &Limit) -> anyhow::Result<Redis> {
        let folder = folder()?;
        let address = unused_address()?;
        let port = address.port().to_string();
        let place = ["redis-server", "--port", &port, "--bind", "127.0.0.1", "--save", ""];
        let care = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"];
        let command = place.into_iter().chain(care).map(Into::into).collect();
        // The search for the program needs its path.
        let env = vec![("PATH", std::env::var("PATH").unwrap_or_default())];
        let mut process =
            Launch { name: "redis-server", command, env, folder: folder.path(), cores }.start()?;
        let deadline = Instant::now() + PATIENCE;
        while !answers(address) {
            limit.check()?;
            process.still_runs()?;
            if Instant::now() > deadline {
                bail!("redis-server does not answer");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Redis { address, process, _folder: folder })
    }

    /// It does nothing more, and its connections stay open.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// It ends without a word, and stays away.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::KILL)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

/// One that was free a moment ago, for who, unlike the gateway, cannot be asked to choose.
pub fn unused_address() -> anyhow::Result<SocketAddr> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(probe.local_addr()?)
}

fn answers(address: SocketAddr) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ping().unwrap_or(false)
}
