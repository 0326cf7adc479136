//! The gateway of an earlier commit.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::rig::source::{build_keygate, git, root};

/// What was built.
pub struct Base {
    /// Its short name.
    pub commit: String,
    pub binary: PathBuf,
}

/// Builds it, unless it was built before. The sources are gone afterwards; what cargo made of them stays for the next time.
pub fn build(commit: &str) -> anyhow::Result<Base> {
    let root = root();
    let commit = git(&["rev-parse", "--short=12", "--verify", &format!("{commit}^{{commit}}")], &root)?;
    let place = root.join("target/against");
    fs::create_dir_all(&place)?;
    let binary = place.join(format!("keygate-{commit}"));
    if !binary.exists() {
        let tree = Tree::check_out(&root, place.join("source"), &commit)?;
        let built = build_keygate(&tree.path, &place.join("target"))?;
        fs::copy(&built, &binary).with_context(|| format!("copying {}", built.display()))?;
    }
    Ok(Base { commit, binary })
}

/// A work tree, removed when it is dropped.
struct Tree<'a> {
    root: &'a Path,
    path: PathBuf,
}

impl Tree<'_> {
    fn check_out<'a>(root: &'a Path, path: PathBuf, commit: &str) -> anyhow::Result<Tree<'a>> {
        let tree = Tree { root, path };
        tree.remove(); // what a run has left that was killed
        let place = tree.path.to_str().context("the repository has a path of plain text")?;
        git(&["worktree", "add", "--detach", place, commit], root)?;
        Ok(tree)
    }

    /// Whatever of it is there.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = git(&["worktree", "prune"], self.root);
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
