//! The API's description says what the router does, and the other way round.

use std::collections::BTreeSet;

use super::*;

impl Api {
    /// A user's id.
    async fn add_user(&self) -> String {
        let users = self.get("/v1/users").await.1["data"].as_array().unwrap().len();
        let account = format!("user{users}");
        let (status, user) =
            self.post("/v1/users", &json!({ "account": account, "role": "viewer", "team": "acme" })).await;
        assert_eq!(status, StatusCode::CREATED);
        user["id"].as_str().unwrap().to_owned()
    }
}

async fn document(api: &Api) -> Value {
    let (status, document) =
        read(api.call(Request::get("/openapi.json").body(Body::empty()).unwrap()).await).await;
    assert_eq!(status, StatusCode::OK, "it needs no token");
    document
}

/// Method, path and operation.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.to_uppercase().parse().unwrap(), path.clone(), operation.clone()));
        }
    }
    operations
}

#[tokio::test]
async fn whatever_is_described_is_there() {
    let api = api();
    let id = api.create("a").await["id"].as_str().unwrap().to_owned();
    let operations = operations(&document(&api).await);
    assert!(operations.len() >= 24, "{}", operations.len());
    for (method, path, operation) in operations {
        let id = if path.starts_with("/v1/users") { api.add_user().await } else { id.clone() };
        let request = authorized(method.clone(), &path.replace("{id}", &id)).body(Body::empty()).unwrap();
        let (status, _) = read(api.call(request).await).await;
        assert!(!matches!(status.as_u16(), 404 | 405 | 500), "{method} {path}: {status}");
        let described = &operation["responses"][status.as_str()];
        assert!(described.is_object(), "{method} {path} answers {status}, which is not described");

        let stranger = Request::builder().method(method.clone()).uri(path.replace("{id}", &id));
        let (status, _) = read(api.call(stranger.body(Body::empty()).unwrap()).await).await;
        let needs_token = !operation["security"].as_array().unwrap().is_empty();
        assert_eq!(status == StatusCode::UNAUTHORIZED, needs_token, "{method} {path}: {status}");
    }
}

/// What is closed to people on purpose stands in the gate's table too: as what only the fleet's admins may do.
#[tokio::test]
async fn the_gate_knows_every_route_of_the_api() {
    for (method, path, _) in operations(&document(&api()).await) {
        assert_eq!(gate::need(&method, &path).is_some(), path.starts_with("/v1/"), "{method} {path}");
    }
}

/// A route comes into the router with its description, or not at all; there is no other way to add one here.
#[test]
fn whatever_is_there_is_described() {
    let sources = [include_str!("../mod.rs"), include_str!("../openapi.rs"), include_str!("../probes.rs")];
    for way in [".route(", ".route_service(", ".nest(", ".nest_service(", "MethodRouter", "axum::routing"] {
        assert!(sources.iter().all(|source| !source.contains(way)), "{way}");
    }
}

#[tokio::test]
async fn the_description_is_whole() {
    let api = api();
    let document = document(&api).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "{method} {path}: its name is another's too");
        assert!(
            operation["summary"].as_str().is_some_and(|summary| summary.ends_with('.')),
            "{method} {path}"
        );
        if !path.starts_with("/v1/") {
            continue;
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let is_refusal = status == "default" || status.starts_with(['4', '5']);
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(is_refusal, schema == "#/components/schemas/Problem", "{method} {path} {status}");
        }
        let schemes: Vec<_> = operation["security"].as_array().unwrap().iter().collect();
        let csrf = schemes.iter().any(|scheme| scheme["csrf"].is_array());
        assert_eq!((schemes.len(), csrf), (2, method != Method::GET), "{method} {path}");
    }
    let mut names = BTreeSet::new();
    references(&document, &mut names);
    for name in names {
        let pointer = name.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{name} leads nowhere");
    }
    let text = document.to_string();
    assert!(!text.contains(TOKEN), "nothing in it is secret");
}

fn references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            names.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, names));
        }
        Value::Array(members) => members.iter().for_each(|member| references(member, names)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_shows_every_operation_and_loads_nothing_from_elsewhere() {
    let api = api();
    let response = api.call(Request::get("/docs").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = response.into_body().collect().await.unwrap().to_bytes();
    let page = std::str::from_utf8(&page).unwrap();
    for (method, path, operation) in operations(&document(&api).await) {
        assert!(
            page.contains(&format!("id=\"{}\"", operation["operationId"].as_str().unwrap())),
            "{method} {path}"
        );
    }
    for foreign in ["http://", "https://", "<script", "<style", "style=\"", "//cdn"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("href=\"#shape-KeyPage\"") && page.contains("id=\"shape-KeyPage\""));
    let style = api.call(Request::get("/docs/style.css").body(Body::empty()).unwrap()).await;
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
}
