//! The repository that this program was built from, and gateways that are built from sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The root of the repository.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// Builds the keygate of a source tree as it is released, and tells where it is.
pub fn build_keygate(source: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "keygate",
        "--bin",
        "keygate",
        "--target-dir",
    ]);
    let status = build.arg(target).current_dir(source).status().context("running cargo")?;
    ensure!(status.success(), "keygate does not build in {}", source.display());
    Ok(target.join("release/keygate"))
}

/// What git says to these words, without the end of its line.
pub fn git(words: &[&str], folder: &Path) -> anyhow::Result<String> {
    let output = Command::new("git").args(words).current_dir(folder).output().context("running git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", words.join(" "), said.trim());
    Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
}
