//! What keygate is measured beside: proxies that do as much or less, in front of the same upstream and with the same keys.
//!
//! Each has one worker, keeps connections alive on both sides, writes no access log, and stays on the cores that it is
//! given.

pub mod floor;
mod haproxy;
pub mod keys;
mod nginx;
mod pingora;
pub mod responder;
pub mod unverified;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::limit::Limit;
use crate::rig::gateway::{AUTHORIZATION, Gateway};
use crate::rig::launch::{Launch, Process, folder};
use crate::rig::redis::{Redis, unused_address};
use keys::Key;

const PATIENCE: Duration = Duration::from_secs(20);
const INSTALL: &str = "loadtest/install-peers.sh";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// A byte forwarder that makes the four socket calls of a request and no other.
    Floor,
    /// nginx, `proxy_pass` alone.
    NginxPlain,
    /// nginx with keys in the clear in a map of its configuration.
    NginxMap,
    /// HAProxy with a map of SHA-256.
    Haproxy,
    /// nginx with Lua, a shared dictionary and Redis.
    NginxLua,
    /// A proxy built with Pingora, with a map of SHA-256.
    Pingora,
    /// keygate.
    Keygate,
    /// keygate that verifies nothing: a build with a patch.
    Unverified,
}

/// What a peer is given.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub api: &'a Api,
    /// keygate's.
    pub redis: &'a Redis,
    /// What Lua asks, with [`keys::store`] done: keygate would not share it.
    pub lua_redis: Option<&'a Redis>,
    pub keys: &'a [Key],
    pub cores: &'a [usize],
    /// keygate, and the one that verifies nothing.
    pub keygate: &'a Path,
    pub unverified: Option<&'a Path>,
    /// Worker threads of keygate; all others have one.
    pub workers: usize,
}

/// A peer that is ready, ended when it is dropped.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    running: Running,
}

enum Running {
    Program { process: Process, _folder: TempDir },
    Gateway(Gateway),
}

/// A program that listens where it was told to.
struct Program {
    command: Vec<OsString>,
}

impl Kind {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Floor => "kernel floor",
            Kind::NginxPlain => "nginx, no check",
            Kind::NginxMap => "nginx, static map",
            Kind::Haproxy => "HAProxy, SHA-256 map",
            Kind::NginxLua => "nginx + Lua + Redis",
            Kind::Pingora => "Pingora, SHA-256 map",
            Kind::Keygate => "keygate",
            Kind::Unverified => "keygate, unverified",
        }
    }

    /// What is not installed, and what installs it.
    pub fn missing(self) -> Option<String> {
        let (needs, cure): (&[&str], _) = match self {
            Kind::Floor | Kind::Keygate | Kind::Unverified => return None,
            Kind::NginxPlain | Kind::NginxMap => (&["nginx"], INSTALL.to_owned()),
            Kind::NginxLua => (
                &["nginx", nginx::LUA_NEEDS[0], nginx::LUA_NEEDS[1], nginx::LUA_NEEDS[2]],
                INSTALL.to_owned(),
            ),
            Kind::Haproxy => (&["haproxy"], INSTALL.to_owned()),
            Kind::Pingora => {
                let binary = pingora::binary();
                let cure = || format!("{} is not built: {}", binary.display(), pingora::BUILD);
                return (!binary.exists()).then(cure);
            }
        };
        let need = needs.iter().find(|need| find(need).is_none())?;
        Some(format!("{need} is not here: {cure} installs it"))
    }

    /// Starts it and waits until it takes connections.
    pub fn start(self, place: &Place<'_>, limit: &Limit) -> anyhow::Result<Peer> {
        let start = || match self {
            Kind::Keygate => gateway(self, place.keygate, place, limit),
            Kind::Unverified => gateway(self, place.unverified.context("it is not built")?, place, limit),
            Kind::Floor => program(self, place, floor::program, limit),
            Kind::NginxPlain => program(self, place, nginx::plain, limit),
            Kind::NginxMap => program(self, place, nginx::map, limit),
            Kind::NginxLua => program(self, place, nginx::lua, limit),
            Kind::Haproxy => program(self, place, haproxy::with_map, limit),
            Kind::Pingora => program(self, place, pingora::program, limit),
        };
        start().with_context(|| format!("starting {}", self.name()))
    }
}

impl Peer {
    pub fn process(&self) -> &Process {
        match &self.running {
            Running::Program { process, .. } => process,
            Running::Gateway(gateway) => gateway.process(),
        }
    }
}

/// The upstream of all, in a process of its own.
pub struct Api {
    pub address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Api {
    pub fn start(cores: &[usize], limit: &Limit) -> anyhow::Result<Api> {
        let (folder, address) = (folder()?, unused_address()?);
        let itself = std::env::current_exe()?.into_os_string();
        let command = vec![itself, "responder".into(), "--listen".into(), address.to_string().into()];
        let process = launch("upstream", command, folder.path(), address, cores, limit)?;
        Ok(Api { address, _process: process, _folder: folder })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn gateway(kind: Kind, binary: &Path, place: &Place<'_>, limit: &Limit) -> anyhow::Result<Peer> {
    let set = |name, value: &str| (name, value.to_owned());
    let settings = [
        set("KEYGATE_WORKERS", &place.workers.to_string()),
        set("KEYGATE_UPSTREAM__MAX_CONNECTIONS", "2048"),
        // Imported keys are looked up as fast as others: how long they are not in memory is not what is measured.
        set("KEYGATE_LOOKUP__UNCHECKED_PER_SECOND", "1000000"),
        set("KEYGATE_LOOKUP__UNCHECKED_MAX_CONCURRENT", "1024"),
    ];
    let upstream = place.api.url();
    let gateway = Gateway::start_with(binary, place.redis, &upstream, &settings, place.cores, limit)?;
    keys::import(gateway.admin(), AUTHORIZATION, place.keys)?;
    Ok(Peer { kind, address: gateway.address(), running: Running::Gateway(gateway) })
}

type Prepare = fn(&Place<'_>, &Path, SocketAddr) -> anyhow::Result<Program>;

fn program(kind: Kind, place: &Place<'_>, prepare: Prepare, limit: &Limit) -> anyhow::Result<Peer> {
    let (folder, address) = (folder()?, unused_address()?);
    let Program { command } = prepare(place, folder.path(), address)?;
    let process = launch("peer", command, folder.path(), address, place.cores, limit)?;
    Ok(Peer { kind, address, running: Running::Program { process, _folder: folder } })
}

fn launch(
    name: &str,
    command: Vec<OsString>,
    folder: &Path,
    address: SocketAddr,
    cores: &[usize],
    limit: &Limit,
) -> anyhow::Result<Process> {
    // The search for the program needs its path.
    let env = vec![("PATH", std::env::var("PATH").unwrap_or_default())];
    let mut process = Launch { name, command, env, folder, cores }.start()?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        limit.check()?;
        process.still_runs()?;
        if Instant::now() > deadline {
            bail!("nothing listens after {} s:\n{}", PATIENCE.as_secs(), process.said());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(process)
}

/// Where a program of this name, or a file with this path, is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A path that is absolute replaces the folder that it is joined to.
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
