//! The follower against logs in memory, whose answers a test can change, and a bus whose messages it can lose.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::SystemClock;
use crate::events::recorder::{Heard, Recorder};
use crate::model::{Event, EventKind, Nonce, Timestamp};

/// The logs of a store.
struct MemoryLog {
    shards: Mutex<[Vec<LogEntry>; SHARDS]>,
    origins: Mutex<[Head; SHARDS]>,
    silent: AtomicBool,
    /// Events that the store says it had lost.
    asserted: Mutex<Vec<KeyHash>>,
    names: AtomicU64,
    unreadable: AtomicBool,
}

impl MemoryLog {
    fn new() -> MemoryLog {
        let log = MemoryLog {
            shards: Mutex::default(),
            origins: Mutex::new([Head { seq: 0, nonce: Nonce::from_u64(0) }; SHARDS]),
            silent: AtomicBool::new(false),
            asserted: Mutex::default(),
            names: AtomicU64::new(1),
            unreadable: AtomicBool::new(false),
        };
        log.found();
        log
    }

    /// Empty, with new names.
    fn found(&self) {
        for origin in self.origins.lock().unwrap().iter_mut() {
            *origin = Head { seq: 0, nonce: self.name() };
        }
        *self.shards.lock().unwrap() = Default::default();
    }

    fn name(&self) -> Nonce {
        Nonce::from_u64(self.names.fetch_add(1, Ordering::SeqCst))
    }

    fn end_of(&self, shard: Shard) -> Head {
        let origin = self.origins.lock().unwrap()[shard.index()];
        self.shards.lock().unwrap()[shard.index()].last().map_or(origin, |entry| entry.head)
    }

    fn append(&self, event: Event) -> LogEntry {
        let shard = event.shard();
        let end = self.end_of(shard);
        let head = Head { seq: end.seq + 1, nonce: self.name() };
        let entry = LogEntry { head, prev: end.nonce, event };
        self.shards.lock().unwrap()[shard.index()].push(entry.clone());
        entry
    }

    fn copy(&self) -> [Vec<LogEntry>; SHARDS] {
        self.shards.lock().unwrap().clone()
    }

