//! `keygate demo`: a gateway, a sample API behind it, a team with two keys, and what to try.

use std::fmt::Write as _;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::config::{AdminToken, Config, UpstreamUrl};
use crate::demo::SampleUpstream;
use crate::keys::NewKey;
use crate::model::{ApiKey, Environment, KeyRecord};
use crate::people::{NewUser, Role, SecretToken};

use super::start::{self, BindError, Listeners, StartError, start_logging};
use super::{Gatehouse, ServeOptions, control_runtime};

/// The team that the demo's keys belong to.
const TEAM: &str = "demo";
/// Who may do everything in the demo.
const ADMIN: &str = "admin";

/// Runs a gateway in front of a sample API until SIGTERM or SIGINT. Everything is in this process; what is printed can
/// be pasted into a shell.
///
/// # Errors
/// It could not start; the error names what to change.
pub fn demo(mut config: Config) -> Result<(), StartError> {
    start_logging(&config.log)?;
    control_runtime()?.block_on(async {
        let signal = start::shutdown_signal()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let (stop, stopped) = watch::channel(false);
        let live = start_sample(Environment::Live, &clock, super::ended(stopped.clone())).await?;
        let sandbox = start_sample(Environment::Sandbox, &clock, super::ended(stopped)).await?;
        config.upstream_live = Some(live);
        config.upstream_sandbox = Some(sandbox);

        let token = config.admin_token.clone();
        let schemes =
            [&config.tls, &config.admin_tls].map(|tls| if tls.is_some() { "https" } else { "http" });
        let listeners = Listeners::bind(&config).await?;
        let addresses =
            (listeners.gateway.local_addr(), listeners.admin.as_ref().map(TcpListener::local_addr));
        let gatehouse = Gatehouse::open(config, ServeOptions { fail_fast: true }, &listeners).await?;
        let keys =
            [gatehouse.demo_key(Environment::Live).await?, gatehouse.demo_key(Environment::Sandbox).await?];
        let link = gatehouse.demo_link().await?;
        if let (Ok(gateway), Some(Ok(admin)), Some(token)) = (addresses.0, addresses.1, &token) {
            let origins = (format!("{}://{gateway}", schemes[0]), format!("{}://{admin}", schemes[1]));
            print(&guide(&origins.0, &origins.1, token, &link, &keys));
        }
        let ran = gatehouse.run(listeners, signal).await;
        stop.send_replace(true);
        ran
    })
}

impl Gatehouse {
    async fn demo_key(&self, environment: Environment) -> Result<(KeyRecord, ApiKey), StartError> {
        let new = NewKey {
            label: format!("Demo, {environment}"),
            team: Some(TEAM.to_owned()),
            environment,
            expires_at: None,
        };
        self.keys.create(new).await.map_err(|error| StartError::Demo(Box::new(error)))
    }
}

impl Gatehouse {
    /// A link that logs the demo's admin in.
    async fn demo_link(&self) -> Result<SecretToken, StartError> {
        let admin = NewUser {
            account: ADMIN.to_owned(),
            display_name: Some("Demo admin".to_owned()),
            role: Role::Admin,
            team: None,
            password: None,
        };
        let link = async { self.people.log_in_link(&self.people.add(admin, None).await?.user.id).await };
        let (token, _) = link.await.map_err(|error| StartError::Demo(Box::new(error)))?;
        Ok(token)
    }
}

/// A sample API on a port of its own.
async fn start_sample(
    environment: Environment,
    clock: &Arc<dyn Clock>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<UpstreamUrl, StartError> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let refused = |source| StartError::Bind(BindError::new("demo", address, source));
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    tokio::spawn(SampleUpstream::new(environment, Arc::clone(clock)).serve(listener, stopped));
    Ok(UpstreamUrl { tls: false, host: "127.0.0.1".to_owned(), port })
}

/// What to try, as commands for a shell; `gateway` and `admin` are origins.
fn guide(
    gateway: &str,
    admin: &str,
    token: &AdminToken,
    link: &SecretToken,
    keys: &[(KeyRecord, ApiKey); 2],
) -> String {
    let [(live_record, live), (_, sandbox)] = keys;
    let (live, sandbox) = (live.expose(), sandbox.expose());
    let wrong = format!("{}{}", &live[..71], if live.ends_with('0') { '1' } else { '0' });
    let id = live_record.id;
    let token = token.expose();
    let mut text = String::new();
    let mut say = |line: &str| writeln!(text, "{line}").expect("writing to a string does not fail");
    say("keygate demo: a gateway, a sample payments API behind it, and a team with two keys.");
    say("");
    say(&format!("  gateway      {gateway}"));
    say(&format!("  admin        {admin}"));
    say(&format!("  admin token  {token}"));
    say(&format!("  log in       {admin}/link/{}", *link.expose()));
    say("               (once, within 15 minutes, as the demo's admin)");
    say(&format!("  live key     {live}"));
    say(&format!("  sandbox key  {sandbox}"));
    say("");
    say("# A wallet of the Sandbox, and a payment with real (sample) money:");
    say(&format!("curl -sS {gateway}/v1/wallets/wlt_1 -H 'X-API-Key: {sandbox}'"));
    say(&format!(
        "curl -sS {gateway}/v1/transfers/p2p -H 'Authorization: Bearer {live}' -H 'Content-Type: application/json' \
         -d '{{\"from_wallet_id\":\"wlt_1\",\"to_wallet_id\":\"wlt_2\",\"amount\":5000}}'"
    ));
    say("");
    say("# A key with one wrong character:");
    say(&format!("curl -sS {gateway}/v1/wallets/wlt_1 -H 'X-API-Key: {wrong}'"));
    say("");
    say("# Revoke the live key, then use it again:");
    say(&format!("curl -sS -X POST {admin}/v1/keys/{id}/revoke -H 'Authorization: Bearer {token}'"));
    say(&format!("curl -sS {gateway}/v1/wallets/wlt_1 -H 'X-API-Key: {live}'"));
    say("");
    say("Ctrl-C stops everything.");
    text
}

/// Whoever closed standard output does not want to read it.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written {
        tracing::debug!(%error, "nobody reads the guide");
    }
}
