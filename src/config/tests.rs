use std::collections::BTreeMap;
use std::io::Write;

use proptest::prelude::*;

use super::layers::{DEFAULTS, Layers};
use super::*;

const TOKEN: &str = "a-token-for-tests";
const MINIMAL: &str = "admin_token = \"a-token-for-tests\"\nupstream_live = \"http://live.internal\"\n";

fn from_file(text: &str) -> Result<Config, ConfigErrors> {
    from_layers(text, &[], &[])
}

fn from_layers(
    file: &str,
    env: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Config, ConfigErrors> {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let flags = flags.iter();
    Config::load(&Sources {
        file: Some(written.path().to_owned()),
        env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        flags: flags
            .map(|&(setting, value)| Flag { flag: "--flag", setting, value: value.to_owned() })
            .collect(),
        ..Sources::default()
    })
}

fn problems(file: &str) -> Vec<String> {
    problems_with(file, &[])
}

fn problems_with(file: &str, env: &[(&str, &str)]) -> Vec<String> {
    let ConfigErrors(errors) = from_layers(file, env, &[]).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_embedded_file_holds_every_default() {
    let config = from_file(MINIMAL).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.unwrap().to_string(), "127.0.0.1:8081");
    assert_eq!(config.observe_listen, None);
    assert_eq!(config.store, StoreUrl::Sqlite("keygate.sqlite".into()));
    assert!(config.workers >= 1);
    assert_eq!(config.limits.max_body_bytes, None);
    assert_eq!(config.cache.ttl, Duration::from_secs(300));
    assert_eq!(config.cache.max_bytes, 256 * 1024 * 1024);
    assert_eq!(config.upstream.idle_timeout, Duration::from_secs(4));
    assert_eq!(config.lookup.timeout, Duration::from_millis(100));
    assert_eq!(config.store_id, None);
    assert_eq!(config.revocation.receipt_timeout, Duration::from_millis(2_500));
    assert_eq!(config.revocation.canary_interval, Duration::from_secs(10));
    assert_eq!((config.revocation.wait_replicas, config.revocation.wait_fsync), (0, false));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn the_embedded_file_names_every_setting() {
    let (raw, _, errors) = Layers::defaults().read();
    assert!(errors.is_empty());
    let names = serde_json::to_value(&raw).unwrap();
    for (name, value) in names.as_object().unwrap() {
        let section = value.as_object();
        for name in section.map_or(vec![name], |section| section.keys().collect()) {
            assert!(
                DEFAULTS.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} ="))),
                "{name}"
            );
        }
    }
}

#[test]
fn later_layers_override_earlier_ones() {
    let file = format!("{MINIMAL}[cache]\nttl_s = 100\nunknown_ttl_s = 5\n[limits]\nmax_headers = 50");
    let env = [("KEYGATE_CACHE__TTL_S", "200"), ("KEYGATE_LIMITS__MAX_HEADERS", "60"), ("HOME", "/root")];
    let config = from_layers(&file, &env, &[("limits.max_headers", "70")]).unwrap();
    assert_eq!(config.cache.unknown_ttl, Duration::from_secs(5));
    assert_eq!(config.cache.ttl, Duration::from_secs(200));
    assert_eq!(config.limits.max_headers, 70);
    assert_eq!(config.cache.max_staleness, Duration::from_secs(300));
}

#[test]
fn a_preset_lies_below_the_file_and_the_environment() {
    let preset = Preset {
        name: "keygate demo",
        settings: vec![("admin_token", TOKEN.into()), ("listen", "127.0.0.1:1".into())],
    };
    let mut sources = Sources { preset: Some(preset), brings_upstream: true, ..Sources::default() };
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.listen.port(), 1);
    assert!(config.admin_token.unwrap().is(TOKEN.as_bytes()));
    assert_eq!(config.upstream_live, None);
    sources.env = BTreeMap::from([("KEYGATE_LISTEN".to_owned(), "127.0.0.1:2".to_owned())]);
    assert_eq!(Config::load(&sources).unwrap().listen.port(), 2);
}

