//! A Redis of a test's own.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A `redis-server` process with a directory of its own; killed when dropped.
pub(crate) struct RedisServer {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl RedisServer {
    /// Starts one on a free port.
    pub(crate) fn start() -> RedisServer {
        let directory = tempfile::tempdir().unwrap();
        // Somebody else may take a free port before Redis does.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            if let Ok(process) = spawn(port, directory.path()) {
                return RedisServer { process, port, directory };
            }
        }
        panic!("redis-server does not start");
    }

    /// The same server once more, on the same port and with what it had written to its log of commands.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.process = spawn(self.port, self.directory.path()).unwrap();
    }

    /// Kills the server; the port is free afterwards.
    pub(crate) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Freezes it: connections stay, nobody answers.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a server and waits until it listens.
fn spawn(port: u16, directory: &Path) -> io::Result<Child> {
    let mut process = Command::new("/usr/bin/redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .arg("--dir")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    for _ in 0..1_000 {
        if process.try_wait()?.is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(process);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    let _ = process.wait();
    Err(io::ErrorKind::TimedOut.into())
}
