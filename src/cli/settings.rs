//! From flags to the sources of settings.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use crate::config::{Flag, Preset, Sources};

use super::failure::Failure;

/// The flags that set something. Everything else is set in the file or in the environment.
#[derive(Debug, Args)]
pub(super) struct SettingFlags {
    /// Settings in TOML; `config/keygate.toml` shows them all.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the admin API listens, or `off` [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// The certificate for clients, with its chain (PEM); without one, plain HTTP is spoken.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// The certificate of the admin listener, with its chain (PEM).
    #[arg(long, value_name = "FILE")]
    admin_tls_certificate: Option<String>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    admin_tls_key: Option<String>,
    /// Something in front of the listeners ends TLS.
    #[arg(long)]
    behind_tls: bool,
    /// Where keys are kept: sqlite:PATH, redis://… or rediss://… [default: sqlite:keygate.sqlite].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where Live requests go.
    #[arg(long, value_name = "URL")]
    upstream_live: Option<String>,
    /// Where Sandbox requests go.
    #[arg(long, value_name = "URL")]
    upstream_sandbox: Option<String>,
    /// Worker threads; 0 is one per core.
    #[arg(long, value_name = "N")]
    workers: Option<String>,
}

impl SettingFlags {
    /// These flags over `env` over the file.
    pub(super) fn sources(&self, env: &BTreeMap<String, String>) -> Sources {
        let behind_tls = self.behind_tls.then(|| "true".to_owned());
        let given = [
            ("--listen", "listen", &self.listen),
            ("--admin-listen", "admin_listen", &self.admin_listen),
            ("--tls-certificate", "tls.certificate", &self.tls_certificate),
            ("--tls-key", "tls.key", &self.tls_key),
            ("--admin-tls-certificate", "admin_tls.certificate", &self.admin_tls_certificate),
            ("--admin-tls-key", "admin_tls.key", &self.admin_tls_key),
            ("--behind-tls", "behind_tls", &behind_tls),
            ("--store", "store", &self.store),
            ("--upstream-live", "upstream_live", &self.upstream_live),
            ("--upstream-sandbox", "upstream_sandbox", &self.upstream_sandbox),
            ("--workers", "workers", &self.workers),
        ];
        let flags = given.into_iter().filter_map(|(flag, setting, value)| {
            value.as_ref().map(|value| Flag { flag, setting, value: value.clone() })
        });
        Sources { file: self.config.clone(), env: env.clone(), flags: flags.collect(), ..Sources::default() }
    }
}

/// A directory that goes when it is dropped.
#[derive(Debug)]
pub(super) struct DemoDirectory(PathBuf);

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "the demo's directory stays behind");
        }
    }
}

/// What holds in a demo where nothing else is said: a random admin token, and a store that goes with the demo.
pub(super) fn demo_preset() -> Result<(Preset, DemoDirectory), Failure> {
    let mut random = [0; 24];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::other(anyhow!("the operating system gave no random bytes: {error}")))?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (token, name) = random.split_at(16);
    let directory = std::env::temp_dir().join(format!("keygate-demo-{}", hex(name)));
    let made = DirBuilder::new().mode(0o700).create(&directory);
    made.map_err(|error| {
        Failure::other(anyhow!("cannot make the directory {}: {error}", directory.display()))
    })?;
    let store = format!("sqlite:{}", directory.join("keygate.sqlite").display());
    let settings = vec![("admin_token", hex(token)), ("store", store)];
    Ok((Preset { name: "keygate demo", settings }, DemoDirectory(directory)))
}
