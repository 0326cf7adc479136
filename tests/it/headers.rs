//! What the upstream is told, what it is not told, and what neither side can smuggle past.

use crate::support::{Answer, CreatedKey, Gateway, Request, Seen, Upstream};

struct Setting {
    upstream: Upstream,
    gateway: Gateway,
    created: CreatedKey,
}

impl Setting {
    fn new() -> Setting {
        Setting::before(Upstream::start())
    }

    fn before(upstream: Upstream) -> Setting {
        let gateway = Gateway::before(&upstream);
        let created = gateway.admin().create("live");
        Setting { upstream, gateway, created }
    }

    /// What becomes of `GET /v1/wallets` with these lines besides the key.
    fn forward(&self, lines: &[(&str, &str)]) -> (Seen, Answer) {
        let request = Request::get("/v1/wallets").key(&self.created.key);
        let request = lines.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = self.gateway.ask(&request);
        assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
        (self.upstream.seen().pop().expect("it was forwarded"), answer)
    }

    /// That the upstream knows whose request it is, from keygate alone.
    #[track_caller]
    fn assert_identified(&self, seen: &Seen) {
        assert_eq!(seen.headers.get("x-keygate-key-id"), Some(self.created.id.as_str()), "{seen:?}");
        assert_eq!(seen.headers.get("x-keygate-team"), Some("acme"), "{seen:?}");
        assert_eq!(seen.headers.get("x-keygate-environment"), Some("live"), "{seen:?}");
    }
}

#[test]
fn the_upstream_learns_whose_request_it_is() {
    let setting = Setting::new();
    let (seen, _) = setting.forward(&[]);
    setting.assert_identified(&seen);
}

#[test]
fn what_only_keygate_may_say_never_passes_whatever_its_spelling() {
    let setting = Setting::new();
    for name in [
        "X-Keygate-Team",
        "x-keygate-team",
        "X-KEYGATE-TEAM",
        "X_Keygate_Team",
        "X-Keygate_Team",
        "x_keygate-key-id",
        "X-Keygate-Environment",
        "X-Keygate-Anything",
        "X_KEYGATE_ANYTHING",
    ] {
        let (seen, _) = setting.forward(&[(name, "evil"), (name, "evil")]);
        setting.assert_identified(&seen);
        assert!(!seen.headers.mention("evil"), "{name}: {seen:?}");
    }
}

#[test]
fn connection_cannot_take_away_what_keygate_says() {
    let setting = Setting::new();
    let named = "X-Keygate-Key-Id, X-Keygate-Team, X-Keygate-Environment, X-Request-Id, X-Forwarded-For, \
                 X-Forwarded-Proto, X-Forwarded-Host, traceparent, Host";
    for value in [named.to_owned(), named.to_lowercase(), format!("close, {named}")] {
        let (seen, _) = setting.forward(&[("Connection", &value)]);
        setting.assert_identified(&seen);
        for name in [
            "host",
            "x-request-id",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "traceparent",
        ] {
            assert!(seen.headers.get(name).is_some(), "{name}: {seen:?}");
        }
    }
}

#[test]
fn connection_cannot_take_away_the_credential() {
    let setting = Setting::new();
    for value in ["X-API-Key", "x-api-key, authorization", "close, X-API-Key"] {
        // Were the key taken away first, this would be refused as without one.
        let (seen, _) = setting.forward(&[("Connection", value)]);
        assert!(!seen.headers.has("x-api-key") && !seen.headers.has("connection"), "{seen:?}");
    }
}

#[test]
fn connection_cannot_take_away_the_length_of_a_body() {
    let setting = Setting::new();
    let request = Request::post("/v1/transfers/p2p", "twelve bytes").key(&setting.created.key);
    for named in ["Content-Length", "content-length, Content-Type"] {
        setting.gateway.ask(&request.clone().header("Connection", named)).assert_forwarded();
        let seen = setting.upstream.seen().pop().unwrap();
        assert!(seen.complete);
        assert_eq!(seen.body, b"twelve bytes");
    }
}

