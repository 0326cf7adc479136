//! Requests from a list, as fast as they are answered, each once and in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::limit::Limit;
use crate::rig::http::{Answer, Connection};
use crate::rig::watch::Watch;

/// How long nothing may come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
pub struct Passed {
    pub by_status: BTreeMap<u16, u64>,
    pub span: Duration,
}

impl Passed {
    pub fn answered(&self) -> u64 {
        self.by_status.values().sum()
    }

    pub fn rate(&self) -> f64 {
        self.answered() as f64 / self.span.as_secs_f64()
    }

    /// Whether all answers are of this status.
    pub fn all(&self, status: u16) -> bool {
        self.by_status.keys().all(|&other| other == status)
    }
}

/// Until the list ends.
pub fn pass<'a>(
    address: SocketAddr,
    connections: usize,
    requests: impl Iterator<Item = &'a [u8]>,
    limit: &Limit,
) -> anyhow::Result<Passed> {
    pass_with(address, connections, requests, limit, |_| Ok(()))
}

/// As [`pass`], and tells each answer as it comes.
pub fn pass_with<'a>(
    address: SocketAddr,
    connections: usize,
    mut requests: impl Iterator<Item = &'a [u8]>,
    limit: &Limit,
    mut answered: impl FnMut(Answer) -> anyhow::Result<()>,
) -> anyhow::Result<Passed> {
    let mut watch = Watch::new()?;
    let mut open = Vec::with_capacity(connections);
    for number in 0..connections {
        let connection = Connection::open(address)?;
        watch.add(&connection, number as u64)?;
        open.push(connection);
    }
    let began = Instant::now();
    let mut under_way = 0;
    for connection in &mut open {
        if let Some(request) = requests.next() {
            connection.send(request)?;
            under_way += 1;
        }
    }
    let mut by_status = BTreeMap::new();
    while under_way > 0 {
        limit.check()?;
        let mut silent = true;
        for number in watch.wait(Instant::now() + PATIENCE)? {
            silent = false;
            let connection = &mut open[number as usize];
            let Some(answer) = connection.receive()? else { continue };
            *by_status.entry(answer.status).or_default() += 1;
            answered(answer)?;
            match requests.next() {
                Some(request) => connection.send(request)?,
                None => under_way -= 1,
            }
        }
        if silent {
            bail!("{address} has answered nothing for {} s", PATIENCE.as_secs());
        }
    }
    Ok(Passed { by_status, span: began.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::upstream::Upstream;

    #[test]
    fn each_request_is_answered_once() {
        let upstream = Upstream::start().unwrap();
        let address = upstream.url().strip_prefix("http://").unwrap().parse().unwrap();
        let limit = Limit::begin(Duration::from_secs(30)).unwrap();
        let request: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
        let mut told = 0;
        let count = |_| {
            told += 1;
            Ok(())
        };
        let passed = pass_with(address, 3, [request; 50].into_iter(), &limit, count).unwrap();
        assert_eq!((passed.answered(), told), (50, 50));
        assert!(passed.all(200) && !passed.all(401));
        assert_eq!(pass(address, 8, [request; 2].into_iter(), &limit).unwrap().answered(), 2);
    }
}
