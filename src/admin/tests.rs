//! The API over `tower`'s service interface, without sockets; and the server over loopback.

mod fleet;
mod keys;
mod openapi;
mod walled;

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::serve::{Patience, serve_with};
use super::*;
use crate::clock::ManualClock;
use crate::keys::KeyService;
use crate::keys::memory::{HeardEvents, MemoryStore};
use crate::model::{KeyFormat, Timestamp};
use crate::observe::Metrics;
use crate::people::SessionLimits;
use crate::people::memory::MemoryPeople;
use crate::roll::RollSettings;

/// How long sessions last.
const LIMITS: SessionLimits =
    SessionLimits { idle: Duration::from_secs(1_800), total: Duration::from_secs(43_200) };
const TOKEN: &str = "a-token-for-tests";
const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

struct Api {
    router: Router,
    observe: Router,
    keys: Keys,
    store: Arc<MemoryStore>,
    health: Arc<Health>,
    clock: ManualClock,
}

fn api() -> Api {
    let store = Arc::new(MemoryStore::default());
    let (health, clock) = (Arc::new(Health::new()), ManualClock::at(NOW));
    let format = KeyFormat::new("sk").unwrap();
    let (sink, told) = (Arc::new(HeardEvents::default()), Arc::new(Metrics::new()));
    let settings = RollSettings {
        name: "here:8080".into(),
        max_staleness: Duration::from_secs(300),
        receipt_timeout: Duration::from_millis(50),
    };
    let (_, progress) = tokio::sync::watch::channel(None);
    let roll =
        Roll::new(settings, store.clone(), sink.clone(), progress, Arc::new(clock.clone()), told.clone());
    let keys = KeyService::new(store.clone(), sink, format, Arc::new(clock.clone()), told);
    let metrics: RenderMetrics = Arc::new(|| "keygate_up 1\n".to_owned());
    let state = AdminState {
        keys: Keys::new(Arc::new(keys)),
        people: Arc::new(People::new(Arc::new(MemoryPeople::default()), Arc::new(clock.clone()), LIMITS)),
        cookies: Cookies { secure: false },
        behind_tls: false,
        roll: Arc::new(roll.unwrap()),
        token: Some(AdminToken::new(TOKEN.into())),
        health: health.clone(),
        metrics: metrics.clone(),
        clock: Arc::new(clock.clone()),
        brand: "PayKore".to_owned(),
        flush_interval: Duration::from_secs(5),
    };
    let observe = observe_router(health.clone(), metrics);
    let keys = state.keys.clone();
    Api { router: router(state), observe, keys, store, health, clock }
}

impl Api {
    async fn call(&self, request: Request<Body>) -> Response {
        TowerToHyperService::new(self.router.clone()).call(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.call(authorized(Method::GET, path).body(Body::empty()).unwrap()).await).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.post_text(path, body.to_string()).await).await
    }

    async fn post_text(&self, path: &str, body: impl Into<Body>) -> Response {
        let request = authorized(Method::POST, path).header("content-type", "application/json");
        self.call(request.body(body.into()).unwrap()).await
    }

    async fn create(&self, label: &str) -> Value {
        let (status, key) = self.post("/v1/keys", &json!({ "label": label, "environment": "live" })).await;
        assert_eq!(status, StatusCode::CREATED);
        key
    }
}