#[test]
fn hop_by_hop_headers_end_at_the_gateway_on_the_way_there() {
    let setting = Setting::new();
    let (seen, _) = setting.forward(&[
        ("Connection", "keep-alive, X-Hop"),
        ("Connection", "x-other-hop"),
        ("X-Hop", "1"),
        ("X-Other-Hop", "1"),
        ("X-Stays", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("TE", "gzip"),
    ]);
    for name in
        ["x-hop", "x-other-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "te"]
    {
        assert!(!seen.headers.has(name), "{name}: {seen:?}");
    }
    assert!(
        !seen.headers.all("connection").iter().any(|value| value.to_lowercase().contains("hop")),
        "{seen:?}"
    );
    assert_eq!(seen.headers.get("x-stays"), Some("1"));
}

#[test]
fn hop_by_hop_headers_end_at_the_gateway_on_the_way_back() {
    let setting = Setting::before(Upstream::with(|exchange| {
        exchange.reply(
            200,
            &[
                ("Connection", "X-Hop"),
                ("X-Hop", "1"),
                ("X-Stays", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Authenticate", "Basic"),
                ("Upgrade", "h2c"),
            ],
            b"{}",
        )
    }));
    let (_, answer) = setting.forward(&[]);
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(!answer.headers.has(name), "{name}: {answer:?}");
    }
    assert!(!answer.headers.mention("X-Hop"), "{answer:?}");
    assert_eq!(answer.headers.get("x-stays"), Some("1"));
}

#[test]
fn te_trailers_may_stay() {
    let setting = Setting::new();
    let (seen, _) = setting.forward(&[("TE", "trailers"), ("Connection", "TE")]);
    assert_eq!(seen.headers.get("te"), Some("trailers"));
}

#[test]
fn host_is_the_upstreams_and_the_clients_is_told_as_forwarded() {
    let setting = Setting::new();
    let (seen, _) = setting.forward(&[]);
    assert_eq!(seen.headers.get("host"), Some(setting.upstream.authority().as_str()));
    assert_eq!(seen.headers.get("x-forwarded-host"), Some("api.example"));
    assert_eq!(seen.headers.get("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.headers.get("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn a_client_cannot_say_where_it_was_forwarded_from() {
    let setting = Setting::new();
    let (seen, _) = setting.forward(&[
        ("X-Forwarded-For", "10.9.8.7"),
        ("x_forwarded_for", "10.9.8.7"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "gopher"),
        ("Forwarded", "for=10.9.8.7"),
        ("X-Real-IP", "10.9.8.7"),
    ]);
    assert_eq!(seen.headers.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.headers.get("x-forwarded-host"), Some("api.example"));
    assert_eq!(seen.headers.get("x-forwarded-proto"), Some("http"));
    for lie in ["10.9.8.7", "evil.example", "gopher"] {
        assert!(!seen.headers.mention(lie), "{lie}: {seen:?}");
    }
}

#[test]
fn a_well_formed_request_id_is_kept_and_any_other_is_replaced() {
    let setting = Setting::new();
    let longest = "a".repeat(64);
    for kept in ["a", "req_0123-ABC", longest.as_str()] {
        let (seen, answer) = setting.forward(&[("X-Request-Id", kept)]);
        assert_eq!(seen.headers.get("x-request-id"), Some(kept));
        assert_eq!(answer.headers.get("x-request-id"), Some(kept));
    }
    let too_long = "a".repeat(65);
    for replaced in ["", "a b", "a/b", "a;b", "\"a\"", too_long.as_str()] {
        let (seen, answer) = setting.forward(&[("X-Request-Id", replaced)]);
        let ours = seen.headers.get("x-request-id").expect("there is always one");
        assert_ne!(ours, replaced);
        assert_eq!(answer.headers.get("x-request-id"), Some(ours));
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        assert!((1..=64).contains(&ours.len()) && ours.bytes().all(well_formed), "{ours}");
    }
    let (first, _) = setting.forward(&[]);
    let (second, _) = setting.forward(&[]);
    assert_ne!(first.headers.get("x-request-id"), second.headers.get("x-request-id"));
}

#[test]
fn the_answer_has_one_request_id_even_if_the_upstream_sends_its_own() {
    let setting = Setting::before(Upstream::with(|exchange| {
        exchange.reply(200, &[("X-Request-Id", "the-upstreams")], b"{}")
    }));
    let (seen, answer) = setting.forward(&[]);
    assert_eq!(answer.headers.get("x-request-id"), seen.headers.get("x-request-id"));
}

#[test]
fn a_trace_goes_on_or_begins_here() {
    let setting = Setting::new();
    let (seen, _) = setting.forward(&[]);
    assert_traceparent(seen.headers.get("traceparent"));

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let (seen, _) = setting.forward(&[("traceparent", &parent)]);
    assert_traceparent(seen.headers.get("traceparent"));
    assert_eq!(seen.headers.get("traceparent").and_then(|value| value.split('-').nth(1)), Some(trace));

    for malformed in ["", "nonsense", "00-00000000000000000000000000000000-0000000000000000-00"] {
        let (seen, _) = setting.forward(&[("traceparent", malformed)]);
        assert_traceparent(seen.headers.get("traceparent"));
    }
}

/// W3C Trace Context, version 00.
#[track_caller]
fn assert_traceparent(value: Option<&str>) {
    let value = value.expect("there is always a traceparent");
    let parts: Vec<_> = value.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{value}");
    let hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert!(parts.iter().all(hex), "{value}");
    assert!(parts[1..3].iter().all(|part| part.bytes().any(|byte| byte != b'0')), "{value}");
}

#[test]
fn what_belongs_to_the_api_passes_untouched() {
    let setting = Setting::new();
    let lines = [
        ("Idempotency-Key", "7f8d-Ünïq \"quoted\""),
        ("Accept", "application/json, */*;q=0.1"),
        ("User-Agent", "payments-node/1.2.3"),
        ("X-Custom", "a, b"),
        ("X-Custom-2", ""),
        ("Cookie", "a=b; c=d"),
        ("Accept-Encoding", "gzip, br"),
        ("If-None-Match", "\"etag\""),
    ];
    let (seen, _) = setting.forward(&lines);
    for (name, value) in lines {
        assert_eq!(seen.headers.get(name), Some(value), "{seen:?}");
    }
}

#[test]
fn several_lines_of_one_name_stay_several() {
    let setting = Setting::before(Upstream::with(|exchange| {
        exchange.reply(200, &[("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2")], b"{}")
    }));
    let (seen, answer) = setting.forward(&[("X-Many", "1"), ("X-Many", "2")]);
    assert_eq!(seen.headers.all("x-many"), ["1", "2"]);
    assert_eq!(answer.headers.all("set-cookie"), ["a=1; Path=/", "b=2"]);
}
