//! A burst: as many requests as are answered, by wrk where it is installed, else by ourselves.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::limit::Limit;
use crate::load::{self, Plan, Work};
use crate::peers::find;
use crate::progress::Progress;
use crate::rig::launch::{Launch, folder};

const PATH: &str = "/v1/wallets/wlt_1";
/// Host and key: the header lines that each request has.
const FEWEST_HEADERS: usize = 2;

/// What the requests of a load are like.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    /// Used in turn.
    pub keys: &'a [String],
    pub connections: usize,
    /// Header lines, at least two.
    pub headers: usize,
    /// Bytes of a body; without one it is a GET.
    pub body: usize,
    /// What each answer has to be.
    pub status: u16,
}

impl<'a> Shape<'a> {
    /// A plain GET that is answered 200.
    pub fn plain(keys: &'a [String], connections: usize) -> Shape<'a> {
        Shape { keys, connections, headers: FEWEST_HEADERS, body: 0, status: 200 }
    }

    /// Whole requests, one for each key.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let mut more: String = self.filler().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let method = if self.body > 0 { "POST" } else { "GET" };
        if self.body > 0 {
            let _ = write!(more, "Content-Length: {}\r\n", self.body); // writing to a text cannot fail
        }
        let body = "x".repeat(self.body);
        let whole = |key| {
            format!("{method} {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n{more}\r\n{body}")
                .into_bytes()
        };
        self.keys.iter().map(whole).collect()
    }

    fn filler(&self) -> impl Iterator<Item = (String, String)> {
        let lines = self.headers.saturating_sub(FEWEST_HEADERS);
        (0..lines).map(|line| (format!("X-Filler-{line}"), format!("the value of header line {line}")))
    }

    /// The same as a script for wrk. One request is made once, and many are made before the start.
    fn script(&self, keys: &Path) -> String {
        let mut script = String::new();
        for (name, value) in self.filler() {
            let _ = writeln!(script, "wrk.headers[\"{name}\"] = \"{value}\"");
        }
        if self.body > 0 {
            let _ = writeln!(script, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {})", self.body);
        }
        if let [key] = self.keys {
            let _ = writeln!(script, "wrk.headers[\"X-API-Key\"] = \"{key}\"");
        } else {
            let _ = write!(
                script,
                "local requests, at = {{}}, 0\n\
                 function init()\n  for key in io.lines(\"{}\") do\n    wrk.headers[\"X-API-Key\"] = key\n    \
                 requests[#requests + 1] = wrk.format()\n  end\nend\n\
                 function request()\n  at = at % #requests + 1\n  return requests[at]\nend\n",
                keys.display()
            );
        }
        script
    }
}

/// What came of a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    pub requests: u64,
    pub span: Duration,
}

impl Burst {
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.span.as_secs_f64()
    }
}

/// Whether wrk makes the bursts.
pub fn has_wrk() -> bool {
    find("wrk").is_some()
}

/// # Errors
/// An answer was not as it should be: it may have been cheap, so the burst is void.
pub fn burst(
    address: SocketAddr,
    shape: &Shape<'_>,
    seconds: u64,
    cores: &[usize],
    limit: &Limit,
    progress: &Progress,
) -> anyhow::Result<Burst> {
    if has_wrk() {
        return wrk(address, shape, seconds, cores, limit);
    }
    let plan = Plan {
        address,
        connections: shape.connections,
        warm_up: Duration::ZERO,
        span: Duration::from_secs(seconds),
        seed: 0,
    };
    let measured = load::saturate(&plan, &mut Requests::of(shape), limit, progress)?;
    let void = measured.unexpected > 0 || measured.failed > 0;
    ensure!(!void, "the burst is void, its answers are {:?}", measured.by_status);
    Ok(Burst { requests: measured.answered, span: measured.span })
}

/// Whole requests, sent in turn by a generator of our own.
pub struct Requests {
    requests: Vec<Vec<u8>>,
    next: usize,
    status: u16,
}

impl Requests {
    pub fn of(shape: &Shape<'_>) -> Requests {
        Requests { requests: shape.requests(), next: 0, status: shape.status }
    }
}

impl Work for Requests {
    fn request(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.requests[self.next]);
        self.next = (self.next + 1) % self.requests.len();
    }

    fn expects(&self, status: u16) -> bool {
        status == self.status
    }
}