    fn answer(&self) -> Result<(), LogError> {
        match self.silent.load(Ordering::SeqCst) {
            true => Err(LogError::Unreachable("silent".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn heads(&self) -> Result<Heads, LogError> {
        self.answer()?;
        let heads: Vec<Head> = Shard::all().map(|shard| self.end_of(shard)).collect();
        Ok(Heads { time: Timestamp::from_millis(7), heads: heads.try_into().unwrap() })
    }

    async fn entries_after(&self, shard: Shard, seq: u64, limit: usize) -> Result<Vec<LogEntry>, LogError> {
        self.answer()?;
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(LogError::Unreadable("not an entry".into()));
        }
        let entries = self.copy()[shard.index()].clone();
        Ok(entries.into_iter().filter(|entry| entry.head.seq > seq).take(limit).collect())
    }

    async fn assert_revoked(&self, hash: &KeyHash) -> Result<bool, LogError> {
        self.answer()?;
        self.asserted.lock().unwrap().push(*hash);
        Ok(true)
    }
}

struct Following {
    log: Arc<MemoryLog>,
    sink: Arc<Recorder>,
    news: mpsc::Sender<News>,
    progress: watch::Receiver<Option<Progress>>,
    running: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Following {
    /// Every shard was read and is proved.
    async fn start() -> Following {
        let (log, sink) = (Arc::new(MemoryLog::new()), Arc::new(Recorder::default()));
        let (news, heard) = mpsc::channel(10);
        let (tell, progress) = watch::channel(None);
        let follower = Follower::new(
            Arc::clone(&log) as Arc<dyn Log>,
            Arc::clone(&sink) as Arc<dyn FeedSink>,
            Arc::new(SystemClock::start()),
            tell,
        );
        let running = tokio::spawn(follower.run(heard));
        let following = Following { log, sink, news, progress, running };
        following.sink.until("all is proved", |heard| proofs(heard).count() >= SHARDS).await;
        following
    }

    async fn publish(&self, entry: LogEntry) {
        self.news.send(News::Message(Message::Entry(entry))).await.unwrap();
    }

    async fn doubt(&self) {
        self.news.send(News::Doubt).await.unwrap();
    }

    async fn reaches(&mut self, shard: Shard, head: Head) {
        let reached = |progress: &Option<Progress>| {
            progress.is_some_and(|progress| progress.positions[shard.index()] == head)
        };
        let wait = self.progress.wait_for(reached);
        timeout(Duration::from_secs(20), wait).await.expect("it never got there").unwrap();
    }

    /// What happened in this order: events and gaps of one shard.
    fn story(&self, shard: Shard) -> Vec<Heard> {
        let of_shard = |heard: &Heard| match heard {
            Heard::Event(event) => event.shard() == shard,
            Heard::Gap(gap, _) => *gap == shard,
            Heard::Current(..) | Heard::Connected(_) | Heard::Lag(_) | Heard::FleetTime(_) => false,
        };
        self.sink.heard().into_iter().filter(of_shard).collect()
    }
}

fn proofs(heard: &[Heard]) -> impl Iterator<Item = Shard> {
    heard.iter().filter_map(|heard| match heard {
        Heard::Current(shard, _) => Some(*shard),
        _ => None,
    })
}

fn event(number: u8) -> Event {
    let mut hash = [0x50; 32];
    hash[31] = number;
    let hash = KeyHash::from_bytes(hash);
    Event { kind: EventKind::Revoked, hash, id: None, at: Timestamp::from_millis(i64::from(number)) }
}

fn shard() -> Shard {
    event(0).shard()
}

#[tokio::test]
async fn the_first_reading_is_a_gap_before_it_is_a_proof() {
    let following = Following::start().await;
    let heard = following.sink.heard();
    for shard in Shard::all() {
        let at = |wanted: &dyn Fn(&Heard) -> bool| heard.iter().position(wanted).unwrap();
        let gap = at(&|heard| *heard == Heard::Gap(shard, Gap::Start));
        let proof = at(&|heard| matches!(heard, Heard::Current(proved, _) if *proved == shard));
        assert!(gap < proof);
    }
    assert!(heard.contains(&Heard::FleetTime(Timestamp::from_millis(7))));
}

#[tokio::test]
async fn a_published_event_is_applied_and_moves_the_position() {
    let mut following = Following::start().await;
    following.sink.clear();
    let entry = following.log.append(event(1));
    following.publish(entry.clone()).await;
    following.reaches(shard(), entry.head).await;
    assert_eq!(following.story(shard()), [Heard::Event(event(1))]);
}

#[tokio::test]
async fn what_the_bus_lost_is_replayed_in_order_from_the_log() {
    let mut following = Following::start().await;
    following.sink.clear();
    let entries: Vec<_> = (1..=5).map(|number| following.log.append(event(number))).collect();
    following.reaches(shard(), entries[4].head).await;
    let told: Vec<_> = (1..=5).map(|number| Heard::Event(event(number))).collect();
    assert_eq!(following.story(shard()), told);
}

#[tokio::test]
async fn an_event_that_does_not_chain_is_applied_early_and_moves_nothing() {
    let mut following = Following::start().await;
    following.sink.clear();
    following.log.silent.store(true, Ordering::SeqCst);
    let (_lost, second) = (following.log.append(event(1)), following.log.append(event(2)));
    let before = following.progress.borrow().unwrap().positions;
    following.publish(second.clone()).await;
    following.sink.until("it is applied", |heard| heard.contains(&Heard::Event(event(2)))).await;
    assert_eq!(following.progress.borrow().unwrap().positions, before);
    following.log.silent.store(false, Ordering::SeqCst);
    following.reaches(shard(), second.head).await;
    let told = [event(2), event(1), event(2)].map(Heard::Event);
    assert_eq!(following.story(shard()), told, "early, and then in order");
}

#[tokio::test]
async fn a_log_longer_than_a_page_is_replayed_whole() {
    let mut following = Following::start().await;
    following.sink.clear();
    let many = 2 * PAGE + 7;
    let entries: Vec<_> = (0..many).map(|number| following.log.append(event(number as u8))).collect();
    following.doubt().await;
    following.reaches(shard(), entries[many - 1].head).await;
    assert_eq!(following.story(shard()).len(), many);
}

#[tokio::test]
async fn a_log_that_was_trimmed_too_far_is_a_gap() {
    let mut following = Following::start().await;
    following.sink.clear();
    let entries: Vec<_> = (1..=5).map(|number| following.log.append(event(number))).collect();
    following.log.shards.lock().unwrap()[shard().index()].drain(..3);
    following.reaches(shard(), entries[4].head).await;
    assert_eq!(following.story(shard()), [Heard::Gap(shard(), Gap::Trimmed)]);

    // To the last one.
    following.sink.clear();
    let last = following.log.append(event(6));
    let origin = following.log.end_of(shard());
    following.log.shards.lock().unwrap()[shard().index()].clear();
    following.log.origins.lock().unwrap()[shard().index()] = origin;
    following.reaches(shard(), last.head).await;
    assert_eq!(following.story(shard()), [Heard::Gap(shard(), Gap::Trimmed)]);
}

#[tokio::test]
async fn a_log_that_was_forked_or_set_back_is_a_gap_and_hears_again_what_is_revoked() {
    for (older, fork) in [(true, 0), (true, 1), (true, 9), (false, 0)] {
        let mut following = Following::start().await;
        let old = following.log.copy();
        let revoked = event(3).hash;
        following.sink.revoked.lock().unwrap().push(revoked);
        let entries: Vec<_> = (1..=3).map(|number| following.log.append(event(number))).collect();
        following.reaches(shard(), entries[2].head).await;
        following.sink.clear();

        // An older copy, which went on by itself; or an empty one.
        match older {
            true => *following.log.shards.lock().unwrap() = old,
            false => following.log.found(),
        }
        let forked: Vec<_> = (0..fork).map(|number| following.log.append(event(100 + number))).collect();
        let end = forked.last().map_or_else(|| following.log.end_of(shard()), |entry| entry.head);
        following.reaches(shard(), end).await;
        assert!(following.story(shard()).contains(&Heard::Gap(shard(), Gap::Forked)), "fork of {fork}");
        let asserted = async {
            while *following.log.asserted.lock().unwrap() != [revoked] {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), asserted).await.expect("the store hears of it again");
    }
}

#[tokio::test]
async fn what_cannot_be_read_in_the_log_is_a_gap() {
    let mut following = Following::start().await;
    following.sink.clear();
    following.log.unreadable.store(true, Ordering::SeqCst);
    let entry = following.log.append(event(1));
    following.reaches(shard(), entry.head).await;
    assert_eq!(following.story(shard()), [Heard::Gap(shard(), Gap::Unreadable)]);
}

#[tokio::test]
async fn silence_proves_nothing_and_is_no_gap() {
    let mut following = Following::start().await;
    following.log.silent.store(true, Ordering::SeqCst);
    let entry = following.log.append(event(1));
    following.sink.clear();
    for _ in 0..20 {
        following.doubt().await;
    }
    following.log.silent.store(false, Ordering::SeqCst);
    following.reaches(shard(), entry.head).await;
    assert_eq!(following.story(shard()), [Heard::Event(event(1))]);
}

#[tokio::test]
async fn a_proof_comes_after_everything_that_was_in_the_log_before_the_question() {
    let mut following = Following::start().await;
    for round in 0..20 {
        following.sink.clear();
        let entry = following.log.append(event(round));
        following.doubt().await;
        following.reaches(shard(), entry.head).await;
        let heard =
            following.sink.until("a proof", |heard| proofs(heard).any(|proved| proved == shard())).await;
        let position = |wanted: &dyn Fn(&Heard) -> bool| heard.iter().position(wanted).unwrap();
        let applied = position(&|heard| *heard == Heard::Event(event(round)));
        let proved = position(&|heard| matches!(heard, Heard::Current(proved, _) if *proved == shard()));
        assert!(applied < proved);
    }
}
