//! The gateway itself: the real binary, started with settings in its environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::admin::{Admin, Metrics};
use super::command::{KEYGATE, Ran, bare, keygate};
use super::faults::Faults;
use super::http::{Answer, Connection, Request};
use super::process::Process;
use super::redis::RedisServer;
use super::upstream::Upstream;
use super::wait::{PATIENCE, eventually, eventually_some};

/// What a machine shows to the admin API in these tests.
pub const TOKEN: &str = "a-token-for-the-tests-only-0123456789";

/// A gateway that runs, and is killed when it is dropped.
pub struct Gateway {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    _directory: TempDir,
}

impl Gateway {
    /// A gateway on a SQLite file of its own, in front of nothing yet.
    pub fn builder() -> GatewayBuilder {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let store = format!("sqlite:{}", directory.path().join("keygate.sqlite").display());
        let program = vec![KEYGATE.to_owned()];
        GatewayBuilder { directory, program, patience: PATIENCE, settings: Vec::new(), flags: Vec::new() }
            .set("KEYGATE_LISTEN", "127.0.0.1:0")
            .set("KEYGATE_ADMIN_LISTEN", "127.0.0.1:0")
            .set("KEYGATE_ADMIN_TOKEN", TOKEN)
            .set("KEYGATE_STORE", &store)
            .set("KEYGATE_WORKERS", "1")
            .set("KEYGATE_LOG__FORMAT", "json")
            // Tests share a small machine: the default is for a Redis that answers in microseconds.
            .set("KEYGATE_LOOKUP__TIMEOUT_MS", "5000")
            .set("KEYGATE_DRAIN_TIMEOUT_MS", "10000")
    }

    /// A gateway with all defaults in front of a Live upstream.
    pub fn before(live: &Upstream) -> Gateway {
        Gateway::builder().live(live).start()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The admin API's origin, as `KEYGATE_ADMIN_URL` takes it.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub fn admin(&self) -> Admin {
        Admin::new(self.admin, TOKEN)
    }

    /// A Live key for the team `acme`.
    pub fn live_key(&self) -> String {
        self.admin().create("live").key
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Sends a request on a connection of its own.
    pub fn ask(&self, request: &Request) -> Answer {
        request.send(self.address)
    }

    /// `GET /v1/wallets/wlt_1` with this key.
    pub fn use_key(&self, key: &str) -> Answer {
        self.ask(&Request::get("/v1/wallets/wlt_1").key(key))
    }

    pub fn metrics(&self) -> Metrics {
        self.admin().metrics()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All that it has written, to stdout and to stderr.
    pub fn output(&self) -> Vec<u8> {
        [self.process.stdout(), self.process.stderr()].concat()
    }

    /// The most memory that it ever held at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the gateway runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells the peak");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("in kB");
        kib * 1024
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether it has ended, and how.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    pub fn wait_for_exit(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// Asks it to stop, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_exit(PATIENCE)
    }

    /// Stops it where it stands, as a hypervisor may: sockets stay open and nothing happens.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Runs a command of keygate's against it.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        let mut command = keygate();
        command.args(arguments).env("KEYGATE_ADMIN_URL", self.admin_url()).env("KEYGATE_ADMIN_TOKEN", TOKEN);
        Ran::to_end(&mut command, "keygate")
    }

    pub fn wait_until_ready(&self) {
        eventually("the gateway is ready", PATIENCE, || self.admin().readyz() == Some(200));
    }
}

/// A gateway to be.
pub struct GatewayBuilder {
    directory: TempDir,
    program: Vec<String>,
    patience: Duration,
    settings: Vec<(String, String)>,
    flags: Vec<String>,
}

impl GatewayBuilder {
    /// Sets a variable of its environment; the last one of a name counts.
    pub fn set(mut self, name: &str, value: &str) -> GatewayBuilder {
        self.settings.retain(|(present, _)| present != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn unset(mut self, name: &str) -> GatewayBuilder {
        self.settings.retain(|(present, _)| present != name);
        self
    }

    /// Runs `binary` under a program that makes it slow.
    pub fn under(mut self, program: Vec<String>, binary: &Path, patience: Duration) -> GatewayBuilder {
        self.program = program;
        self.program.push(binary.display().to_string());
        self.patience = patience;
        self
    }

    pub fn flag(mut self, flag: &str) -> GatewayBuilder {
        self.flags.push(flag.to_owned());
        self
    }

    pub fn live(self, upstream: &Upstream) -> GatewayBuilder {
        self.set("KEYGATE_UPSTREAM_LIVE", &upstream.url())
    }

    pub fn sandbox(self, upstream: &Upstream) -> GatewayBuilder {
        self.set("KEYGATE_UPSTREAM_SANDBOX", &upstream.url())
    }

    pub fn redis(self, redis: &RedisServer) -> GatewayBuilder {
        self.set("KEYGATE_STORE", &redis.url())
    }

    /// Keeps its keys in this file, which outlives it.
    pub fn sqlite(self, path: &Path) -> GatewayBuilder {
        self.set("KEYGATE_STORE", &format!("sqlite:{}", path.display()))
    }

    /// Runs on a machine whose disk and clocks do as they are told.
    pub fn faulty(self, faults: &Faults) -> GatewayBuilder {
        faults.environment().iter().fold(self, |builder, (name, value)| builder.set(name, value))
    }

    /// Writes last-used dates every so many milliseconds.
    pub fn flush_every_ms(self, millis: u64) -> GatewayBuilder {
        self.set("KEYGATE_USAGE__FLUSH_INTERVAL_MS", &millis.to_string())
    }

    /// A file in the gateway's own directory.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("the directory is ours");
        path
    }

    /// `keygate serve` with these settings, to be run by the caller.
    pub fn command(&self, subcommand: &str) -> std::process::Command {
        let [program, arguments @ ..] = self.program.as_slice() else { unreachable!("there is one") };
        let mut command = bare(program);
        command.args(arguments).arg(subcommand).args(&self.flags).current_dir(self.directory.path());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Gateway {
        let patience = self.patience;
        let gateway = self.start_unready();
        eventually("the gateway is ready", patience, || gateway.admin().readyz() == Some(200));
        gateway
    }

    /// Starts it and waits until it listens.
    pub fn start_unready(self) -> Gateway {
        let mut process = Process::start(&mut self.command("serve"), &self.program[0]);
        let [address, admin] = eventually_some("the gateway listens", self.patience, || {
            if let Some(status) = process.exit_status() {
                panic!("the gateway ended before it listened: {status}");
            }
            let log = process.stderr();
            Some([listener(&log, "gateway")?, listener(&log, "admin")?])
        });
        Gateway { process, address, admin, _directory: self.directory }
    }
}

/// The address that the log names for a listener.
fn listener(log: &[u8], name: &str) -> Option<SocketAddr> {
    let lines =
        log.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let fields = lines.map(|line| line["fields"].clone());
    let mut listening =
        fields.filter(|fields| fields["message"] == "listening" && fields["listener"] == name);
    listening.next()?["address"].as_str()?.parse().ok()
}
