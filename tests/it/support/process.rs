//! A process of our own: what it says is kept, and it does not outlive its test.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

use super::wait::eventually_some;

/// A child that is killed, by its pid, when it is dropped.
pub struct Process {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output taken.
    ///
    /// # Panics
    /// If it cannot be started: `package` says what has to be installed.
    pub fn start(command: &mut Command, package: &str) -> Process {
        raise_file_limit();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?} does not start ({error}): it is in the package {package}")
            });
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            keep(child.stdout.take().expect("it is piped"), &stdout),
            keep(child.stderr.take().expect("it is piped"), &stderr),
        ];
        Process { child, stdout, stderr, readers, exited: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.lock().unwrap().clone()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there: it is reaped only when it is waited for");
    }

    /// Whether it has ended, and how.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("a child can be waited for");
        }
        self.exited
    }

    /// Waits until it has ended and all it said was read.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let status = eventually_some("the process ends", deadline, || self.exit_status());
        for reader in self.readers.drain(..) {
            reader.join().expect("reading output does not fail");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            let _ = self.child.kill(); // it may end by itself just now
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            for output in [stdout, stderr].iter().filter(|output| !output.is_empty()) {
                let tail = &output[output.len().saturating_sub(6_000)..];
                eprintln!("--- process {}:\n{}", self.child.id(), String::from_utf8_lossy(tail));
            }
        }
    }
}

fn keep(mut output: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = output.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    })
}

/// A test with a thousand clients needs more files than a shell hands out; children inherit the limit.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("the limit may be raised up to the hard one");
    }
}
