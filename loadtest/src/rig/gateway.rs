//! Real gateways, and what is asked of their admin API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Connection, get, post};
use super::launch::{Launch, Process, folder};
use super::metrics::Scrape;
use super::redis::Redis;
use super::upstream::Upstream;
use crate::limit::Limit;

const PATIENCE: Duration = Duration::from_secs(20);
/// What a machine shows to the admin API.
pub const AUTHORIZATION: &str = "Authorization: Bearer a-token-for-load-tests-only-0123456789";

/// A gateway with one worker, ended when it is dropped.
pub struct Gateway {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    _folder: TempDir,
}

/// A key, fresh from the admin API.
#[derive(Deserialize)]
pub struct CreatedKey {
    pub id: String,
    pub key: String,
}

impl Gateway {
    /// Starts it and waits until it is ready.
    pub fn start(
        binary: &Path,
        redis: &Redis,
        upstream: &Upstream,
        cores: &[usize],
        limit: &Limit,
    ) -> anyhow::Result<Gateway> {
        Gateway::start_with(binary, redis, &upstream.url(), &[], cores, limit)
    }

    /// As [`Gateway::start`], with settings of its own: environment variables, of which the last counts.
    pub fn start_with(
        binary: &Path,
        redis: &Redis,
        upstream: &str,
        settings: &[(&'static str, String)],
        cores: &[usize],
        limit: &Limit,
    ) -> anyhow::Result<Gateway> {
        let folder = folder()?;
        let set = |name, value: &str| (name, value.to_owned());
        let mut env = vec![
            set("KEYGATE_LISTEN", "127.0.0.1:0"),
            set("KEYGATE_ADMIN_LISTEN", "127.0.0.1:0"),
            set("KEYGATE_ADMIN_TOKEN", AUTHORIZATION.rsplit(' ').next().unwrap_or_default()),
            set("KEYGATE_STORE", &redis.url()),
            set("KEYGATE_UPSTREAM_LIVE", upstream),
            set("KEYGATE_UPSTREAM__IDLE_TIMEOUT_MS", "60000"),
            set("KEYGATE_WORKERS", "1"),
            set("KEYGATE_LOG__FORMAT", "json"),
        ];
        env.extend_from_slice(settings);
        let command = vec![binary.into(), "serve".into()];
        let mut process = Launch { name: "keygate", command, env, folder: folder.path(), cores }.start()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            limit.check()?;
            process.still_runs()?;
            let said = process.said();
            if let (Some(address), Some(admin)) = (listener(&said, "gateway"), listener(&said, "admin"))
                && is_ready(admin)
            {
                return Ok(Gateway { process, address, admin, _folder: folder });
            }
            if Instant::now() > deadline {
                bail!("the gateway is not ready after {} s:\n{said}", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A new connection to where clients connect.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address)
    }

    /// A new connection to the admin API, which closes it when it is not used for some seconds.
    pub fn connect_admin(&self) -> anyhow::Result<Connection> {
        Connection::open(self.admin)
    }

    pub fn scrape(&self) -> anyhow::Result<Scrape> {
        let answer = self.connect_admin()?.ask(&get("/metrics", AUTHORIZATION))?;
        ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        Ok(Scrape(answer.text()))
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Creates a Live key.
pub fn create_key(admin: &mut Connection) -> anyhow::Result<CreatedKey> {
    let answer = admin.ask(&create_request())?;
    ensure!(answer.status == 201, "creating a key: {} {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).context("reading a created key")
}

pub fn create_request() -> Vec<u8> {
    let body = json!({"label": "Load test", "environment": "live", "team": "load"});
    post("/v1/keys", AUTHORIZATION, &body.to_string())
}

pub fn revoke_request(id: &str) -> Vec<u8> {
    post(&format!("/v1/keys/{id}/revoke"), AUTHORIZATION, "{}")
}

/// A client's request with this key.
pub fn use_request(key: &str) -> Vec<u8> {
    get("/v1/wallets/wlt_1", &format!("X-API-Key: {key}"))
}

/// The given one, or the one that was built beside this program, which is built now if it is not there.
pub fn binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return given.canonicalize().with_context(|| format!("looking for {}", given.display()));
    }
    let here = std::env::current_exe()?;
    let beside = here.with_file_name("keygate");
    if !beside.exists() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target =
            here.parent().and_then(Path::parent).context("this program lies in a target directory")?;
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--package", "keygate", "--manifest-path"]).arg(manifest);
        let status = build.arg("--target-dir").arg(target).status().context("building keygate")?;
        ensure!(
            status.success() && beside.exists(),
            "keygate does not build; name a ready one with --binary"
        );
    }
    Ok(beside)
}

/// What it calls itself.
pub fn version(binary: &Path) -> anyhow::Result<String> {
    let output = Command::new(binary).arg("--version").output();
    let output = output.with_context(|| format!("asking {} for its version", binary.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The address that the log names for a listener.
fn listener(log: &str, name: &str) -> Option<SocketAddr> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fields = lines.map(|line| line["fields"].clone());
    let listening = fields.find(|fields| fields["message"] == "listening" && fields["listener"] == name)?;
    listening["address"].as_str()?.parse().ok()
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || Connection::open(admin)?.ask(&get("/readyz", AUTHORIZATION));
    ask().is_ok_and(|answer| answer.status == 200)
}
