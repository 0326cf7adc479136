//! Pingora: a proxy of our own in `loadtest/pingora/`, a crate that nobody has to build.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::rig::source::root;

use super::{Place, Program, keys};

/// How it is built.
pub const BUILD: &str =
    "cargo build --release --manifest-path loadtest/pingora/Cargo.toml --target-dir target/pingora";

/// In the target directory of the workspace, wherever this program lies.
pub fn binary() -> PathBuf {
    root().join("target/pingora/release/keygate-peer-pingora")
}

/// A map of SHA-256 in memory.
pub fn program(place: &Place<'_>, folder: &Path, listen: SocketAddr) -> anyhow::Result<Program> {
    let list = keys::write(&folder.join("keys"), place.keys, |key| format!("{} {}", key.text, key.id))?;
    let upstream = place.api.address.to_string();
    Ok(Program { command: vec![binary().into(), listen.to_string().into(), upstream.into(), list.into()] })
}
