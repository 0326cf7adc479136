//! What each step of the request path costs, beside one SHA-256 of a key: the yardstick that cannot be avoided.
//!
//! `cargo bench --bench hot_path`. Read the ratios, not the nanoseconds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use divan::{Bencher, black_box};
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue};
use keygate::clock::{Clock, SystemClock};
use keygate::events::FeedSink;
use keygate::model::{ApiKey, CheckSecret, Environment, KeyFormat, KeyId, KeyRecord, Shard, Timestamp};
use keygate::observe::Metrics;
use keygate::proxy::credential;
use keygate::proxy::headers::{self, Client, RequestId, Scheme, TraceId};
use keygate::proxy::survey::Survey;
use keygate::proxy::values::Values;
use keygate::store::KeyStore;
use keygate::store::sqlite::SqliteStore;
use keygate::usage::{Usage, Use};
use keygate::verify::cache::Capacity;
use keygate::verify::policy::{self, Facts, Permit};
use keygate::verify::{Near, Verifier, VerifierSettings};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

/// Keys that stand in the cache.
const KEYS: u32 = 10_000;
const FACTS: Facts = Facts { serves_live: true, serves_sandbox: true };

struct World {
    verifier: Verifier,
    usage: Usage,
    clock: Arc<dyn Clock>,
    keys: Vec<ApiKey>,
    /// A record that is due is looked up again there.
    runtime: Runtime,
    _directory: TempDir,
}

/// One for all benches: to fill a store takes a while.
static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    fn new() -> World {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let metrics = Arc::new(Metrics::new());
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys.sqlite");
        let store = SqliteStore::open(&path, Arc::clone(&clock), None, Box::new(|_| ())).expect("a file");
        let store: Arc<dyn KeyStore> = Arc::new(store);
        let settings = VerifierSettings {
            capacity: Capacity {
                max_bytes: 1 << 30,
                ttl: Duration::from_secs(300),
                unknown_entries: 1_000,
                unknown_ttl: Duration::from_secs(10),
            },
            max_staleness: Duration::from_secs(300),
            unchecked_per_second: 1,
            unchecked_at_once: 1,
        };
        let verifier = Verifier::new(Arc::clone(&store), &settings, Arc::clone(&clock), Arc::clone(&metrics));
        let keys = runtime.block_on(async {
            verifier.refresh_fleet().await.expect("a file does not fail");
            verifier.attended(clock.now().tick);
            Shard::all().for_each(|shard| verifier.current(shard, clock.now().tick));
            let secrets = store.fleet().await.expect("a file does not fail").check_secrets;
            let keys = mint(&secrets[0]);
            let records = stream::iter(keys.iter().map(record));
            let written = records.map(|record| {
                let store = Arc::clone(&store);
                async move { store.create(&record).await.expect("a file does not fail") }
            });
            written.buffer_unordered(64).collect::<Vec<_>>().await;
            for key in &keys {
                verifier.verify(key, &verifier.near(), clock.now()).await.expect("the key was put there");
            }
            keys
        });
        let usage = Usage::new(1_000_000, metrics);
        World { verifier, usage, clock, keys, runtime, _directory: directory }
    }

    fn permit(&self, key: &ApiKey, near: &Near) -> Permit {
        let verified = self.verifier.verify(key, near, self.clock.now()).now_or_never();
        let verified = verified.expect("a hit does not wait").expect("the key is good");
        policy::permit(verified, &FACTS).expect("the key is good")
    }

    /// Walks over all keys, so that none stays in the processor's cache by chance.
    fn next<'a>(&'a self, at: &mut usize) -> &'a ApiKey {
        *at = (*at + 7_919) % self.keys.len();
        &self.keys[*at]
    }
}

/// The yardstick.
#[divan::bench(sample_size = 1_000)]
fn sha_256_of_a_key(bencher: Bencher) {
    let world = &*WORLD;
    let mut at = 0;
    bencher.bench_local(|| black_box(world.next(&mut at).hash()));
}

#[divan::bench(sample_size = 1_000)]
fn verify_on_a_hit(bencher: Bencher) {
    let world = &*WORLD;
    let mut at = 0;
    let (near, _runtime) = (world.verifier.near(), world.runtime.enter());
    bencher.bench_local(|| {
        let key = world.next(&mut at);
        black_box(world.verifier.verify(key, &near, world.clock.now()).now_or_never())
    });
}

