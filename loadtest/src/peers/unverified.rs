//! keygate that verifies a worker's first key and takes every later one for the same: what verification costs is the
//! difference.
//!
//! A copy of the tracked files with `unverified.patch`, in a target directory of its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, ensure};

use crate::rig::source::{build_keygate, git, root};

/// Builds it, or brings it up to date.
pub fn build() -> anyhow::Result<PathBuf> {
    let place = root().join("target/unverified");
    let copy = place.join("source");
    copy_tracked(&root(), &copy).context("copying the sources")?;
    let patch = patch();
    let applied = apply(&copy).output().context("running git")?;
    let said = String::from_utf8_lossy(&applied.stderr);
    ensure!(applied.status.success(), "loadtest/unverified.patch does not fit: {said}");
    for name in fs::read_to_string(&patch)?.lines().filter_map(|line| line.strip_prefix("+++ b/")) {
        let changed = modified(&root().join(name))?.max(modified(&patch)?);
        set_modified(&copy.join(name), changed)?;
    }
    build_keygate(&copy, &place.join("target"))
}

fn patch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("unverified.patch")
}

/// Applies the patch to a tree. The ceiling keeps git from thinking of the repository around it.
fn apply(tree: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("apply").arg(patch());
    command.current_dir(tree).env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    command
}

fn modified(file: &Path) -> io::Result<SystemTime> {
    fs::metadata(file)?.modified()
}

/// So that cargo builds only what has changed.
fn set_modified(file: &Path, time: SystemTime) -> io::Result<()> {
    File::options().append(true).open(file)?.set_modified(time)
}

/// What git tracks, as it is in the work tree.
fn copy_tracked(root: &Path, copy: &Path) -> anyhow::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?; // what is tracked no more, and what was patched
    }
    for name in git(&["ls-files", "-z"], root)?.split_terminator('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        if !from.is_file() {
            continue; // deleted, and not committed yet
        }
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(&from, &to)?;
        set_modified(&to, modified(&from)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_fits_the_sources() {
        let mut check = apply(&root());
        let checked = check.arg("--check").output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
