//! Children that end with the run, whatever becomes of it.
//!
//! A child is ended by its pid, if need be killed, when its [`Process`] is dropped, which happens at the end, on an error, on a signal and
//! on a panic. If this program is killed without a chance to drop anything, the kernel does it: a child begins as this
//! program once more ([`Become`]), asks to die with its parent, and only then becomes what it shall be.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use rustix::thread::set_current_timer_slack;
use tempfile::TempDir;

use super::cores::stay_on;
use super::vitals::{self, Cpu};
use crate::limit::Limit;

/// What Linux gives to a process of its own accord.
const USUAL_SLACK: NonZeroU64 = NonZeroU64::new(50_000).expect("it is not 0");
/// How often it is looked whether a child has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a child may take to end by itself.
const ORDERLY: Duration = Duration::from_secs(2);
const NO_SLACK: NonZeroU64 = NonZeroU64::new(1).expect("it is not 0");

/// The first thing that a child does.
#[derive(clap::Args)]
pub struct Become {
    /// Who started it.
    #[arg(long)]
    parent: i32,
    /// The cores that it stays on; wherever it likes if none is named.
    #[arg(long)]
    core: Vec<usize>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Become {
    /// Returns only if it fails.
    pub fn run(self) -> anyhow::Result<Infallible> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
        ensure!(parent == Some(self.parent), "the parent has ended before its child began");
        stay_on(&self.core)?;
        set_current_timer_slack(Some(USUAL_SLACK))?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let error = Command::new(program).args(arguments).exec();
        Err(error).with_context(|| format!("starting {}", program.display()))
    }
}

/// A process to be: its environment is what `env` says and nothing else.
pub struct Launch<'a> {
    pub name: &'a str,
    pub command: Vec<OsString>,
    pub env: Vec<(&'a str, String)>,
    /// Where it runs, and where its output is kept.
    pub folder: &'a Path,
    pub cores: &'a [usize],
}

/// A child, ended when it is dropped, and killed if that takes too long.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A folder for one process, gone when it is dropped.
pub fn folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("keygate-loadtest-").tempdir().context("making a folder")
}

impl Launch<'_> {
    /// To be called by the main thread: a child dies with the thread that started it.
    pub fn start(self) -> anyhow::Result<Process> {
        let log = self.folder.join(format!("{}.log", self.name));
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        // This very program, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(["become", "--parent", &std::process::id().to_string()]);
        for core in self.cores {
            command.args(["--core", &core.to_string()]);
        }
        command.arg("--").args(self.command).env_clear().envs(self.env).current_dir(self.folder);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {}", self.name))?;
        Ok(Process { name: self.name.to_owned(), child, log })
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        fs::read(&self.log).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
    }

    /// # Errors
    /// With the end of its output, if it has ended.
    pub fn still_runs(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let said = self.said();
        let last = said.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev();
        bail!("{} ended ({status}):\n{}", self.name, last.collect::<Vec<_>>().join("\n"))
    }

    /// What it has used so far.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        Cpu::of(self.pid())
    }

    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        vitals::resident_bytes(self.pid())
    }

    /// Waits until it has ended by itself, and tells how.
    pub fn ends(&mut self, limit: &Limit) -> anyhow::Result<ExitStatus> {
        loop {
            limit.check()?;
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a child has a pid")?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let asked = Instant::now();
        // A build that counts what its code does writes that down at an orderly end.
        while self.signal(Signal::TERM).is_ok() && asked.elapsed() < ORDERLY {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

/// Lets this thread wake when it asked to, and not up to 50 µs later.
pub fn wake_in_time() -> anyhow::Result<()> {
    set_current_timer_slack(Some(NO_SLACK)).context("asking for exact timers")
}
