//! Talking to the admin API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use http::{Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::{World, print};

const DEFAULT_URL: &str = "http://127.0.0.1:8081";
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
const URL_VARIABLE: &str = "KEYGATE_ADMIN_URL";
const CA_VARIABLE: &str = "KEYGATE_ADMIN_CA_FILE";
const TOKEN_VARIABLE: &str = "KEYGATE_ADMIN_TOKEN";
/// For one call; an import of a thousand keys is one.
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Probes are asked often and by impatient ones.
const HEALTH_DEADLINE: Duration = Duration::from_secs(3);

/// Where the admin API is, and what to show it.
#[derive(Debug, Args)]
pub(super) struct ApiArguments {
    /// The admin API, or the environment's KEYGATE_ADMIN_URL [default: http://127.0.0.1:8081].
    #[arg(long, value_name = "URL", global = true)]
    admin_url: Option<String>,
    /// A file that holds the admin token, instead of the environment's KEYGATE_ADMIN_TOKEN.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Root certificates (PEM) for an https:// admin API instead of the system's, or the environment's KEYGATE_ADMIN_CA_FILE.
    #[arg(long, visible_alias = "ca", value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
}

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// The admin or the observe listener [default: what the environment says that this gateway listens on].
    #[arg(long, value_name = "URL")]
    admin_url: Option<String>,
    /// Root certificates (PEM) for an https:// URL instead of the system's, or the environment's KEYGATE_ADMIN_CA_FILE.
    #[arg(long, visible_alias = "ca", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A client of one admin API.
pub(super) struct Api {
    agent: Agent,
    base: String,
    authorization: Zeroizing<String>,
}

impl Api {
    /// # Errors
    /// No token, or a URL to which the token must not be sent.
    pub(super) fn open(arguments: &ApiArguments, world: &World<'_>) -> Result<Api, Failure> {
        let url = arguments.admin_url.as_ref().or_else(|| world.env.get(URL_VARIABLE));
        let url = parse_url(url.map_or(DEFAULT_URL, String::as_str))?;
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(Failure::usage(anyhow!(
                "{URL_VARIABLE}: the admin token is not sent over plain http beyond this machine; use https"
            )));
        }
        let token = match &arguments.token_file {
            Some(path) => read_token(path)?,
            None => world.env.get(TOKEN_VARIABLE).cloned().map(Zeroizing::new).ok_or_else(|| {
                Failure::usage(anyhow!("no admin token: set {TOKEN_VARIABLE}, or give --token-file FILE"))
            })?,
        };
        let authorization = Zeroizing::new(format!("Bearer {}", token.trim()));
        let trust = Trust::given(arguments.ca_file.as_deref(), world);
        Ok(Api { agent: agent(&url, &trust, CALL_DEADLINE)?, base: base_of(&url), authorization })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.get(format!("{}{path}", self.base));
        self.read(request.header("authorization", self.authorization.as_str()).call())
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.post(format!("{}{path}", self.base));
        self.read(request.header("authorization", self.authorization.as_str()).send_json(body))
    }

    /// Reads something, and the name of its state.
    pub(super) fn get_tagged(&self, path: &str) -> Result<(Value, String), Failure> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let answered = request.header("authorization", self.authorization.as_str()).call();
        let tag = answered.as_ref().ok().and_then(|response| response.headers().get("etag"));
        let tag = tag.and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
        Ok((self.read(answered)?, tag))
    }

    /// Changes something that is in the state of this name.
    pub(super) fn patch(&self, path: &str, tag: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.patch(format!("{}{path}", self.base)).header("if-match", tag);
        self.read(request.header("authorization", self.authorization.as_str()).send_json(body))
    }

    /// Where answers say nothing.
    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        let request = self.agent.delete(format!("{}{path}", self.base));
        let answered = request.header("authorization", self.authorization.as_str()).call();
        match answered {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => Ok(()),
            answered => self.read(answered).map(drop),
        }
    }

    /// The whole address of a path of this API's host.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn read(&self, answered: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut response = answered.map_err(|error| unreachable(&self.base, &error))?;
        let status = response.status();
        let answer: Option<Value> = response.body_mut().read_json().ok();
        match answer {
            Some(answer) if status.is_success() => Ok(answer),
            Some(problem) if problem["detail"].is_string() => Err(refused(status.as_u16(), &problem)),
            _ => Err(Failure::other(anyhow!(
                "{} answered {status} and not as an admin API does; is {URL_VARIABLE} right?",
                self.base
            ))),
        }
    }
}

