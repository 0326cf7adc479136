//! Clients that are not ours: what is on people's machines must work as it is.

use std::process::Command;

use crate::support::gateway::TOKEN;
use crate::support::wait::PATIENCE;
use crate::support::{Gateway, Ran, Upstream, keys, tool};

struct Setting {
    upstream: Upstream,
    gateway: Gateway,
    key: String,
    revoked: String,
}

fn setting() -> Setting {
    let upstream = Upstream::with(|exchange| match exchange.request.target.as_str() {
        "/v1/slow" => {
            exchange.peer_closes(PATIENCE);
            Ok(())
        }
        "/v1/missing" => {
            let body = br#"{"error":"WALLET_NOT_FOUND","message":"No such wallet."}"#;
            exchange.reply(404, &[("Content-Type", "application/json")], body)
        }
        "/v1/chunked" => {
            exchange.read_body()?;
            exchange.write(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            exchange.write_chunk(b"{\"data\":")?;
            exchange.write_chunk(b"{\"ok\":true}}")?;
            exchange.write("0\r\n\r\n")?;
            exchange.finish()
        }
        _ => exchange.reply_ok(),
    });
    let gateway = Gateway::before(&upstream);
    let key = gateway.live_key();
    let revoked = gateway.admin().create("live");
    gateway.admin().revoke(&revoked.id);
    Setting { upstream, gateway, key, revoked: revoked.key }
}

impl Setting {
    /// Runs one of the scripts in `clients/` to its end; it says on stderr what it found wrong.
    fn run_script(&self, program: &str, package: &str, name: &str) {
        let script = format!("{}/tests/it/clients/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut command = tool(program);
        command.arg(script).env("BASE_URL", self.gateway.url("")).env("API_KEY", &self.key);
        command.env("REVOKED_KEY", &self.revoked).env("UNKNOWN_KEY", keys::mistyped(&self.key));
        command.env("ADMIN_URL", self.gateway.admin_url()).env("ADMIN_TOKEN", TOKEN);
        let ran = Ran::to_end(&mut command, package).assert_code(0);
        assert!(ran.stdout.contains("all is well"), "{ran:?}");
    }
}

fn curl(arguments: &[&str]) -> Ran {
    let mut command: Command = tool("curl");
    command.args(["-sS", "--max-time", "30"]).args(arguments);
    Ran::to_end(&mut command, "curl").assert_code(0)
}

#[test]
fn curl_gets_through_with_a_key_in_every_place() {
    let Setting { upstream: _upstream, gateway, key, revoked } = setting();
    let url = gateway.url("/v1/wallets/wlt_1");
    let ok = r#"{"data":{"ok":true}}"#;
    assert_eq!(curl(&["-H", &format!("X-API-Key: {key}"), &url]).stdout, ok);
    assert_eq!(curl(&["-H", &format!("Authorization: Bearer {key}"), &url]).stdout, ok);
    assert_eq!(curl(&["-u", &format!("{key}:"), &url]).stdout, ok);
    assert_eq!(curl(&["--http1.0", "-u", &format!("{key}:"), &url]).stdout, ok);
    assert_eq!(
        curl(&["--http2", "-u", &format!("{key}:"), &url]).stdout,
        ok,
        "an offer of h2c is passed over"
    );
    assert_eq!(curl(&["-u", &format!("{key}:"), &gateway.url("/v1/chunked")]).stdout, ok);
    let refused = curl(&["-u", &format!("{revoked}:"), "-w", "%{http_code} %{content_type}", &url]).stdout;
    assert!(
        refused.ends_with("401 application/problem+json") && refused.contains("INVALID_API_KEY"),
        "{refused}"
    );
    let head = curl(&["-I", "-u", &format!("{key}:"), &url]).stdout;
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("x-request-id:"), "{head}");
}

#[test]
fn curl_uploads_and_waits_to_be_asked_for_a_large_body() {
    let Setting { upstream, gateway, key, revoked, .. } = setting();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("statement.json");
    std::fs::write(&file, vec![b'x'; 3 * 1024 * 1024]).unwrap();
    let data = format!("@{}", file.display());
    let url = gateway.url("/v1/payments/qr/create");
    // For a body of this size curl sends `Expect: 100-continue` by itself.
    let trace = |key: &str| curl(&["-v", "-u", &format!("{key}:"), "--data-binary", &data, &url]);
    let ran = trace(&key);
    assert_eq!(ran.stdout, r#"{"data":{"ok":true}}"#);
    assert!(ran.stderr.contains("HTTP/1.1 100 Continue"), "{}", ran.stderr);
    assert_eq!(upstream.only().body.len(), 3 * 1024 * 1024);
    let ran = trace(&revoked);
    assert!(ran.stdout.contains("key_revoked") && !ran.stderr.contains("100 Continue"), "{ran:?}");
    assert_eq!(upstream.count(), 1);

    let chunked = [
        "-u",
        &format!("{key}:"),
        "-H",
        "Transfer-Encoding: chunked",
        "-T",
        &file.display().to_string(),
        &url,
    ];
    assert_eq!(curl(&chunked).stdout, r#"{"data":{"ok":true}}"#);
    assert_eq!(upstream.seen()[1].body.len(), 3 * 1024 * 1024);
}

#[test]
fn wrk_sees_no_error_under_load() {
    let Setting { upstream: _upstream, gateway, key, .. } = setting();
    let mut command = tool("wrk");
    command.args([
        "-t1",
        "-c16",
        "-d2s",
        "-H",
        &format!("X-API-Key: {key}"),
        &gateway.url("/v1/wallets/wlt_1"),
    ]);
    let ran = Ran::to_end(&mut command, "wrk").assert_code(0);
    assert!(ran.stdout.contains("Requests/sec"), "{ran:?}");
    assert!(!ran.stdout.contains("Non-2xx") && !ran.stdout.contains("Socket errors"), "{}", ran.stdout);
    assert!(gateway.metrics().sum("keygate_requests_total", &[r#"outcome="forwarded""#]) > 100.0);
}

#[test]
fn python_requests_gets_through() {
    setting().run_script("python3", "python3 with python3-requests", "requests_client.py");
}

#[test]
fn the_nodes_sdk_way_of_asking_gets_through() {
    setting().run_script("node", "nodejs (18 or newer)", "sdk_client.mjs");
}
