//! The admin listener by TLS, the commands that talk to it, and what `keygate check` says of certificates.

use serde_json::json;

use super::certificates::Files;
use super::{Secured, TlsClient};
use crate::support::gateway::TOKEN;
use crate::support::wait::PATIENCE;
use crate::support::{CreatedKey, Gateway, GatewayBuilder, Ran, Request, Upstream, eventually, keygate};

/// The same certificate for both listeners.
fn builder(secured: &Secured, upstream: &Upstream) -> GatewayBuilder {
    let (certificate, key) = secured.files.settings();
    let builder = secured.before(upstream);
    builder.set("KEYGATE_ADMIN_TLS__CERTIFICATE", &certificate).set("KEYGATE_ADMIN_TLS__KEY", &key)
}

fn run(url: &str, root: Option<&str>, arguments: &[&str]) -> Ran {
    let mut command = keygate();
    command.args(arguments).env("KEYGATE_ADMIN_URL", url).env("KEYGATE_ADMIN_TOKEN", TOKEN);
    if let Some(root) = root {
        command.env("KEYGATE_ADMIN_CA_FILE", root);
    }
    Ran::to_end(&mut command, "keygate")
}

/// Started, ready, and where its admin API is.
fn start(builder: GatewayBuilder, root: &str) -> (Gateway, String) {
    let gateway = builder.start_unready();
    let url = gateway.admin_url().replace("http:", "https:");
    eventually("it is ready", PATIENCE, || run(&url, Some(root), &["health"]).code == Some(0));
    (gateway, url)
}

#[test]
fn commands_speak_https_and_trust_whom_they_are_told_to() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let root = secured.authority.write(secured.files.folder());
    let (gateway, url) = start(builder(&secured, &upstream), &root);
    let create = ["keys", "create", "--label", "Till", "--env", "live", "--json"];
    let created = run(&url, Some(&root), &create).assert_code(0).json();
    let request = Request::get("/").key(created["key"].as_str().unwrap());
    secured.client().connect(gateway.address()).ask(&request).assert_forwarded();
    for flag in ["--ca-file", "--ca"] {
        run(&url, None, &["keys", "list", flag, &root]).assert_code(0);
        run(&url, None, &["health", flag, &root]).assert_code(0);
    }

    run(&url, None, &["keys", "list"]).assert_code(69).assert_says(&["certificate"]);
    run(&url, None, &["health"]).assert_code(69).assert_says(&["certificate"]);
    run(&gateway.admin_url(), None, &["keys", "list"]).assert_code(69);
    run(&url, Some("no-such.pem"), &["keys", "list"])
        .assert_code(64)
        .assert_says(&["CA_FILE", "no-such.pem"]);
    let (_, no_root) = secured.files.settings();
    run(&url, Some(&no_root), &["keys", "list"]).assert_code(64).assert_says(&["holds no certificate"]);
}

#[test]
fn a_container_asks_its_own_listener_whatever_name_the_certificate_has() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let root = secured.authority.write(secured.files.folder());
    let (gateway, _) = start(builder(&secured, &upstream), &root);
    let mut health = keygate();
    health.arg("health");
    health.env("KEYGATE_ADMIN_LISTEN", gateway.admin_url().trim_start_matches("http://"));
    health.env("KEYGATE_ADMIN_TLS__CERTIFICATE", "anything");
    Ran::to_end(&mut health, "keygate").assert_code(0);
}

#[test]
fn the_admin_api_answers_by_tls_and_ends_in_order() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let root = secured.authority.write(secured.files.folder());
    let (mut gateway, url) = start(builder(&secured, &upstream), &root);
    let address = url.trim_start_matches("https://").parse().unwrap();
    let client = TlsClient::trusting(&secured.authority);
    let mut connection = client.connect(address);
    let body = json!({"label": "Till", "environment": "live", "team": "acme"});
    let create = Request::post("/v1/keys", body.to_string()).bearer(TOKEN);
    CreatedKey::of(&connection.ask(&create));

    let new = secured.authority.server(2070);
    secured.files.swap(&new.certificate_pem, &new.key_pem);
    eventually("the new one is shown", PATIENCE, || client.connect(address).certificate() == new.certificate);
    CreatedKey::of(&connection.ask(&create));
    assert!(gateway.terminate().success());
    connection.assert_ended_in_order();
}

#[test]
fn cookies_are_for_https_alone_where_the_admin_listener_speaks_it() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let root = secured.authority.write(secured.files.folder());
    let (_gateway, url) = start(builder(&secured, &upstream), &root);
    let client = TlsClient::trusting(&secured.authority);
    let mut connection = client.connect(url.trim_start_matches("https://").parse().unwrap());
    let page = connection.ask(&Request::get("/login"));
    assert_eq!(page.status, 200, "{}", page.text());
    let cookies = page.headers.all("set-cookie");
    assert!(!cookies.is_empty());
    for cookie in cookies {
        assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
    }
}

/// Nobody stands in front of a listener with its own certificate: what a request says of its source is the client's word.
#[test]
fn nobody_says_for_himself_where_he_comes_from() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let root = secured.authority.write(secured.files.folder());
    let builder = builder(&secured, &upstream).set("KEYGATE_BEHIND_TLS", "true");
    let (gateway, url) = start(builder, &root);
    let address = url.trim_start_matches("https://");
    let mut connection = TlsClient::trusting(&secured.authority).connect(address.parse().unwrap());
    let page = connection.ask(&Request::get("/login"));
    let cookie = page.headers.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let csrf =
        page.text().split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let attempt = Request::new("POST", "/login")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Cookie", &cookie)
        .header("X-Forwarded-For", "192.0.2.7")
        .body(format!("csrf={csrf}&account=ada&password=wrong"));
    assert_eq!(connection.ask(&attempt).status, 403);
    eventually("it is told", PATIENCE, || {
        let output = String::from_utf8_lossy(&gateway.output()).into_owned();
        assert!(!output.contains("192.0.2.7"), "{output}");
        output.contains("a log-in failed") && output.contains("127.0.0.1")
    });
}

#[test]
fn check_names_what_is_wrong_with_a_certificate_and_warns_of_one_that_has_expired() {
    let (upstream, secured) = (Upstream::start(), Secured::new());
    let check = |secured: &Secured| Ran::to_end(&mut builder(secured, &upstream).command("check"), "keygate");
    let good = check(&secured).assert_code(0);
    assert!(good.stdout.contains("ok     tls:") && good.stdout.contains("ok     admin_tls:"), "{good:?}");
    assert!(good.stdout.contains("2080-01-01"), "{good:?}");

    let expired = Secured { files: Files::holding(&secured.authority.server(2020)), ..Secured::new() };
    let ran = check(&expired).assert_code(0);
    assert!(ran.stdout.contains("warn   tls:") && ran.stdout.contains("2020-01-01"), "{ran:?}");

    secured.files.swap("", "");
    let words = ["tls.certificate:", "admin_tls.certificate:", "tls.crt", "holds no certificate"];
    check(&secured).assert_code(64).assert_says(&words);
    let builder = builder(&secured, &upstream);
    Ran::to_end(&mut builder.command("serve"), "keygate")
        .assert_code(64)
        .assert_says(&["tls.certificate:", "holds no certificate"]);
    let missing = builder.set("KEYGATE_TLS__KEY", "/no/such.key");
    Ran::to_end(&mut missing.command("check"), "keygate")
        .assert_code(64)
        .assert_says(&["tls.key", "/no/such.key"]);
}
