//! A Redis of our own: stopped, frozen and started again as a test likes.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use redis::{Connection, FromRedisValue, Value};
use rustix::process::Signal;
use tempfile::TempDir;

use super::faults::Faults;
use super::process::Process;
use super::wait::{PATIENCE, eventually, eventually_some};

/// A real `redis-server` on a port and in a directory of its own. Every write is on disk before it is answered.
pub struct RedisServer {
    port: u16,
    directory: TempDir,
    process: Option<Process>,
    environment: Vec<(&'static str, String)>,
}

/// What a Redis held at some time.
pub struct Snapshot(TempDir);

impl RedisServer {
    pub fn start() -> RedisServer {
        let mut server = RedisServer::not_yet_started();
        server.start_again();
        server
    }

    /// One whose clock can be set.
    pub fn start_with(faults: &Faults) -> RedisServer {
        let mut server = RedisServer::not_yet_started();
        server.environment = faults.environment().into();
        server.start_again();
        server
    }

    /// One that begins with what another held.
    pub fn start_from(snapshot: &Snapshot) -> RedisServer {
        let mut server = RedisServer::not_yet_started();
        server.restore(snapshot);
        server.start_again();
        server
    }

    /// Has a port, and nothing listens there yet.
    pub fn not_yet_started() -> RedisServer {
        let directory = tempfile::tempdir().expect("a directory can be made");
        RedisServer { port: unused_port(), directory, process: None, environment: Vec::new() }
    }

    /// Starts it with the data and on the port that it had.
    pub fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"])
            .args(["--dir", &self.directory().display().to_string()])
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start(&mut command, "redis-server"));
        eventually("Redis answers", PATIENCE, || self.try_run::<String>(&["PING"]).is_some());
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// What it holds. It must be stopped, so that this is all.
    pub fn snapshot(&self) -> Snapshot {
        self.assert_stopped();
        let copy = tempfile::tempdir().expect("a directory can be made");
        copy_files(self.directory(), copy.path());
        Snapshot(copy)
    }

    /// Makes it, while it is stopped, hold what it held then, and nothing else.
    pub fn restore(&mut self, Snapshot(copy): &Snapshot) {
        self.lose_everything();
        copy_files(copy.path(), self.directory());
    }

    /// Takes away, while it is stopped, all that it held.
    pub fn lose_everything(&mut self) {
        self.assert_stopped();
        self.directory = tempfile::tempdir().expect("a directory can be made");
    }

    /// Lets each of two that are stopped stand at the other's address.
    pub fn change_places_with(&mut self, other: &mut RedisServer) {
        self.assert_stopped();
        other.assert_stopped();
        std::mem::swap(&mut self.directory, &mut other.directory);
    }

    /// Everything that it holds and that does not pass by itself, by name, as it would be moved elsewhere.
    pub fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let names: Vec<String> = self.run(&["KEYS", "*"]);
        let lasting = |name: &String| self.run::<i64>(&["PTTL", name]) == -1;
        names.into_iter().filter(lasting).map(|name| (name.clone(), self.run(&["DUMP", &name]))).collect()
    }

    /// Throws out every subscriber; how many there were.
    pub fn kill_subscribers(&self) -> i64 {
        self.run(&["CLIENT", "KILL", "TYPE", "pubsub"])
    }

    /// Throws away the log of the shard that a key is in.
    pub fn trim_log_of(&self, key: &str) {
        let _: i64 = self.run(&["XTRIM", &format!("keygate:{{{}}}:log", shard_of(key)), "MAXLEN", "0"]);
    }

    /// Freezes it: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.running().signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.running().signal(Signal::CONT);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a command, as `["CLIENT", "PAUSE", "500"]`.
    pub fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_run(command).expect("Redis takes the command")
    }

    /// Every command from now on, until the guard is dropped.
    pub fn monitor(&self) -> Monitor {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "MONITOR"]);
        let process = Process::start(&mut command, "redis-tools");
        eventually("the monitor is on", PATIENCE, || process.stdout().starts_with(b"OK"));
        Monitor { process }
    }

    fn try_run<T: FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let mut connection = self.try_connect()?;
        let (name, arguments) = command.split_first()?;
        let value: Value = redis::cmd(name).arg(arguments).query(&mut connection).ok()?;
        redis::from_redis_value(value).ok()
    }

    fn try_connect(&self) -> Option<Connection> {
        let client = redis::Client::open(self.url()).expect("the URL is well formed");
        let connection = client.get_connection_with_timeout(PATIENCE).ok()?;
        connection.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(connection)
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("Redis runs")
    }

    fn assert_stopped(&self) {
        assert!(self.process.is_none(), "Redis runs");
    }
}

/// The digit of the shard that a key is in.
pub fn shard_of(key: &str) -> char {
    super::keys::sha256_hex(key.as_bytes()).chars().next().expect("a hash has digits")
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the directory is ours") {
        let entry = entry.expect("it can be listed");
        let copy = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&copy).expect("the directory is ours");
            copy_files(&entry.path(), &copy);
        } else {
            fs::copy(entry.path(), copy).expect("the disk has room for a copy");
        }
    }
}

/// Sees every command.
pub struct Monitor {
    process: Process,
}

impl Monitor {
    /// The lines so far that have `text` in them.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let output = String::from_utf8_lossy(&self.process.stdout()).into_owned();
        output.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// A port on which nothing listens, and that nothing will take: it is below those which the kernel hands out.
pub fn unused_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = (std::process::id() % u32::from(COUNT)) as u16;
    eventually_some("a port is free", PATIENCE, || {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(process.wrapping_mul(61) % COUNT);
        let port = FIRST + offset % COUNT;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}