#[test]
fn an_empty_variable_is_unset() {
    let config = from_layers(MINIMAL, &[("KEYGATE_LISTEN", ""), ("KEYGATE_WORKERS", "")], &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn every_problem_is_named_with_its_field_and_where_it_came_from() {
    let file = "listen = \"here\"\n\n[cache]\nttl_s = 301\nmax_bites = 5\n[limits]\nmax_headers = \"many\"\n";
    let problems = problems_with(file, &[("KEYGATE_WORKERS", "-1"), ("KEYGATE_LISEN", "127.0.0.1:1")]);
    let has = |parts: &[&str]| {
        assert!(
            problems.iter().any(|problem| parts.iter().all(|part| problem.contains(part))),
            "{parts:?} is not in {problems:#?}"
        );
    };
    has(&["`listen`", "line 1", "ADDRESS:PORT"]);
    has(&["`cache.ttl_s`", "line 4", "301", "1 to 300 seconds"]);
    has(&["`cache.max_bites`", "line 5", "no such setting", "did you mean `cache.max_bytes`?"]);
    has(&["`limits.max_headers`", "line 7", "whole number"]);
    has(&["`workers`", "KEYGATE_WORKERS", "whole number"]);
    has(&["`KEYGATE_LISEN`", "did you mean `KEYGATE_LISTEN`?"]);
    has(&["`admin_token`", "not set", "KEYGATE_ADMIN_TOKEN"]);
    has(&["`upstream_live`", "not set", "KEYGATE_UPSTREAM_SANDBOX"]);
    assert_eq!(problems.len(), 8, "{problems:#?}");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_its_line_and_not_shown() {
    let problems = problems_with("listen = \"127.0.0.1:80\"\nadmin_token = \"hunter2-hunter2-hunter2\n", &[]);
    assert!(problems[0].contains("line 2: not TOML"), "{problems:?}");
    assert!(!problems.concat().contains("hunter2"), "{problems:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let sources = Sources { file: Some("/nowhere/keygate.toml".into()), ..Sources::default() };
    assert!(
        Config::load(&sources).unwrap_err().to_string().contains("/nowhere/keygate.toml: cannot be read")
    );
}

#[test]
fn no_problem_shows_a_secret() {
    let file = "admin_token = [\"hunter2\"]\nstore = \"postgres://u:hunter2@h\"\nupstream_live = \"http://u:hunter2@h\"";
    let shown = format!("{:?} {}", from_file(file).unwrap_err(), problems(file).concat());
    assert!(!shown.contains("hunter2"), "{shown}");
    let config = from_file(&format!("{MINIMAL}store = \"redis://u:hunter2@h\"")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{config:?}").contains(TOKEN));
}

#[test]
fn live_and_sandbox_never_share_an_upstream() {
    for sandbox in [
        "http://live.internal",
        "http://LIVE.internal:80/",
        "https://live.internal:80",
        "http://live.internal.",
    ] {
        let problems = problems(&format!("{MINIMAL}upstream_sandbox = \"{sandbox}\""));
        assert!(problems[0].contains("`upstream_sandbox`"), "{sandbox}: {problems:?}");
    }
    assert!(from_file(&format!("{MINIMAL}upstream_sandbox = \"http://sandbox.internal\"")).is_ok());
}

#[test]
fn a_listener_beyond_loopback_needs_tls_or_somebody_in_front_who_ends_it() {
    for (listener, section, other) in [("listen", "tls", "admin_tls"), ("admin_listen", "admin_tls", "tls")] {
        for address in ["0.0.0.0:9", "[::]:9", "192.0.2.1:9", "[::ffff:192.0.2.1]:9"] {
            let open = format!("{MINIMAL}{listener} = \"{address}\"\n");
            let files = |section| format!("{open}[{section}]\ncertificate = \"c\"\nkey = \"k\"");
            for refused in [open.clone(), files(other)] {
                let problems = problems(&refused);
                let said = |word: &str| problems[0].contains(word);
                assert!(
                    said(&format!("`{listener}`")) && said("behind_tls") && said(&format!("{section}.key"))
                );
            }
            assert!(from_file(&format!("{open}behind_tls = true")).is_ok());
            assert!(from_file(&files(section)).is_ok());
        }
        for address in ["127.0.0.2:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert!(from_file(&format!("{MINIMAL}{listener} = \"{address}\"\n")).is_ok(), "{address}");
        }
    }
    assert!(from_file(&format!("{MINIMAL}observe_listen = \"0.0.0.0:9\"\n")).is_ok(), "it carries no key");
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    for (given, missing) in [("certificate", "key"), ("key", "certificate")] {
        let half = format!("{MINIMAL}listen = \"0.0.0.0:9\"\n[tls]\n{given} = \"file\"");
        let problems = problems(&half);
        assert!(problems.len() == 1 && problems[0].contains(&format!("`tls.{missing}`")), "{problems:?}");
    }
}

#[test]
fn an_admin_token_is_required_and_long() {
    let upstream = "upstream_live = \"http://live.internal\"\n";
    assert!(problems(upstream)[0].contains("`admin_token`"));
    assert!(problems(&format!("{upstream}admin_token = \"short\""))[0].contains("5 characters"));
    assert!(from_file(&format!("{upstream}admin_listen = \"off\"")).unwrap().admin_listen.is_none());
}

#[test]
fn a_store_is_pinned_by_its_identity() {
    let id = "0123456789abcdef".repeat(2);
    let pinned = from_layers(MINIMAL, &[("KEYGATE_STORE_ID", &id)], &[]).unwrap();
    assert_eq!(pinned.store_id, Some(id.clone()));
    for wrong in [&id[1..], &id.to_uppercase(), "prod"] {
        let problems = problems(&format!("store_id = \"{wrong}\"\n{MINIMAL}"));
        assert!(problems[0].contains("`store_id`") && problems[0].contains("32"), "{wrong}: {problems:?}");
    }
}

#[test]
fn a_receipt_comes_while_somebody_waits_for_it() {
    let with = |line: &str| format!("{MINIMAL}[revocation]\n{line}\n");
    for (line, words) in [
        ("receipt_timeout_ms = 0", "1 to 30000 milliseconds"),
        ("receipt_timeout_ms = 60000", "1 to 30000 milliseconds"),
        ("canary_interval_s = 0", "1 to 3600 seconds"),
        ("wait_replicas = 101", "0 to 100"),
        ("wait_fsync = 1", "revocation.wait_fsync"),
    ] {
        assert!(problems(&with(line))[0].contains(words), "{line}: {:?}", problems(&with(line)));
    }
    let config = from_file(&with("wait_replicas = 2\nwait_fsync = true")).unwrap();
    assert_eq!((config.revocation.wait_replicas, config.revocation.wait_fsync), (2, true));
}

#[test]
fn listeners_must_differ_unless_the_port_is_free_to_choose() {
    for listen in ["127.0.0.1:8081", "0.0.0.0:8081"] {
        let file = format!("{MINIMAL}behind_tls = true\nlisten = \"{listen}\"");
        assert!(problems(&file)[0].contains("`admin_listen`"));
    }
    assert!(from_file(&format!("{MINIMAL}listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"")).is_ok());
}

#[test]
fn a_gateway_is_not_its_own_upstream() {
    let file = format!("admin_token = \"{TOKEN}\"\nupstream_live = \"http://localhost:8080\"\n");
    assert!(problems(&file)[0].contains("in circles"));
}

#[test]
fn a_section_is_a_table_and_a_setting_is_not() {
    assert!(problems(&format!("cache = 5\n{MINIMAL}"))[0].contains("expected a table"));
    assert!(problems(&format!("{MINIMAL}[listen]\nport = 5"))[0].contains("`listen`"));
    assert!(problems(&format!("{MINIMAL}\"cache.ttl_s\" = 5"))[0].contains("no such setting"));
}

/// Some settings with values that are allowed, as `(path, TOML)`.
fn settings() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    let number = |range: std::ops::Range<u64>| range.prop_map(|number| number.to_string());
    let setting = prop_oneof![
        (1u16..8080).prop_map(|port| ("listen", format!("127.0.0.1:{port}"))),
        any::<bool>().prop_map(|on| ("behind_tls", on.to_string())),
        "[a-z0-9]{1,16}".prop_map(|prefix| ("key_prefix", prefix)),
        number(1..301).prop_map(|value| ("cache.ttl_s", value)),
        number(1..30_001).prop_map(|value| ("revocation.receipt_timeout_ms", value)),
        any::<bool>().prop_map(|on| ("revocation.wait_fsync", on.to_string())),
        number(1..1_000_000).prop_map(|value| ("usage.flush_interval_ms", value)),
        number(0..u64::from(u32::MAX)).prop_map(|value| ("limits.max_body_bytes", value)),
        "[a-z]{1,9}".prop_map(|host| ("upstream_sandbox", format!("https://{host}.internal:8443"))),
        prop_oneof![Just("text"), Just("json")].prop_map(|format| ("log.format", format.to_owned())),
    ];
    prop::collection::vec(setting, 0..12).prop_map(|settings| settings.into_iter().collect())
}

fn as_toml(settings: &BTreeMap<&str, String>) -> String {
    let line = |path: &str, value: &str| match value.parse::<i64>().is_ok() && path != "key_prefix" {
        true => format!("{path} = {value}\n"),
        false if matches!(path, "behind_tls" | "revocation.wait_fsync") => format!("{path} = {value}\n"),
        false => format!("{path} = \"{value}\"\n"),
    };
    settings.iter().map(|(path, value)| line(path, value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_the_environment_and_flags_mean_the_same(settings in settings()) {
        let file = from_file(&format!("{MINIMAL}{}", as_toml(&settings))).unwrap();
        let names: Vec<_> = settings.iter().map(|(path, value)| (layers::variable_of(path), value)).collect();
        let env: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let flags: Vec<_> = settings.iter().map(|(path, value)| (*path, value.as_str())).collect();
        let shown = format!("{file:?}");
        prop_assert_eq!(&shown, &format!("{:?}", from_layers(MINIMAL, &env, &[]).unwrap()));
        prop_assert_eq!(&shown, &format!("{:?}", from_layers(MINIMAL, &[], &flags).unwrap()));
    }

    #[test]
    fn no_text_makes_loading_panic(text in any::<String>(), value in any::<String>()) {
        let _ = from_layers(&text, &[("KEYGATE_STORE", &value), ("KEYGATE_UPSTREAM_LIVE", &value)], &[]);
    }

    #[test]
    fn no_toml_makes_loading_panic(
        lines in prop::collection::vec(
            ("(listen|store|workers|cache|cache\\.ttl_s|log|limits\\.max_headers|admin_token|upstream_live|x)",
             "(-?[0-9]{1,20}|\"[ -!#-\\[\\]-~]{0,12}\"|true|1\\.5|\\[\\]|\\{\\}|\\{a=1\\}|1979-05-27)"),
            0..6,
        )
    ) {
        let text: String = lines.iter().map(|(path, value)| format!("{path} = {value}\n")).collect();
        let _ = from_file(&text);
    }
}
