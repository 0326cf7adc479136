//! What a cached key costs in memory, measured from the process: `cargo bench --bench memory`.
//!
//! A million keys of a hundred thousand teams go the way that loads go. What the process holds more afterwards is set
//! beside what the cache believes to hold, by which it decides when it is full.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use keygate::allocator::Allocator;
use keygate::clock::Tick;
use keygate::model::{Environment, KeyHash, KeyId, KeyRecord, Shard, Timestamp};
use keygate::verify::cache::{CachedRecord, Capacity, RecordCache};
use keygate::verify::freshness::Limits;
use keygate::verify::memory::{Memory, Reliance};
use keygate::verify::near::NearCache;

/// As the gateway itself.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator {};

const KEYS: u64 = 1_000_000;
const TEAMS: u64 = 100_000;
/// Many, so that what one holds is seen.
const WORKERS: u64 = 64;
/// So many keys come by each worker that all its places are taken.
const KEYS_OF_A_WORKER: u64 = KEYS / WORKERS;
const NOW: Tick = Tick::from_nanos(1_000_000_000);

fn main() -> io::Result<()> {
    let memory = empty();
    let before = resident()?;
    (0..KEYS).for_each(|n| remember(&memory, n));
    memory.cache().catch_up();
    let cached = resident()?.saturating_sub(before);
    let (entries, believed) = (memory.cache().entries(), memory.cache().bytes());

    let before = resident()?;
    let workers: Vec<NearCache> = (0..WORKERS).map(|worker| holding_all(&memory, worker)).collect();
    let held = resident()?.saturating_sub(before) / workers.len() as u64;

    let mut out = io::stdout();
    writeln!(out, "{entries} of {KEYS} keys are cached, of {TEAMS} teams")?;
    writeln!(out, "{:>6} bytes a key by the process, its team's name included", cached / entries)?;
    writeln!(out, "{:>6} bytes a key by the cache's own count", believed / entries)?;
    writeln!(out, "{:>6} bytes of these are the record", size_of::<CachedRecord>())?;
    writeln!(out, "{:>6} KiB for a worker's own hold of the keys in use", held / 1024)
}

/// A cache with room for all of them.
fn empty() -> Memory<RecordCache> {
    let ttl = Duration::from_secs(300);
    let limits = Limits { ttl, max_staleness: ttl };
    let capacity = Capacity { max_bytes: 1 << 30, ttl, unknown_entries: 1_000, unknown_ttl: ttl };
    let memory = Memory::new(RecordCache::new(capacity), Reliance { known: limits, unknown: limits });
    Shard::all().for_each(|shard| memory.prove(shard, NOW));
    memory
}

fn remember(memory: &Memory<RecordCache>, n: u64) {
    let hash = hash(n);
    let loaded = memory.begin_load(NOW);
    let record = CachedRecord::decode(&record(hash, n)).expect("the team can stand in a header");
    memory.found(hash, loaded, record);
}

/// A worker that holds as much as it ever does.
fn holding_all(memory: &Memory<RecordCache>, worker: u64) -> NearCache {
    let near = NearCache::default();
    let first = worker * KEYS_OF_A_WORKER;
    for n in first..first + KEYS_OF_A_WORKER {
        near.recall(memory, &hash(n), NOW);
    }
    near
}

/// As even as a real one.
fn hash(n: u64) -> KeyHash {
    let mut random = fastrand::Rng::with_seed(n);
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    KeyHash::from_bytes(bytes)
}

fn record(hash: KeyHash, n: u64) -> KeyRecord {
    let id_bits = hash.as_bytes().first_chunk::<10>().expect("32 bytes have 10 first ones");
    KeyRecord {
        id: KeyId::new(Shard::of(&hash), *id_bits),
        hash,
        label: "Production Server".into(),
        team: format!("partner-{}", n % TEAMS),
        environment: Environment::Live,
        display: "sk_live_4f9c…a1b2".into(),
        created_at: Timestamp::from_millis(0),
        expires_at: None,
        revoked_at: None,
        retires_at: None,
        replaced_by: None,
        replaces: None,
    }
}

/// What the process holds in memory, in bytes.
fn resident() -> io::Result<u64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find(|line| line.starts_with("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
}
