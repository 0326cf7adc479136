//! Receipts, rotations, the fleet and its store, as the API shows them.

use super::*;
use crate::keys::memory::STORE_ID;
use crate::model::{GatewayId, Head, KeyId, Member, Nonce, SHARDS, Shard};
use crate::store::{Activity, Durability, KeyStore, KeyUse, Mismatch, UsageBatch};

fn member(n: u64, seq: u64) -> Member {
    Member {
        id: GatewayId::from_u64(n),
        name: format!("gateway-{n}:8080"),
        version: "0.1.0".into(),
        started_at: NOW,
        max_staleness_ms: 60_000,
        beat: 1,
        positions: vec![Head { seq, nonce: Nonce::from_u64(seq) }; SHARDS],
        gone: false,
    }
}

#[tokio::test]
async fn a_revocation_names_who_did_not_acknowledge_it_and_by_when_it_holds() {
    let api = api();
    let id = api.create("a").await["id"].as_str().unwrap().to_owned();
    api.store.tell_by_log();
    api.store.set_durability(Durability::NotConfirmed("appendfsync is everysec".into()));
    api.store.attend(&member(1, 1)).await.unwrap();
    api.store.attend(&member(2, 0)).await.unwrap();
    let (_, revoked) = api.post(&format!("/v1/keys/{id}/revoke"), &json!({})).await;
    assert_eq!(revoked["revoked_at"], "2025-11-24T16:08:20.000Z");
    assert_eq!(
        revoked["revocation"],
        json!({
            "newly_revoked": true,
            "effective_on_this_gateway": true,
            "acknowledged": 2,
            "gateways": 3,
            "elapsed_ms": 0,
            "unacknowledged": [
                { "id": "gw_0000000000000002", "name": "gateway-2:8080", "version": "0.1.0" },
            ],
            "roll_read": true,
            "effective_by": "2025-11-24T16:09:20.001Z",
            "durable": false,
            "durable_reason": "appendfsync is everysec",
        })
    );
}

#[tokio::test]
async fn a_rotation_shows_the_new_key_once_and_both_as_they_are() {
    let api = api();
    let old = api.create("Server").await;
    let path = format!("/v1/keys/{}/rotate", old["id"].as_str().unwrap());
    let response = api.post_text(&path, json!({ "grace": "2h" }).to_string()).await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, mut new) = read(response).await;
    assert_eq!(status, StatusCode::CREATED);
    let shown_old = new.as_object_mut().unwrap().remove("old").unwrap();
    let key = new.as_object_mut().unwrap().remove("key").unwrap();
    assert!(key.as_str().unwrap().starts_with("sk_live_") && key != old["key"]);
    assert_eq!(api.get(&location).await.1, new);
    assert_eq!(
        (&new["label"], &new["status"], &new["replaces"]),
        (&json!("Server"), &json!("active"), &old["id"])
    );
    assert_eq!((&shown_old["status"], &shown_old["replaced_by"]), (&json!("rotating"), &new["id"]));
    assert_eq!(shown_old["retires_at"], "2025-11-24T18:00:00.000Z");
    assert_eq!(api.get("/v1/keys?status=rotating").await.1["data"], json!([shown_old]));
    api.clock.advance(Duration::from_secs(7_200));
    assert_eq!(api.get(&format!("/v1/keys/{}", old["id"].as_str().unwrap())).await.1["status"], "expired");
}