/// As when one merchant's key is used by everybody at once.
#[divan::bench(sample_size = 1_000)]
fn verify_on_a_hit_of_one_key(bencher: Bencher) {
    let world = &*WORLD;
    let (key, near, _runtime) = (&world.keys[0], world.verifier.near(), world.runtime.enter());
    bencher.bench_local(|| black_box(world.verifier.verify(key, &near, world.clock.now()).now_or_never()));
}

#[divan::bench(sample_size = 1_000)]
fn verify_and_permit(bencher: Bencher) {
    let world = &*WORLD;
    let (mut at, near, _runtime) = (0, world.verifier.near(), world.runtime.enter());
    bencher.bench_local(|| black_box(world.permit(world.next(&mut at), &near).key_id()));
}

#[divan::bench(sample_size = 1_000)]
fn check_of_a_forged_key(bencher: Bencher) {
    let world = &*WORLD;
    let mut at = 0;
    let other = [CheckSecret::from_bytes([9; 32])];
    bencher.bench_local(|| black_box(world.next(&mut at).is_checked_by(&other)));
}

#[divan::bench(sample_size = 1_000)]
fn note_of_a_use(bencher: Bencher) {
    let world = &*WORLD;
    let near = world.verifier.near();
    let ids: Vec<KeyId> = world.keys.iter().map(|key| world.permit(key, &near).key_id()).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 7_919) % ids.len();
        world.usage.note(ids[at], Use::Permitted, Timestamp::from_millis(1));
    });
}

/// Includes building the headers that it is taken from.
#[divan::bench(sample_size = 1_000)]
fn credential_extraction(bencher: Bencher) {
    let world = &*WORLD;
    let format = KeyFormat::new("sk").expect("a prefix");
    let headers = request_headers(&world.keys[0]);
    bencher.with_inputs(|| headers.clone()).bench_local_values(|mut headers| {
        let survey = Survey::of(&headers);
        let key = credential::take(&mut headers, &survey, &format);
        (black_box(key).is_ok(), headers)
    });
}

#[divan::bench(sample_size = 1_000)]
fn header_hygiene(bencher: Bencher) {
    let world = &*WORLD;
    let permit = world.permit(&world.keys[0], &world.verifier.near());
    let headers = request_headers(&world.keys[0]);
    let (client, mut values) = (Client::at(IpAddr::V4(Ipv4Addr::LOCALHOST), Scheme::Http), Values::default());
    bencher.with_inputs(|| headers.clone()).bench_local_values(|mut headers| {
        let survey = Survey::of(&headers);
        headers::strip_reserved(&mut headers, &survey);
        headers::strip_hop_by_hop(&mut headers, &survey);
        let id = RequestId::fresh(7, &mut values);
        let trace = TraceId { trace: 1, span: 2 };
        headers::identify(&mut headers, &survey, &permit, &client, &id, trace, &mut values);
        headers
    });
}

/// As the API's Node client sends them.
fn request_headers(key: &ApiKey) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {}", key.expose());
    for (name, value) in [
        ("host", "api.example"),
        ("connection", "keep-alive"),
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "*/*"),
        ("accept-language", "*"),
        ("user-agent", "node"),
        ("content-length", "42"),
    ] {
        headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
    }
    headers
}

fn mint(secret: &CheckSecret) -> Vec<ApiKey> {
    let format = KeyFormat::new("sk").expect("a prefix");
    let key = |n: u32| {
        let mut random = [0; 24];
        random[..4].copy_from_slice(&n.to_le_bytes());
        format.mint(Environment::Live, random, secret)
    };
    (0..KEYS).map(key).collect()
}

fn record(key: &ApiKey) -> KeyRecord {
    let hash = key.hash();
    let id_bits = hash.as_bytes().first_chunk::<10>().expect("32 bytes have 10 first ones");
    KeyRecord {
        id: KeyId::new(Shard::of(&hash), *id_bits),
        hash,
        label: "Production Server".into(),
        team: "acme".into(),
        environment: key.environment(),
        display: key.display(),
        created_at: Timestamp::from_millis(0),
        expires_at: None,
        revoked_at: None,
        retires_at: None,
        replaced_by: None,
        replaces: None,
    }
}
