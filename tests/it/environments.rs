//! Sandbox never moves real money.

use crate::support::{CreatedKey, Gateway, Request, Upstream};

struct Setting {
    live: Upstream,
    sandbox: Upstream,
    gateway: Gateway,
    live_key: CreatedKey,
    sandbox_key: CreatedKey,
}

fn setting() -> Setting {
    let (live, sandbox) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::builder().live(&live).sandbox(&sandbox).start();
    let (live_key, sandbox_key) = (gateway.admin().create("live"), gateway.admin().create("sandbox"));
    Setting { live, sandbox, gateway, live_key, sandbox_key }
}

#[test]
fn the_key_decides_and_nothing_else_does() {
    let Setting { live, sandbox, gateway, live_key, sandbox_key } = setting();
    assert!(live_key.key.starts_with("sk_live_") && sandbox_key.key.starts_with("sk_test_"));
    let (at_live, at_sandbox) = (live.authority(), sandbox.authority());
    let mut connection = gateway.connect();
    let asked = |key: &CreatedKey, other: &str, authority: &str| {
        let plain = Request::post("/v1/transfers/p2p", r#"{"amount":100}"#).key(&key.key);
        [
            plain.clone(),
            plain.clone().header("X-Keygate-Environment", other),
            plain.clone().header("X_Keygate_Environment", other),
            plain.clone().header("X-Environment", other),
            plain.clone().header("X-Forwarded-Host", authority),
            plain.without_host().header("Host", authority),
            Request::get(&format!("http://{authority}/v1/wallets?environment={other}")).key(&key.key),
        ]
    };
    let for_sandbox = asked(&sandbox_key, "live", &at_live);
    let for_live = asked(&live_key, "sandbox", &at_sandbox);
    for (to_sandbox, to_live) in for_sandbox.iter().zip(&for_live) {
        connection.ask(to_sandbox).assert_forwarded();
        connection.ask(to_live).assert_forwarded();
    }
    assert_eq!((live.count(), sandbox.count()), (for_live.len(), for_sandbox.len()));
    for (upstream, environment, id) in [(&live, "live", &live_key.id), (&sandbox, "sandbox", &sandbox_key.id)]
    {
        for seen in upstream.seen() {
            assert_eq!(seen.headers.get("x-keygate-environment"), Some(environment));
            assert_eq!(seen.headers.get("x-keygate-key-id"), Some(id.as_str()));
        }
    }
}

#[test]
fn an_upstream_that_fails_is_not_replaced_by_the_other() {
    let Setting { live, sandbox, gateway, live_key, sandbox_key } = setting();
    drop(sandbox);
    assert_ne!(gateway.use_key(&sandbox_key.key).status, 200);
    assert_eq!(live.count(), 0);
    gateway.use_key(&live_key.key).assert_forwarded();
}

#[test]
fn one_origin_cannot_be_both_upstreams() {
    let upstream = Upstream::start();
    let builder = Gateway::builder().live(&upstream).sandbox(&upstream);
    crate::support::Ran::to_end(&mut builder.command("check"), "keygate")
        .assert_code(64)
        .assert_says(&["upstream"]);
}
