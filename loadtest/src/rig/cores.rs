//! Which core runs what.

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One core for what is measured, all others for the rest.
pub struct Cores {
    pub measured: Vec<usize>,
    pub others: Vec<usize>,
}

impl Cores {
    /// The first of the cores that this process may use, and the others.
    pub fn split() -> anyhow::Result<Cores> {
        let mine = sched_getaffinity(None).context("which cores may be used")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| mine.is_set(core));
        let measured = cores.by_ref().take(1).collect();
        let others: Vec<usize> = cores.collect();
        ensure!(!others.is_empty(), "the measured gateway needs a core of its own, and there is only one");
        Ok(Cores { measured, others })
    }
}

impl Cores {
    /// So many, and what is measured has the first: it shares the others if it needs more than its own.
    pub fn first(&self, count: usize) -> Vec<usize> {
        self.measured.iter().chain(&self.others).copied().take(count).collect()
    }
}

/// Keeps this thread, and whatever it starts from now on, on these cores. None means wherever it is now.
pub fn stay_on(cores: &[usize]) -> anyhow::Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    sched_setaffinity(None, &set).with_context(|| format!("staying on the cores {cores:?}"))
}
