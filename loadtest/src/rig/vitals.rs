//! What the kernel says of a process: how much of a core and of memory it has.

use std::fs;
use std::ops::Sub;

use anyhow::Context;
use serde::Serialize;

/// Seconds on a core since a process began, in ticks of usually 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// In its own code.
    pub user: f64,
    /// In the kernel on its behalf.
    pub system: f64,
}

impl Cpu {
    pub fn of(pid: u32) -> anyhow::Result<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Cpu::parse(&stat, rustix::param::clock_ticks_per_second()).context("reading what a process has used")
    }

    pub fn total(&self) -> f64 {
        self.user + self.system
    }

    /// Fields 14 and 15 of proc(5). A process may have any name, but the last bracket ends it.
    fn parse(stat: &str, ticks_per_second: u64) -> Option<Cpu> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut seconds = || Some(ticks.next()?.ok()? as f64 / ticks_per_second as f64);
        Some(Cpu { user: seconds()?, system: seconds()? })
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu { user: self.user - before.user, system: self.system - before.system }
    }
}

/// Bytes of memory that a process has in RAM.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).context("reading how much memory a process has")
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Seconds that this core has worked since the start, for whomever.
pub fn core_seconds(core: usize) -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_core(&stat, core, rustix::param::clock_ticks_per_second())
        .with_context(|| format!("reading what core {core} has done"))
}

/// All columns of proc_stat(5) but idle and iowait, up to steal: guests are in the first two already.
fn parse_core(stat: &str, core: usize, ticks_per_second: u64) -> Option<f64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
    let ticks = line.split_whitespace().map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().ok()?;
    let worked: u64 = ticks.get(..3)?.iter().chain(ticks.get(5..8)?).sum();
    Some(worked as f64 / ticks_per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "71 (a) b (c)) S 1 71 71 0 -1 4194560 10 0 0 0 250 150 3 4 20 0 1 0 99 0 0";
        let cpu = Cpu::parse(stat, 100).unwrap();
        assert_eq!(cpu, Cpu { user: 2.5, system: 1.5 });
        assert_eq!(cpu.total(), 4.0);
        assert_eq!(cpu - Cpu { user: 0.5, system: 1.0 }, Cpu { user: 2.0, system: 0.5 });
    }

    #[test]
    fn a_cut_line_is_nothing() {
        assert_eq!(Cpu::parse("71 (a) S 1 71 71 0 -1 0 0 0 0 0 250", 100), None);
        assert_eq!(Cpu::parse("", 100), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(parse_resident("VmHWM:\t  9000 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1_263_616));
        assert_eq!(parse_resident("Name:\tzombie\n"), None);
    }

    #[test]
    fn a_core_does_not_work_while_it_is_idle_or_waits() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 20 30 1000 500 1 9 40 7 7\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_core(stat, 1, 100), Some(2.0));
        assert_eq!(parse_core(stat, 2, 100), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 0);
        assert!(Cpu::of(std::process::id()).is_ok());
    }
}