fn authorized(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("bearer {TOKEN}"))
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The status and the code of a refusal, after a look at the members that every refusal has.
fn refusal((status, body): (StatusCode, Value)) -> (u16, String) {
    assert_eq!(body["status"], status.as_u16(), "{body}");
    assert_eq!(body["detail"], body["message"]);
    for member in ["type", "title", "detail", "code", "error", "request_id"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    let code = body["code"].as_str().unwrap().to_owned();
    assert_eq!(body["error"], code.to_ascii_uppercase());
    (status.as_u16(), code)
}

#[tokio::test]
async fn a_key_is_shown_once_at_its_creation() {
    let api = api();
    let body = json!({ "label": "Server", "environment": "sandbox", "team": "acme", "expires_in": "30d" });
    let response = api.post_text("/v1/keys", body.to_string()).await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let (status, mut created) = read(response).await;
    assert_eq!(status, StatusCode::CREATED);
    let key = created.as_object_mut().unwrap().remove("key").unwrap();
    assert!(key.as_str().unwrap().starts_with("sk_test_"));
    let (_, shown) = api.get(&location).await;
    assert_eq!(shown, created);
    assert_eq!(
        shown,
        json!({
            "id": shown["id"],
            "label": "Server",
            "team": "acme",
            "environment": "sandbox",
            "display": shown["display"],
            "created_at": "2025-11-24T16:00:00.000Z",
            "expires_at": "2025-12-24T16:00:00.000Z",
            "revoked_at": null,
            "retires_at": null,
            "replaced_by": null,
            "replaces": null,
            "last_used_at": null,
            "status": "active",
            "marks": ["never_used"],
            "uses": 0,
            "uses_in_grace": 0,
            "refusals": 0,
            "last_refused_at": null,
        })
    );
    api.clock.advance(Duration::from_secs(31 * 24 * 60 * 60));
    assert_eq!(api.get(&location).await.1["status"], "expired");
}

#[tokio::test]
async fn a_list_has_pages_and_filters() {
    let api = api();
    for label in ["a", "b", "c"] {
        api.create(label).await;
        api.clock.advance(Duration::from_secs(1));
    }
    let (_, first) = api.get("/v1/keys?limit=2&environment=live&team=default&status=active").await;
    let labels = |page: &Value| {
        let keys = page["data"].as_array().unwrap().iter();
        keys.map(|key| key["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&first), ["c", "b"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = api.get(&format!("/v1/keys?limit=2&cursor={cursor}")).await;
    assert_eq!(labels(&second), ["a"]);
    assert_eq!(second["next_cursor"], Value::Null);
    assert!(labels(&api.get("/v1/keys?status=revoked").await.1).is_empty());
}

#[tokio::test]
async fn a_list_refuses_what_it_does_not_know() {
    let api = api();
    for query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=x",
        "environment=prod",
        "status=on",
        "teem=a",
        "team=a&team=b",
    ] {
        assert_eq!(
            refusal(api.get(&format!("/v1/keys?{query}")).await),
            (400, "bad_request".into()),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_revocation_can_be_repeated() {
    let api = api();
    let id = api.create("a").await["id"].as_str().unwrap().to_owned();
    for newly in [true, false] {
        let response =
            api.call(authorized(Method::POST, &format!("/v1/keys/{id}/revoke")).body(Body::empty()).unwrap());
        let (status, revoked) = read(response.await).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&revoked["id"], &revoked["status"]), (&json!(id), &json!("revoked")));
        assert_eq!(
            revoked["revocation"],
            json!({
                "newly_revoked": newly,
                "effective_on_this_gateway": true,
                "acknowledged": 1,
                "gateways": 1,
                "elapsed_ms": 0,
                "unacknowledged": [],
                "roll_read": true,
                "effective_by": revoked["revoked_at"],
                "durable": true,
                "durable_reason": null,
            })
        );
        assert!(revoked["revoked_at"].is_string());
    }
}

#[tokio::test]
async fn whoever_finds_a_key_sees_which_it_is_and_can_revoke_it() {
    let api = api();
    let created = api.create("a").await;
    for (path, is_revoked) in [("/v1/keys/find", false), ("/v1/keys/revoke", true)] {
        let (status, found) = api.post(path, &json!({ "key": created["key"] })).await;
        assert_eq!((status, &found["id"]), (StatusCode::OK, &created["id"]));
        assert_eq!(found["status"] == "revoked", is_revoked, "{found}");
        let unknown = json!({ "key": format!("sk_live_{}", "0".repeat(64)) });
        assert_eq!(refusal(api.post(path, &unknown).await), (404, "not_found".into()));
        assert_eq!(refusal(api.post(path, &json!({ "key": "sk" })).await), (422, "invalid_request".into()));
    }
}

#[tokio::test]
async fn an_import_takes_hashes() {
    let api = api();
    let key = json!({ "sha256": "ab".repeat(32), "label": "Old", "environment": "live" });
    let (status, report) = api.post("/v1/keys/import", &json!({ "keys": [key, key] })).await;
    assert_eq!((status, report), (StatusCode::OK, json!({ "created": 1, "already_there": 1 })));
    let mut nameless = key.clone();
    nameless["label"] = "".into();
    let answer = api.post("/v1/keys/import", &json!({ "keys": [key, nameless] })).await;
    assert_eq!(answer.1["errors"][0]["index"], 1);
    assert_eq!(answer.1["errors"][0]["field"], "label");
    assert_eq!(refusal(answer), (422, "invalid_request".into()));
    let odd = json!({ "keys": [key, { "sha256": "ab", "label": "x", "environment": "live" }] });
    let answer = api.post("/v1/keys/import", &odd).await;
    assert!(answer.1["detail"].as_str().unwrap().contains("`keys[1].sha256`"), "{}", answer.1);
}

#[tokio::test]
async fn nothing_under_v1_is_said_without_the_token() {
    let api = api();
    for authorization in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", &format!("Bearer {TOKEN}x")]
    {
        for path in ["/v1/keys", "/v1/gateways", "/v1/store", "/v1/nothing", "/v1"] {
            let request = Request::get(path).header("authorization", authorization).body(Body::empty());
            let response = api.call(request.unwrap()).await;
            assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(refusal(read(response).await), (401, "unauthorized".into()));
        }
    }
    let bare = api.call(Request::get("/v1/keys").body(Body::empty()).unwrap()).await;
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    let twice = authorized(Method::GET, "/v1/keys").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(api.call(twice.body(Body::empty()).unwrap()).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed() {
    let api = api();
    for path in ["/v1/nothing", "/v1/keys/key_0", "/v1/keys/%ff", &format!("/v1/keys/key_{}", "0".repeat(20))]
    {
        assert_eq!(api.get(path).await.0.as_u16() / 100, 4, "{path}");
    }
    assert_eq!(refusal(api.get("/nothing").await), (404, "not_found".into()));
    assert_eq!(refusal(api.get("/v1/keys/%ff").await).0, 400);
    let response = api.call(authorized(Method::DELETE, "/v1/keys").body(Body::empty()).unwrap()).await;
    assert!(response.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(refusal(read(response).await), (405, "method_not_allowed".into()));
}

#[tokio::test]
async fn a_body_is_json_of_the_right_shape_and_size() {
    let api = api();
    let plain =
        authorized(Method::POST, "/v1/keys").header("content-type", "text/plain").body("{}".into()).unwrap();
    assert_eq!(refusal(read(api.call(plain).await).await), (415, "unsupported_media_type".into()));
    for text in ["", "{", "[1,]", "{} x"] {
        let answer = read(api.post_text("/v1/keys", text).await).await;
        assert_eq!(refusal(answer).0 / 100, 4, "{text}");
    }
    assert_eq!(refusal(read(api.post_text("/v1/keys", "{").await).await), (400, "bad_request".into()));
    for body in [
        json!({}),
        json!([]),
        json!({ "label": "a" }),
        json!({ "label": 5, "environment": "live" }),
        json!({ "label": "a", "environment": "prod" }),
        json!({ "label": "a", "environment": "live", "expires": "30d" }),
        json!({ "label": "a", "environment": "live", "expires_in": "soon" }),
        json!({ "label": "a", "environment": "live", "expires_at": "tomorrow" }),
        json!({ "label": "a", "environment": "live", "expires_at": "2020-01-01T00:00:00Z" }),
        json!({ "label": "a", "environment": "live", "expires_in": "1d", "expires_at": "2099-01-01T00:00:00Z" }),
        json!({ "label": "", "environment": "live" }),
        json!({ "label": "a", "environment": "live", "team": "a b" }),
    ] {
        assert_eq!(refusal(api.post("/v1/keys", &body).await), (422, "invalid_request".into()), "{body}");
    }
    let large = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(refusal(read(api.post_text("/v1/keys", large).await).await), (413, "body_too_large".into()));
}

#[tokio::test]
async fn no_answer_repeats_a_key_that_is_in_the_wrong_place() {
    let api = api();
    let key = format!("sk_live_{}", "0a".repeat(32));
    let id = api.create("a").await["id"].as_str().unwrap().to_owned();
    for body in [json!({ "grace": key }), json!({ key.clone(): "1h" })] {
        let (status, answer) = api.post(&format!("/v1/keys/{id}/rotate"), &body).await;
        assert!(status.is_client_error() && !answer.to_string().contains(&key[8..]), "{answer}");
    }
    for body in [
        json!({ "label": key, "environment": "live" }),
        json!({ "label": "a", "environment": key }),
        json!({ "label": "a", "environment": "live", "team": key }),
        json!({ "label": "a", "environment": "live", "expires_in": key }),
        json!({ key.clone(): "a" }),
    ] {
        let (status, answer) = api.post("/v1/keys", &body).await;
        assert!(status.is_client_error() && !answer.to_string().contains(&key[8..]), "{answer}");
    }
    for path in [format!("/v1/keys/{key}"), format!("/v1/keys?{key}=a"), format!("/v1/keys?status={key}")] {
        let (status, answer) = api.get(&path).await;
        assert!(status.is_client_error() && !answer.to_string().contains(&key[8..]), "{answer}");
    }
}

#[tokio::test]
async fn an_outage_of_the_store_is_told_as_one() {
    let api = api();
    let created = api.create("a").await;
    api.store.set_down(true);
    let path = format!("/v1/keys/{}", created["id"].as_str().unwrap());
    let response = api.call(authorized(Method::GET, &path).body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(refusal(read(response).await), (503, "store_unavailable".into()));
    let answer = api.post("/v1/keys/revoke", &json!({ "key": created["key"] })).await;
    assert_eq!(refusal(answer), (503, "revocation_not_stored".into()));
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let api = api();
    for (given, kept) in [("abc_DEF-1", true), ("a b", false), (&*"a".repeat(65), false)] {
        let request = authorized(Method::GET, "/v1/nothing").header("x-request-id", given);
        let response = api.call(request.body(Body::empty()).unwrap()).await;
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(id == given, kept);
        assert_eq!(read(response).await.1["request_id"], id);
    }
    let response = api.call(Request::get("/livez").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["x-request-id"].len(), "req_".len() + 32);
}

#[tokio::test]
async fn probes_need_no_token() {
    let api = api();
    for router in [&api.router, &api.observe] {
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            TowerToHyperService::new(router.clone()).call(request).await.unwrap()
        };
        assert_eq!(ask("/livez").await.status(), StatusCode::OK);
        let scraped = ask("/metrics").await.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(scraped, "keygate_up 1\n");
        assert_eq!(ask("/nothing").await.status(), StatusCode::NOT_FOUND);
    }
    let readyz = async || read(api.call(Request::get("/readyz").body(Body::empty()).unwrap()).await).await;
    let (status, answer) = readyz().await;
    assert_eq!((status, &answer["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
    api.health.sync();
    assert_eq!(readyz().await, (StatusCode::OK, json!({ "status": "ready" })));
    api.health.store_answers(false);
    let (status, answer) = readyz().await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("degraded")));
    api.health.drain();
    assert_eq!(readyz().await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn keys_are_not_on_the_listener_for_probes() {
    let request = authorized(Method::GET, "/v1/keys").body(Body::empty()).unwrap();
    let response = TowerToHyperService::new(api().observe).call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

/// A limit for what must happen at once.
const SOON: Duration = Duration::from_secs(20);

fn patience(head: Duration, connection: Duration) -> Patience {
    Patience { head, connection, farewell: Duration::from_millis(50) }
}

/// Reads until the server closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut text));
    // A reset is an end too.
    let _ = read.await.expect("the server must close the connection");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_client_that_does_not_speak_is_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve_with(
        listener,
        None,
        api().router,
        shutdown,
        patience(Duration::from_millis(50), SOON),
    ));
    for beginning in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
    server.abort();
}

#[tokio::test]
async fn the_server_ends_when_it_is_told_and_lets_idle_connections_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve_with(listener, None, api().router, shutdown, patience(SOON, SOON)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("{\"status\":\"alive\"}"));
    tokio::time::timeout(SOON, server).await.expect("the server must end").unwrap();
}

#[tokio::test]
async fn nobody_holds_a_connection_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve_with(
        listener,
        None,
        api().router,
        shutdown,
        patience(SOON, Duration::from_millis(50)),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 99\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await;
    server.abort();
}
