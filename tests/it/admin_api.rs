//! The admin API: who may ask, and what it says to what it cannot do.

use serde_json::{Value, json};

use crate::support::gateway::TOKEN;
use crate::support::{Answer, Gateway, Request, Upstream};

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    (upstream, gateway)
}

fn admin_address(gateway: &Gateway) -> std::net::SocketAddr {
    gateway.admin_url()["http://".len()..].parse().expect("it is an address")
}

/// That this is a problem of this status, whole.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.headers.get("content-type"), Some("application/problem+json"), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["status"], status, "{body}");
    for member in ["type", "title", "detail", "code", "error", "message"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    assert_eq!(body["request_id"].as_str(), answer.headers.get("x-request-id"), "{body}");
}

#[test]
fn only_the_token_opens_it() {
    let (_upstream, gateway) = gateway();
    let address = admin_address(&gateway);
    let key = gateway.live_key();
    for path in ["/v1/keys", "/v1/keys/key_00000000000000000000"] {
        let request = Request::get(path);
        for stranger in [
            request.clone(),
            request.clone().bearer("not-the-token-0123456789"),
            request.clone().bearer(&TOKEN[..TOKEN.len() - 1]),
            request.clone().bearer(&format!("{TOKEN}0")),
            request.clone().bearer(&key),
            request.clone().key(TOKEN),
        ] {
            let answer = stranger.send(address);
            assert_problem(&answer, 401);
            assert!(answer.headers.get("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        }
    }
    assert_problem(&Request::post("/v1/keys", "{}").send(address), 401);
    for open in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(Request::get(open).send(address).status, 200, "{open}");
    }
}

#[test]
fn a_key_of_the_api_has_no_say_and_the_gateway_has_no_admin_api() {
    let (upstream, gateway) = gateway();
    let request = Request::post("/v1/keys", json!({"label": "x", "environment": "live"}).to_string());
    assert_eq!(gateway.ask(&request.bearer(TOKEN)).status, 401);
    assert_eq!(gateway.ask(&Request::get("/metrics")).status, 401);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn what_cannot_be_done_is_a_problem() {
    let (_upstream, gateway) = gateway();
    let admin = gateway.admin();
    let good = json!({"label": "Production Server", "environment": "live", "team": "acme"});
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body
    };
    for wrong in [
        with("label", json!("")),
        with("label", json!("x".repeat(101))),
        with("label", json!("a\u{0}b")),
        with("label", json!(7)),
        with("environment", json!("production")),
        with("team", json!("not a team")),
        with("expires_at", json!("2001-01-01T00:00:00Z")),
        with("expires_at", json!("tomorrow")),
        with("unknown_member", json!(1)),
        json!({"environment": "live"}),
        json!([]),
    ] {
        let answer = admin.post("/v1/keys", &wrong);
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {}", answer.text());
        assert_problem(&answer, answer.status);
    }
    assert_problem(&admin.get("/v1/keys/key_00000000000000000000"), 404);
    assert_problem(&admin.get("/v1/nothing"), 404);
    assert_problem(&admin.post("/v1/keys/key_00000000000000000000/revoke", &json!({})), 404);

    let address = admin_address(&gateway);
    assert_problem(&Request::new("DELETE", "/v1/keys").bearer(TOKEN).send(address), 405);
    let broken = Request::post("/v1/keys", "{\"label\":").bearer(TOKEN).send(address);
    assert_problem(&broken, 400);
    let form = Request::new("POST", "/v1/keys").header("Content-Type", "text/plain").body("label=x");
    assert_problem(&form.bearer(TOKEN).send(address), 415);
    let large = Request::post("/v1/keys", "x".repeat(2 * 1024 * 1024)).bearer(TOKEN);
    assert_problem(&large.send(address), 413);
}

#[test]
fn answers_are_not_kept_by_anybody() {
    let (_upstream, gateway) = gateway();
    let admin = gateway.admin();
    let body = json!({"label": "Production Server", "environment": "live", "team": "acme"});
    for answer in [admin.post("/v1/keys", &body), admin.get("/v1/keys"), admin.get("/v1/keys/nothing")] {
        assert_eq!(answer.headers.get("cache-control"), Some("no-store"), "{answer:?}");
        assert!(answer.headers.get("x-request-id").is_some());
    }
}