#[tokio::test]
async fn a_rotation_needs_no_body_and_takes_a_day() {
    let api = api();
    let rotate = |id: &Value| {
        let path = format!("/v1/keys/{}/rotate", id.as_str().unwrap());
        api.call(authorized(Method::POST, &path).body(Body::empty()).unwrap())
    };
    let (status, new) = read(rotate(&api.create("a").await["id"]).await).await;
    assert_eq!(
        (status, &new["old"]["retires_at"]),
        (StatusCode::CREATED, &json!("2025-11-25T16:00:00.000Z"))
    );
    for body in [json!({}), json!({ "grace": null })] {
        let id = api.create("b").await["id"].as_str().unwrap().to_owned();
        assert_eq!(api.post(&format!("/v1/keys/{id}/rotate"), &body).await.0, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn what_cannot_be_rotated_says_why() {
    let api = api();
    let path = |key: &Value| format!("/v1/keys/{}/rotate", key["id"].as_str().unwrap());
    let (old, revoked) = (api.create("a").await, api.create("b").await);
    for grace in [json!("8d"), json!("soon"), json!(5), json!("-1s")] {
        let answer = api.post(&path(&old), &json!({ "grace": grace })).await;
        assert_eq!(refusal(answer), (422, "invalid_request".into()), "{grace}");
    }
    assert_eq!(refusal(api.post(&path(&old), &json!({ "days": 1 })).await).0, 422);
    api.post("/v1/keys/revoke", &json!({ "key": revoked["key"] })).await;
    assert_eq!(refusal(api.post(&path(&revoked), &json!({})).await), (409, "key_revoked".into()));
    let (_, new) = api.post(&path(&old), &json!({ "grace": "0s" })).await;
    assert_eq!(new["old"]["status"], "expired");
    let again = api.post(&path(&old), &json!({})).await;
    assert!(again.1["detail"].as_str().unwrap().contains(new["id"].as_str().unwrap()), "{}", again.1);
    assert_eq!(refusal(again), (409, "key_rotated".into()));
    let (_, brief) =
        api.post("/v1/keys", &json!({ "label": "c", "environment": "live", "expires_in": "1s" })).await;
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(refusal(api.post(&path(&brief), &json!({})).await), (409, "key_expired".into()));
    let unknown = json!({ "id": format!("key_{}", "0".repeat(20)) });
    assert_eq!(refusal(api.post(&path(&unknown), &json!({})).await), (404, "not_found".into()));
}

#[tokio::test]
async fn a_key_shows_its_uses_in_grace_and_the_attempts_after_its_end() {
    let api = api();
    let id: KeyId = api.create("a").await["id"].as_str().unwrap().parse().unwrap();
    let activity = Activity {
        last_used_at: Some(NOW),
        uses: 7,
        uses_in_grace: 2,
        last_refused_at: Some(NOW.plus(Duration::from_secs(1))),
        refusals: 3,
    };
    let batch = UsageBatch { id: 1, shard: id.shard(), uses: vec![KeyUse { id, activity }] };
    api.store.record_uses(&batch).await.unwrap();
    let (_, key) = api.get(&format!("/v1/keys/{id}")).await;
    assert_eq!((&key["uses"], &key["uses_in_grace"], &key["refusals"]), (&json!(7), &json!(2), &json!(3)));
    assert_eq!(key["last_refused_at"], "2025-11-24T16:00:01.000Z");
}

#[tokio::test]
async fn the_fleet_is_shown_with_what_each_gateway_has_applied() {
    let api = api();
    assert_eq!(api.get("/v1/gateways").await, (StatusCode::OK, json!({ "data": [] })));
    api.store.attend(&member(2, 5)).await.unwrap();
    let mut young = member(1, 0);
    young.positions.clear();
    api.store.attend(&young).await.unwrap();
    let (_, fleet) = api.get("/v1/gateways").await;
    assert_eq!(
        fleet["data"][0],
        json!({
            "id": "gw_0000000000000001",
            "name": "gateway-1:8080",
            "version": "0.1.0",
            "started_at": "2025-11-24T16:00:00.000Z",
            "max_staleness_s": 60,
            "this": false,
            "lag_events": null,
            "silent_for_ms": 0,
            "positions": [],
        })
    );
    let position = &fleet["data"][1]["positions"][Shard::all().last().unwrap().index()];
    assert_eq!(position, "5-0000000000000005");
    api.store.set_down(true);
    assert_eq!(refusal(api.get("/v1/gateways").await), (503, "store_unavailable".into()));
}

#[tokio::test]
async fn a_store_is_shown_and_accepted_only_as_it_was_seen() {
    let api = api();
    let ours = json!({ "ours": STORE_ID, "found": STORE_ID, "entries": 0, "mismatch": null });
    assert_eq!(api.get("/v1/store").await, (StatusCode::OK, ours.clone()));
    api.store.replace_by(None, Mismatch::Empty);
    let (_, report) = api.get("/v1/store").await;
    assert_eq!((&report["found"], &report["ours"]), (&Value::Null, &json!(STORE_ID)));
    assert!(report["mismatch"].as_str().unwrap().contains("keygate store accept"));
    let refused = api.get("/v1/keys").await;
    assert!(refused.1["detail"].as_str().unwrap().contains("it is empty"), "{}", refused.1);
    assert_eq!(refusal(refused), (503, "store_unavailable".into()));
    let accept = async |body: Value| api.post("/v1/store/accept", &body).await;
    assert_eq!(refusal(accept(json!({})).await), (422, "invalid_request".into()));
    assert_eq!(refusal(accept(json!({ "found": STORE_ID })).await), (409, "store_changed".into()));
    assert_eq!(accept(json!({ "found": null })).await, (StatusCode::OK, ours));
    assert_eq!(api.get("/v1/keys").await.0, StatusCode::OK);
    api.store.replace_by(Some(STORE_ID), Mismatch::Evicting { policy: "allkeys-lru".into() });
    let refused = accept(json!({ "found": STORE_ID })).await;
    assert!(refused.1["detail"].as_str().unwrap().contains("allkeys-lru"), "{}", refused.1);
    assert_eq!(refusal(refused), (409, "store_unacceptable".into()));
}
