//! Edits, requests that are made once, usage and history, as the API shows them.

use http::HeaderMap;

use super::*;
use crate::model::KeyId;
use crate::store::{Activity, KeyStore, KeyUse, UsageBatch};

impl Api {
    /// Sends JSON with headers; the status, the headers and the body of the answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = authorized(method, path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.call(request.body(Body::from(body.to_string())).unwrap()).await;
        let headers = response.headers().clone();
        let (status, body) = read(response).await;
        (status, headers, body)
    }

    async fn etag(&self, path: &str) -> String {
        let (status, headers, _) = self.send(Method::GET, path, &[], &Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        headers["etag"].to_str().unwrap().to_owned()
    }

    async fn patch(&self, path: &str, etag: &str, body: Value) -> (StatusCode, HeaderMap, Value) {
        self.send(Method::PATCH, path, &[("if-match", etag)], &body).await
    }

    async fn once(&self, path: &str, name: &str, body: &Value) -> (StatusCode, Value) {
        let (status, _, body) = self.send(Method::POST, path, &[("idempotency-key", name)], body).await;
        (status, body)
    }

    async fn count(&self) -> Value {
        self.get("/v1/keys?total=true").await.1["total"].clone()
    }
}

fn path_of(key: &Value) -> String {
    format!("/v1/keys/{}", key["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_key_is_edited_by_who_has_seen_it_as_it_is() {
    let api = api();
    let path = path_of(&api.create("Server").await);
    let first = api.etag(&path).await;
    assert!(first.starts_with('"') && first.ends_with('"'), "a strong tag");
    let (status, headers, edited) =
        api.patch(&path, &first, json!({ "label": " Shop ", "expires_at": "2026-01-31T12:00:00Z" })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&edited["label"], &edited["expires_at"]),
        (&json!("Shop"), &json!("2026-01-31T12:00:00.000Z"))
    );
    let second = headers["etag"].to_str().unwrap();
    assert_eq!((second, &edited), (api.etag(&path).await.as_str(), &api.get(&path).await.1));
    assert_ne!(first, second);

    let (status, headers, problem) = api.patch(&path, &first, json!({ "label": "Late" })).await;
    assert_eq!((&problem["current"], headers["etag"].to_str().unwrap()), (&edited, second));
    assert_eq!(refusal((status, problem)), (412, "precondition_failed".into()));
    let (status, _, problem) = api.send(Method::PATCH, &path, &[], &json!({ "label": "Blind" })).await;
    assert_eq!(refusal((status, problem)), (428, "precondition_required".into()));
    let weak = format!("W/{second}");
    assert_eq!(api.patch(&path, &weak, json!({ "label": "Weak" })).await.0, StatusCode::PRECONDITION_FAILED);
    let (status, _, last) =
        api.patch(&path, &format!("\"x\", {second}"), json!({ "expires_at": null })).await;
    assert_eq!((status, &last["expires_at"], &last["label"]), (StatusCode::OK, &Value::Null, &json!("Shop")));
    assert_eq!(api.patch(&path, "*", json!({})).await.2, last, "to change nothing is allowed");

    api.post(&format!("{path}/revoke"), &json!({})).await;
    let (status, _, problem) = api.patch(&path, "*", json!({ "label": "Dead" })).await;
    assert_eq!(refusal((status, problem)), (409, "key_revoked".into()));
}

#[tokio::test]
async fn an_edit_that_is_not_allowed_says_why() {
    let api = api();
    let path = path_of(&api.create("Server").await);
    for body in [
        json!({ "label": "" }),
        json!({ "label": "0".repeat(64) }),
        json!({ "expires_at": "2025-11-24T16:00:00Z" }),
        json!({ "expires_at": "soon" }),
        json!({ "expires_in": "soon" }),
        json!({ "expires_in": "1d", "expires_at": null }),
        json!({ "team": "another" }),
        json!([]),
    ] {
        let (status, _, problem) = api.patch(&path, "*", body.clone()).await;
        assert_eq!(refusal((status, problem)), (422, "invalid_request".into()), "{body}");
    }
    let (status, _, problem) = api.patch(&path, "unquoted", json!({})).await;
    assert_eq!(refusal((status, problem)), (400, "bad_request".into()));
    let unknown = format!("/v1/keys/key_{}", "0".repeat(20));
    assert_eq!(api.patch(&unknown, "*", json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_answer_that_shows_a_key_has_its_etag() {
    let api = api();
    let body = json!({ "label": "a", "environment": "live" });
    let (_, created, key) = api.send(Method::POST, "/v1/keys", &[], &body).await;
    let path = path_of(&key);
    assert_eq!(created["etag"], api.etag(&path).await);
    let (_, rotated, new) = api.send(Method::POST, &format!("{path}/rotate"), &[], &json!({})).await;
    assert_eq!(rotated["etag"], api.etag(&path_of(&new)).await);
    assert_ne!(created["etag"], api.etag(&path).await, "a rotation changes the old key");
    let (_, revoked, _) = api.send(Method::POST, &format!("{path}/revoke"), &[], &json!({})).await;
    assert_eq!(revoked["etag"], api.etag(&path).await);
}

#[tokio::test]
async fn a_creation_that_comes_again_makes_no_second_key() {
    let api = api();
    let body = json!({ "label": "a", "environment": "live", "expires_in": "1h" });
    let (status, first) = api.once("/v1/keys", "one", &body).await;
    assert_eq!(status, StatusCode::CREATED);
    // The same, spelled otherwise, and long after the expiry date that it would mean now.
    api.clock.advance(Duration::from_secs(7_200));
    let again = json!({ "expires_in": "1h", "environment": "live", "label": "a" });
    let (status, second) = api.once("/v1/keys", "one", &again).await;
    assert_eq!((status, &second["id"]), (StatusCode::OK, &first["id"]));
    assert_eq!((&second["key_shown"], &second["key"]), (&json!(true), &Value::Null));
    assert!(second["message"].as_str().unwrap().contains("cannot be shown again"));
    assert_eq!((&second["status"], &second["expires_at"]), (&json!("expired"), &first["expires_at"]));
    assert!(!second.to_string().contains(first["key"].as_str().unwrap()));
    assert_eq!(api.count().await, 1);

    let other = json!({ "label": "b", "environment": "live" });
    assert_eq!(refusal(api.once("/v1/keys", "one", &other).await), (422, "idempotency_key_reused".into()));
    assert_eq!(api.once("/v1/keys", "two", &other).await.0, StatusCode::CREATED);
    assert_eq!(api.count().await, 2);
    for bad in ["", &"x".repeat(256)] {
        assert_eq!(refusal(api.once("/v1/keys", bad, &other).await), (400, "bad_request".into()));
    }
    assert_eq!(api.count().await, 2);
}

#[tokio::test]
async fn a_request_that_failed_can_be_sent_again_under_its_name() {
    let api = api();
    let body = json!({ "label": "a", "environment": "live" });
    api.store.set_down(true);
    assert_eq!(api.once("/v1/keys", "one", &body).await.0, StatusCode::SERVICE_UNAVAILABLE);
    api.store.set_down(false);
    assert_eq!(api.once("/v1/keys", "one", &body).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_rotation_that_comes_again_rotates_once() {
    let api = api();
    let path = format!("{}/rotate", path_of(&api.create("a").await));
    let (status, first) = api.once(&path, "one", &json!({ "grace": "1h" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, second) = api.once(&path, "one", &json!({ "grace": "1h" })).await;
    assert_eq!((status, &second["id"]), (StatusCode::OK, &first["id"]));
    assert_eq!((&second["key_shown"], &second["key"]), (&json!(true), &Value::Null));
    assert_eq!(second["old"], first["old"]);
    let other = api.once(&path, "one", &json!({ "grace": "2h" })).await;
    assert_eq!(refusal(other), (422, "idempotency_key_reused".into()));
    assert_eq!(refusal(api.once(&path, "two", &json!({})).await), (409, "key_rotated".into()));
    // The same name to another route is another request.
    let created = api.once("/v1/keys", "one", &json!({ "label": "c", "environment": "live" })).await;
    assert_eq!(created.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_key_shows_its_uses_by_day_and_hour() {
    let api = api();
    let id: KeyId = api.create("a").await["id"].as_str().unwrap().parse().unwrap();
    let use_it = async |batch, hours_ago: i64, uses, refusals| {
        let at = Some(Timestamp::from_millis(NOW.as_millis() - hours_ago * 3_600_000));
        let activity =
            Activity { last_used_at: at, uses, last_refused_at: at, refusals, ..Activity::default() };
        let uses = vec![KeyUse { id, activity }];
        api.store.record_uses(&UsageBatch { id: batch, shard: id.shard(), uses }).await.unwrap();
    };
    use_it(1, 0, 3, 1).await;
    use_it(2, 1, 5, 0).await;
    use_it(3, 24, 7, 2).await;
    let (status, usage) = api.get(&format!("/v1/keys/{id}/usage")).await;
    assert_eq!(status, StatusCode::OK);
    let days = usage["days"].as_array().unwrap();
    assert_eq!((days.len(), usage["hours"].as_array().unwrap().len()), (30, 48));
    assert_eq!(days[29], json!({ "date": "2025-11-24", "uses": 8, "refusals": 1 }));
    assert_eq!(days[28], json!({ "date": "2025-11-23", "uses": 7, "refusals": 2 }));
    assert_eq!(days[0], json!({ "date": "2025-10-26", "uses": 0, "refusals": 0 }));
    assert_eq!(usage["recent"], json!({ "start": "2025-11-24T15:00:00.000Z", "uses": 8, "refusals": 1 }));
    assert_eq!(usage["last_used_at"], "2025-11-24T16:00:00.000Z");
    let (_, one) = api.get(&format!("/v1/keys/{id}/usage?days=1")).await;
    assert_eq!(one["days"].as_array().unwrap().len(), 1);
    let bad = api.get(&format!("/v1/keys/{id}/usage?days=91")).await;
    assert_eq!(refusal(bad), (400, "bad_request".into()));
    let unknown = api.get(&format!("/v1/keys/key_{}/usage", "0".repeat(20))).await;
    assert_eq!(refusal(unknown), (404, "not_found".into()));
}

#[tokio::test]
async fn a_key_tells_what_happened_to_it() {
    let api = api();
    let path = path_of(&api.create("a").await);
    api.clock.advance(Duration::from_secs(60));
    let (_, new) = api.post(&format!("{path}/rotate"), &json!({ "grace": "1h" })).await;
    api.patch(&path, "*", json!({ "label": "b", "expires_at": "2026-01-31T12:00:00Z" })).await;
    api.post(&format!("{path}/revoke"), &json!({})).await;
    let (_, history) = api.get(&format!("{path}/history")).await;
    // The store in memory notes edits and revocations at one moment of its own.
    let at = "2025-11-24T16:08:20.000Z";
    let expected = json!([
        { "at": "2025-11-24T16:00:00.000Z", "what": "created", "replaces": null },
        {
            "at": "2025-11-24T16:01:00.000Z",
            "what": "rotated",
            "replaced_by": new["id"],
            "retires_at": "2025-11-24T17:01:00.000Z",
        },
        { "at": at, "what": "renamed", "from": "a", "to": "b" },
        { "at": at, "what": "expiry_changed", "from": null, "to": "2026-01-31T12:00:00.000Z" },
        { "at": at, "what": "revoked" },
    ]);
    assert_eq!(history["data"], expected);
    let (_, of_new) = api.get(&format!("{}/history", path_of(&new))).await;
    assert_eq!(of_new["data"][0]["replaces"], path.rsplit('/').next().unwrap());

    let imported = json!({ "sha256": "ab".repeat(32), "label": "old", "environment": "live",
        "created_at": "2020-01-01T00:00:00Z" });
    api.post("/v1/keys/import", &json!({ "keys": [imported] })).await;
    let (_, listed) = api.get("/v1/keys?q=old").await;
    let (_, history) = api.get(&format!("{}/history", path_of(&listed["data"][0]))).await;
    assert_eq!(history["data"].as_array().unwrap().len(), 1);
    assert_eq!(history["data"][0]["what"], "imported");
}
