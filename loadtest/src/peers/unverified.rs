//! keygate that verifies a worker's first key and takes every later request for the same: what verification costs is the
//! difference.
//!
//! A copy of the tracked files with `unverified.patch`, in a target directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Builds it, or brings it up to date.
pub fn build() -> anyhow::Result<PathBuf> {
    let root = root();
    let copy = root.join("target/unverified/source");
    copy_tracked(&root, &copy).context("copying the sources")?;
    let mut apply = patch_command(&copy);
    let applied = apply.output().context("running git")?;
    ensure!(
        applied.status.success(),
        "loadtest/unverified.patch does not apply: {}",
        String::from_utf8_lossy(&applied.stderr)
    );
    let target = root.join("target/unverified/target");
    cargo_build(&copy, &target)?;
    Ok(target.join("release/keygate"))
}

/// Builds the keygate of a source tree, as it is released.
pub fn cargo_build(source: &Path, target: &Path) -> anyhow::Result<()> {
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
    let status = build.arg(target).current_dir(source).env_remove("CARGO_TARGET_DIR").status();
    ensure!(status.context("running cargo")?.success(), "keygate does not build in {}", source.display());
    Ok(())
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// Applies the patch to a tree. The ceiling keeps git from thinking of the repository around it.
fn patch_command(tree: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("apply").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("unverified.patch"));
    command.current_dir(tree).env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    command
}

/// What git tracks, as it is in the work tree. A file that is the same already keeps its time, so that cargo need not build
/// what did not change; the one that is patched changes each time.
fn copy_tracked(root: &Path, copy: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    if copy.join("src").exists() {
        fs::remove_dir_all(copy.join("src"))?; // what is tracked no more
    }
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        let Ok(bytes) = fs::read(&from) else { continue }; // deleted, and not committed yet
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::write(&to, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_fits_the_sources() {
        let mut check = patch_command(&root());
        let checked = check.arg("--check").output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