/// `keygate health`.
pub(super) fn health(arguments: &HealthArguments, world: &mut World<'_>) -> Result<(), Failure> {
    let (url, trust) = match arguments.admin_url.as_ref().or_else(|| world.env.get(URL_VARIABLE)) {
        Some(url) => (parse_url(url)?, Trust::given(arguments.ca_file.as_deref(), world)),
        // Its own listener, whose certificate need not name this address; and nothing secret is said.
        None => (parse_url(&own_listener(world))?, Trust::Anybody),
    };
    let base = base_of(&url);
    let asked = agent(&url, &trust, HEALTH_DEADLINE)?.get(format!("{base}/readyz")).call();
    let mut response = asked.map_err(|error| unreachable(&base, &error))?;
    let ready = response.status().is_success();
    let answer: Value = response.body_mut().read_json().unwrap_or_default();
    match answer["status"].as_str() {
        Some(status) if ready => print(world, &format!("{status}\n")),
        Some(status) => Err(Failure::unavailable(anyhow!("the gateway at {base} is not ready: {status}"))),
        None => Err(Failure::unavailable(anyhow!("{base} does not answer as a gateway does"))),
    }
}

/// Where the gateway that has this environment answers probes.
fn own_listener(world: &World<'_>) -> String {
    let address = |name| world.env.get(name)?.parse::<SocketAddr>().ok();
    let admin_scheme =
        if world.env.contains_key("KEYGATE_ADMIN_TLS__CERTIFICATE") { "https" } else { "http" };
    let (scheme, address) = match (address("KEYGATE_OBSERVE_LISTEN"), address("KEYGATE_ADMIN_LISTEN")) {
        (Some(observe), _) => ("http", observe),
        (None, Some(admin)) => (admin_scheme, admin),
        (None, None) => (admin_scheme, DEFAULT_ADMIN),
    };
    if address.ip().is_unspecified() {
        format!("{scheme}://127.0.0.1:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

fn parse_url(text: &str) -> Result<Url, Failure> {
    let expected = "expected http://HOST:PORT or https://HOST:PORT";
    let url =
        Url::parse(text).map_err(|error| Failure::usage(anyhow!("{URL_VARIABLE}: {error}; {expected}")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain && url.fragment().is_none() {
        Ok(url)
    } else {
        Err(Failure::usage(anyhow!("{URL_VARIABLE}: not the URL of an admin API; {expected}")))
    }
}

fn base_of(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name == Ipv4Addr::LOCALHOST.to_string(),
        None => false,
    }
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::usage(anyhow!("--token-file {}: cannot be read: {error}", path.display())))
}

/// Whose certificates are believed, where a URL is https.
enum Trust {
    /// Those that the system's roots vouch for.
    System,
    /// Those that the roots in this file vouch for.
    File(PathBuf),
    /// Any.
    Anybody,
}

impl Trust {
    fn given(flag: Option<&Path>, world: &World<'_>) -> Trust {
        let file = flag.map(Path::to_owned).or_else(|| world.env.get(CA_VARIABLE).map(PathBuf::from));
        file.map_or(Trust::System, Trust::File)
    }

    fn settings(&self) -> Result<TlsConfig, Failure> {
        let roots = match self {
            Trust::Anybody => return Ok(TlsConfig::builder().disable_verification(true).build()),
            Trust::System => rustls_native_certs::load_native_certs().certs,
            Trust::File(path) => read_roots(path)?,
        };
        let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build())
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let wrong = |what: String| Failure::usage(anyhow!("{CA_VARIABLE}: {}: {what}", path.display()));
    match found {
        Ok(roots) if roots.is_empty() => Err(wrong("holds no certificate; expected PEM".to_owned())),
        Ok(roots) => Ok(roots),
        Err(pem::Error::Io(error)) => Err(wrong(format!("cannot be read: {error}"))),
        Err(_) => Err(wrong("is not whole PEM".to_owned())),
    }
}

fn agent(url: &Url, trust: &Trust, deadline: Duration) -> Result<Agent, Failure> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(deadline))
        .http_status_as_error(false)
        // The token goes to the one place that was named.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("keygate/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // Plain http stays on this machine: a proxy would see the token.
        config = config.proxy(None);
    } else {
        config = config.tls_config(trust.settings()?);
    }
    Ok(config.build().into())
}

fn unreachable(base: &str, error: &ureq::Error) -> Failure {
    Failure::unavailable(anyhow!(
        "no answer from {base}: {error}; is the gateway running, and is {URL_VARIABLE} right?"
    ))
}

/// What the API said, with what to do where the API cannot know it.
fn refused(status: u16, problem: &Value) -> Failure {
    let detail = problem["detail"].as_str().unwrap_or_default();
    let id = problem["request_id"].as_str().unwrap_or_default();
    match status {
        401 => Failure::other(anyhow!("{detail}; set {TOKEN_VARIABLE} to the gateway's admin token")),
        400 | 422 => Failure::usage(anyhow!("{detail}")),
        503 => Failure::unavailable(anyhow!("{detail} (request {id})")),
        500.. => Failure::other(anyhow!("{detail} (request {id})")),
        _ => Failure::other(anyhow!("{detail}")),
    }
}
