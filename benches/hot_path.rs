//! What each step of the request path costs, beside one SHA-256 of a key: the yardstick that cannot be avoided.
//!
//! `cargo bench --bench hot_path`. Read the ratios, not the nanoseconds.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use divan::{Bencher, black_box};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use keygate::clock::{Clock, SystemClock};
use keygate::model::{
    ApiKey, CheckSecret, Environment, KeyFormat, KeyHash, KeyId, KeyRecord, Shard, Timestamp,
};
use keygate::observe::Metrics;
use keygate::proxy::credential;
use keygate::proxy::headers::{self, Client, RequestId, TraceId};
use keygate::store::{
    Creation, FleetSettings, KeyStore, ListQuery, Page, Revocation, StoreError, StoredKey, UsageBatch,
};
use keygate::usage::Usage;
use keygate::verify::cache::Capacity;
use keygate::verify::policy::{self, Facts, Permit};
use keygate::verify::{Verifier, VerifierSettings};
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
    _runtime: Runtime,
}

impl World {
    fn new() -> World {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let metrics = Arc::new(Metrics::new());
        let store = Arc::new(MapStore::default());
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
        let verifier = Verifier::new(
            Arc::clone(&store) as Arc<dyn KeyStore>,
            &settings,
            Arc::clone(&clock),
            Arc::clone(&metrics),
            runtime.handle().clone(),
        );
        let format = KeyFormat::new("sk").expect("a prefix");
        let keys: Vec<_> = (0..KEYS)
            .map(|n| {
                let mut random = [0; 24];
                random[..4].copy_from_slice(&n.to_le_bytes());
                format.mint(Environment::Live, random, &secret())
            })
            .collect();
        runtime.block_on(async {
            verifier.refresh_fleet().await.expect("a map does not fail");
            for key in &keys {
                store.put(key);
                verifier.verify(key, clock.now()).await.expect("the key was put there");
            }
        });
        World { verifier, usage: Usage::new(1_000_000, metrics), clock, keys, _runtime: runtime }
    }

    fn permit(&self, key: &ApiKey) -> Permit {
        let verified = self.verifier.verify(key, self.clock.now()).now_or_never();
        let verified = verified.expect("a hit does not wait").expect("the key is good");
        policy::permit(verified, &FACTS, self.clock.now()).expect("the key is good")
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
    let world = World::new();
    let mut at = 0;
    bencher.bench_local(|| black_box(world.next(&mut at).hash()));
}

#[divan::bench(sample_size = 1_000)]
fn verify_on_a_hit(bencher: Bencher) {
    let world = World::new();
    let mut at = 0;
    bencher.bench_local(|| {
        let key = world.next(&mut at);
        black_box(world.verifier.verify(key, world.clock.now()).now_or_never())
    });
}

#[divan::bench(sample_size = 1_000)]
fn verify_and_permit(bencher: Bencher) {
    let world = World::new();
    let mut at = 0;
    bencher.bench_local(|| black_box(world.permit(world.next(&mut at)).key_id()));
}

#[divan::bench(sample_size = 1_000)]
fn check_of_a_forged_key(bencher: Bencher) {
    let world = World::new();
    let mut at = 0;
    let other = [CheckSecret::from_bytes([9; 32])];
    bencher.bench_local(|| black_box(world.next(&mut at).is_checked_by(&other)));
}

#[divan::bench(sample_size = 1_000)]
fn note_of_a_use(bencher: Bencher) {
    let world = World::new();
    let ids: Vec<KeyId> = world.keys.iter().map(|key| world.permit(key).key_id()).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 7_919) % ids.len();
        world.usage.touch(ids[at], Timestamp::from_millis(1));
    });
}

/// Includes building the headers that it is taken from.
#[divan::bench(sample_size = 1_000)]
fn credential_extraction(bencher: Bencher) {
    let world = World::new();
    let format = KeyFormat::new("sk").expect("a prefix");
    let headers = request_headers(&world.keys[0]);
    bencher.with_inputs(|| headers.clone()).bench_local_values(|mut headers| {
        let key = credential::take(&mut headers, &format);
        (black_box(key).is_ok(), headers)
    });
}

#[divan::bench(sample_size = 1_000)]
fn header_hygiene(bencher: Bencher) {
    let world = World::new();
    let permit = world.permit(&world.keys[0]);
    let headers = request_headers(&world.keys[0]);
    let client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    bencher.with_inputs(|| headers.clone()).bench_local_values(|mut headers| {
        headers::strip_reserved(&mut headers);
        headers::strip_hop_by_hop(&mut headers);
        let id = RequestId::fresh(7);
        headers::identify(&mut headers, &permit, client, &id, TraceId { trace: 1, span: 2 });
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

fn secret() -> CheckSecret {
    CheckSecret::from_bytes([8; 32])
}

/// The least store there can be: benches measure what is in front of it.
#[derive(Default)]
struct MapStore(Mutex<HashMap<KeyHash, KeyRecord>>);

impl MapStore {
    fn put(&self, key: &ApiKey) {
        let hash = key.hash();
        let id_bits = hash.as_bytes().first_chunk::<10>().expect("32 bytes have 10 first ones");
        let record = KeyRecord {
            id: KeyId::new(Shard::of(&hash), *id_bits),
            hash,
            label: "Production Server".into(),
            team: "acme".into(),
            environment: key.environment(),
            display: key.display(),
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            revoked_at: None,
        };
        self.0.lock().expect("not poisoned").insert(hash, record);
    }
}

#[async_trait]
impl KeyStore for MapStore {
    async fn find(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.0.lock().expect("not poisoned").get(hash).cloned())
    }
    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        Ok(FleetSettings {
            store_id: "0".repeat(32),
            check_secrets: vec![secret()],
            accept_unchecked_keys: false,
        })
    }
    async fn get(&self, _: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        Ok(None)
    }
    async fn list(&self, _: &ListQuery) -> Result<Page, StoreError> {
        Ok(Page::default())
    }
    async fn create(&self, _: &KeyRecord) -> Result<Creation, StoreError> {
        Err(StoreError::Busy)
    }
    async fn revoke(&self, _: &KeyId) -> Result<Option<Revocation>, StoreError> {
        Ok(None)
    }
    async fn record_uses(&self, _: &UsageBatch) -> Result<(), StoreError> {
        Ok(())
    }
    async fn accept_unchecked_keys(&self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }
}