fn wrk(
    address: SocketAddr,
    shape: &Shape<'_>,
    seconds: u64,
    cores: &[usize],
    limit: &Limit,
) -> anyhow::Result<Burst> {
    let folder = folder()?;
    let (script, keys) = (folder.path().join("requests.lua"), folder.path().join("keys"));
    std::fs::write(&keys, shape.keys.join("\n") + "\n")?;
    std::fs::write(&script, shape.script(&keys))?;
    let mut command = vec!["wrk".into(), "-t1".into(), format!("-c{}", shape.connections).into()];
    command.extend([format!("-d{seconds}s").into(), "-s".into(), script.into()]);
    command.push(format!("http://{address}{PATH}").into());
    let env = vec![("PATH", std::env::var("PATH").unwrap_or_default())];
    let mut process = Launch { name: "wrk", command, env, folder: folder.path(), cores }.start()?;
    let status = process.ends(limit)?;
    let said = process.said();
    ensure!(status.success(), "wrk ended ({status}):\n{said}");
    parse_wrk(&said, shape.status)
}

/// wrk does not count statuses, but those that are neither 2xx nor 3xx.
fn parse_wrk(said: &str, status: u16) -> anyhow::Result<Burst> {
    let line = |start: &str| said.lines().find_map(|line| line.trim().strip_prefix(start));
    if let Some(errors) = line("Socket errors:") {
        bail!("the burst is void, there were socket errors:{errors}");
    }
    let bad: u64 = line("Non-2xx or 3xx responses:").map_or(Ok(0), |count| count.trim().parse())?;
    let (requests, span) = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "))
        .with_context(|| format!("wrk does not say how many requests were answered:\n{said}"))?;
    let (requests, span) = (requests.parse()?, parse_span(span.split(',').next().unwrap_or_default())?);
    let expected_bad = if status < 400 { 0 } else { requests };
    ensure!(bad == expected_bad, "the burst is void, {bad} of {requests} answers are neither 2xx nor 3xx");
    Ok(Burst { requests, span })
}

/// `850.00ms`, `3.00s` or `1.02m`, as wrk writes it.
fn parse_span(text: &str) -> anyhow::Result<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .with_context(|| format!("{text} is no length of time"))?;
    Ok(Duration::try_from_secs_f64(number.parse::<f64>()? * unit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 3s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   639.20us  601.99us   6.27ms   80.74%\n  \
        215498 requests in 3.10s, 44.80MB read\n";

    #[test]
    fn requests_and_time_are_read_from_what_wrk_says() {
        let burst = parse_wrk(SAID, 200).unwrap();
        assert_eq!(burst, Burst { requests: 215_498, span: Duration::from_millis(3100) });
        assert!((burst.rate() - 69_515.5).abs() < 1.0);
    }

    #[test]
    fn a_burst_with_other_answers_is_void() {
        let bad = format!("{SAID}  Non-2xx or 3xx responses: 7\n");
        assert!(parse_wrk(&bad, 200).is_err());
        assert!(parse_wrk(&bad, 401).is_err());
        assert!(parse_wrk(&format!("{SAID}  Non-2xx or 3xx responses: 215498\n"), 401).is_ok());
        assert!(
            parse_wrk(&format!("{SAID}  Socket errors: connect 0, read 1, write 0, timeout 0\n"), 200)
                .is_err()
        );
        assert!(parse_wrk("unable to connect", 200).is_err());
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [("850.00ms", 850), ("3.00s", 3000), ("1.50m", 90_000), ("2000us", 2)] {
            assert_eq!(parse_span(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        assert!(parse_span("3.00h").is_err());
    }

    #[test]
    fn a_request_has_as_many_header_lines_as_were_asked_for() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let requests = Shape { headers: 5, ..Shape::plain(&keys, 1) }.requests();
        assert_eq!(requests.len(), 2);
        let text = String::from_utf8(requests[1].clone()).unwrap();
        assert_eq!(text.matches("\r\n").count(), 1 + 5 + 1, "{text}");
        assert!(text.contains("X-API-Key: b\r\n"));
        let with_body = Shape { body: 3, ..Shape::plain(&keys, 1) }.requests();
        assert!(with_body[0].ends_with(b"Content-Length: 3\r\n\r\nxxx"));
    }
}
