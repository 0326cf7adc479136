//! Commands that are run to their end: keygate's own, and clients that are not ours.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::wait::PATIENCE;

/// The binary under test.
pub const KEYGATE: &str = env!("CARGO_BIN_EXE_keygate");

/// `keygate` with nothing of our own environment but what finds programs and files.
pub fn keygate() -> Command {
    bare(KEYGATE)
}

/// A program with nothing of our own environment but what finds programs and files.
pub fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A program that is not ours, which must talk to 127.0.0.1 and not to a proxy.
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command
}

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Runs `command` to its end; `package` is what to install if it is not there.
    pub fn to_end(command: &mut Command, package: &str) -> Ran {
        Ran::to_end_within(command, package, 2 * PATIENCE)
    }

    /// As `to_end`, for what takes longer.
    pub fn to_end_within(command: &mut Command, package: &str, patience: Duration) -> Ran {
        let mut process = Process::start(command, package);
        let code = process.wait(patience).code();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code, stdout: text(process.stdout()), stderr: text(process.stderr()) }
    }

    /// Runs `command` with `input` on its stdin. For commands that end by themselves.
    pub fn with_input(command: &mut Command, input: &str) -> Ran {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_owned();
        let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
        let Output { status, stdout, stderr } = child.wait_with_output().expect("the command ends");
        let _ = writer.join().expect("writing does not panic"); // a command may end without reading
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    #[track_caller]
    pub fn assert_code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// That stderr says all of this: what was wrong, and where.
    #[track_caller]
    pub fn assert_says(self, words: &[&str]) -> Ran {
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "stderr does not mention {word}: {}", self.stderr);
        }
        assert!(!said.contains("panicked"), "{}", self.stderr);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}
