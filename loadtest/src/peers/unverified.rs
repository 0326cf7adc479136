//! keygate that verifies a worker's first key and takes every later one for the same: what verification costs is the
//! difference.
//!
//! A copy of the tracked files with `unverified.patch`, in a target directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::rig::source::{build_keygate, git, root};

/// Builds it, or brings it up to date.
pub fn build() -> anyhow::Result<PathBuf> {
    let place = root().join("target/unverified");
    let copy = place.join("source");
    copy_tracked(&root(), &copy).context("copying the sources")?;
    let applied = apply(&copy).output().context("running git")?;
    let said = String::from_utf8_lossy(&applied.stderr);
    ensure!(applied.status.success(), "loadtest/unverified.patch does not fit: {said}");
    build_keygate(&copy, &place.join("target"))
}

/// Applies the patch to a tree. The ceiling keeps git from thinking of the repository around it.
fn apply(tree: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("apply").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("unverified.patch"));
    command.current_dir(tree).env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    command
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
        // So that cargo builds only what has changed.
        fs::File::options().append(true).open(&to)?.set_modified(fs::metadata(&from)?.modified()?)?;
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
