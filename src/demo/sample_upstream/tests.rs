use std::net::SocketAddr;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::ManualClock;

/// A running API of the sandbox, and a client that comes as its gateway would.
struct Sample {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Sample {
    async fn start() -> Sample {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_764_000_000_000)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let api = SampleUpstream::new(Environment::Sandbox, clock);
        let server = tokio::spawn(api.serve(listener, async {
            let _ = stopped.await;
        }));
        Sample { address, stop: Some(stop), server }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let response = Response::from_parts(head, body.collect().await.unwrap().to_bytes());
        drop(sender);
        let _ = connection.await;
        response
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        parsed(&self.send(request(method, path, &body)).await)
    }

    async fn balance(&self, wallet: &str) -> i64 {
        let (status, body) = self.call("GET", &format!("/v1/wallets/{wallet}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["data"]["currency"], "NGN");
        body["data"]["balance"].as_i64().unwrap()
    }
}

fn request(method: &str, path: &str, body: &Value) -> Request<Full<Bytes>> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "sample")
        .header("x-keygate-environment", "sandbox")
        .header("x-keygate-team", "acme")
        .header("x-keygate-key-id", "key_0123456789abcdef0123")
        .body(Full::new(body))
        .unwrap()
}

fn parsed(response: &Response<Bytes>) -> (StatusCode, Value) {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

fn transfer(amount: i64) -> Value {
    json!({ "from_wallet_id": "wlt_1", "to_wallet_id": "wlt_2", "amount": amount })
}

#[tokio::test]
async fn every_route_answers_in_the_envelope() {
    let sample = Sample::start().await;
    let (status, wallet) = sample.call("POST", "/v1/wallets", json!({ "name": "Till" })).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let id = wallet["data"]["id"].as_str().unwrap();
    assert_eq!(sample.balance(id).await, 0);

    let (status, code) =
        sample.call("POST", "/v1/payments/qr/create", json!({ "wallet_id": id, "amount": 300 })).await;
    assert_eq!(status, StatusCode::CREATED, "{code}");
    let pay = json!({ "qr_id": code["data"]["id"], "from_wallet_id": "wlt_1" });
    assert_eq!(sample.call("POST", "/v1/payments/qr/pay", pay.clone()).await.0, StatusCode::CREATED);
    assert_eq!(sample.call("POST", "/v1/payments/qr/pay", pay).await.1["error"], "QR_CODE_ALREADY_PAID");
    assert_eq!(sample.call("POST", "/v1/transfers/p2p", transfer(500)).await.0, StatusCode::CREATED);
    let bank = json!({
        "from_wallet_id": "wlt_1", "bank_code": "058", "account_number": "0123456789", "amount": 200,
    });
    assert_eq!(sample.call("POST", "/v1/transfers/bank", bank).await.0, StatusCode::CREATED);

    assert_eq!(sample.balance(id).await, 300);
    assert_eq!(sample.balance("wlt_1").await, 10_000_000 - 300 - 500 - 200);
    assert_eq!(sample.balance("wlt_2").await, 2_500_500);

    let (status, page) = sample.call("GET", "/v1/wallets/wlt_1/transactions?limit=2", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page["data"][0]["amount"], 200);
    let rest = format!("/v1/wallets/wlt_1/transactions?cursor={}", page["next_cursor"].as_str().unwrap());
    let (_, page) = sample.call("GET", &rest, Value::Null).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(page["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_refusal_names_its_error() {
    let sample = Sample::start().await;
    let cases = [
        ("GET", "/v1/wallets/wlt_9", Value::Null, 404, "WALLET_NOT_FOUND"),
        ("GET", "/v1/elsewhere", Value::Null, 404, "NOT_FOUND"),
        ("DELETE", "/v1/wallets/wlt_1", Value::Null, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/transfers/p2p", Value::Null, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/transfers/p2p", transfer(10_000_001), 422, "INSUFFICIENT_FUNDS"),
        ("POST", "/v1/transfers/p2p", transfer(-1), 400, "VALIDATION_ERROR"),
        ("POST", "/v1/transfers/p2p", transfer(0), 400, "VALIDATION_ERROR"),
        ("POST", "/v1/transfers/p2p", json!("no object"), 400, "VALIDATION_ERROR"),
        ("GET", "/v1/wallets/wlt_1/transactions?limit=0", Value::Null, 400, "VALIDATION_ERROR"),
        ("GET", "/v1/wallets/wlt_1/transactions?cursor=x", Value::Null, 400, "VALIDATION_ERROR"),
    ];
    for (method, path, body, status, error) in cases {
        let (answered, body) = sample.call(method, path, body).await;
        assert_eq!((answered.as_u16(), &body["error"]), (status, &json!(error)), "{method} {path}: {body}");
        assert!(body["message"].is_string());
    }
    let huge = json!({ "name": "x".repeat(MAX_BODY_BYTES) });
    assert_eq!(sample.call("POST", "/v1/wallets", huge).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_idempotency_key_moves_money_once() {
    let sample = Sample::start().await;
    let order = |amount| {
        let mut request = request("POST", "/v1/transfers/p2p", &transfer(amount));
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("order-7"));
        request
    };
    let first = sample.send(order(400)).await;
    let second = sample.send(order(400)).await;
    assert_eq!((first.status(), first.body()), (second.status(), second.body()));
    assert_eq!(sample.balance("wlt_1").await, 9_999_600);

    let (status, body) = parsed(&sample.send(order(401)).await);
    assert_eq!((status, &body["error"]), (StatusCode::CONFLICT, &json!("IDEMPOTENCY_CONFLICT")));
    assert_eq!(sample.balance("wlt_1").await, 9_999_600);
}

#[tokio::test]
async fn only_the_gateway_of_this_environment_is_believed() {
    let sample = Sample::start().await;
    for (name, value) in [
        ("x-keygate-environment", Some("live")),
        ("x-keygate-environment", None),
        ("x-keygate-team", None),
        ("x-keygate-key-id", None),
    ] {
        let mut request = request("POST", "/v1/transfers/p2p", &transfer(1));
        request.headers_mut().remove(name);
        if let Some(value) = value {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let (status, body) = parsed(&sample.send(request).await);
        let expected = (StatusCode::INTERNAL_SERVER_ERROR, &json!("INTERNAL_ERROR"));
        assert_eq!((status, &body["error"]), expected, "{name}: {value:?}");
    }
    assert_eq!(sample.balance("wlt_1").await, 10_000_000);
}

#[tokio::test]
async fn the_request_id_comes_back() {
    let sample = Sample::start().await;
    let mut request = request("GET", "/v1/wallets/wlt_1", &Value::Null);
    request.headers_mut().insert("x-request-id", HeaderValue::from_static("req-1"));
    assert_eq!(sample.send(request).await.headers()["x-request-id"], "req-1");
}

#[tokio::test]
async fn it_stops_when_told_to_even_with_a_connection_open() {
    let mut sample = Sample::start().await;
    let idle = TcpStream::connect(sample.address).await.unwrap();
    sample.balance("wlt_1").await;
    sample.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(4), &mut sample.server).await.expect("it stops").unwrap();
    drop(idle);
}
