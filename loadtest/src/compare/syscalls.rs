//! Which system calls a peer makes for a request, as `strace -c` counts them. It slows the peer a lot: nothing is timed.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::process::Signal;

use super::Stage;
use super::burst::Shape;
use crate::peers::{Peer, find};
use crate::rig::launch::{Launch, folder};

const SECONDS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls for a request, by name; failed ones among them.
pub type Calls = BTreeMap<String, f64>;

/// Whether they can be counted.
pub fn has_strace() -> bool {
    find("strace").is_some()
}

pub fn count(peer: &Peer, shape: &Shape<'_>, stage: &Stage<'_>) -> anyhow::Result<Calls> {
    let folder = folder()?;
    let pid = peer.process().pid().to_string();
    let command = ["strace", "-c", "-f", "-p", &pid].into_iter().map(Into::into).collect();
    let env = vec![("PATH", std::env::var("PATH").unwrap_or_default())];
    let cores = &stage.cores.others;
    let mut strace = Launch { name: "strace", command, env, folder: folder.path(), cores }.start()?;
    let deadline = Instant::now() + PATIENCE;
    while !strace.said().contains(" attached") {
        stage.limit.check()?;
        strace.still_runs()?;
        if Instant::now() > deadline {
            bail!("strace does not attach");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let requests = stage.burst(peer, shape, SECONDS)?.requests;
    strace.signal(Signal::INT)?;
    strace.ends(stage.limit)?;
    let calls = parse(&strace.said());
    ensure!(!calls.is_empty(), "strace counted nothing:\n{}", strace.said());
    Ok(calls.into_iter().map(|(name, calls)| (name, calls as f64 / requests as f64)).collect())
}

/// The lines of its table: share, seconds, time of a call, calls, errors if there were any, name.
fn parse(said: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first()?.parse::<f64>().ok()?;
        let name = fields.get(4..)?.last()?;
        (*name != "total").then_some((name.to_string(), fields[3].parse().ok()?))
    };
    said.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_and_without_errors() {
        let said = "strace: Process 11 attached\nstrace: Process 11 detached\n\
            % time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            76.34    0.564296           6     82982           sendto\n \
            18.71    0.138288           1     92982     10000 recvfrom\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.739159           4    175964     10000 total\n";
        let calls = parse(said);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls["sendto"], calls["recvfrom"]), (82_982, 92_982));
    }
}
