//! The roll over a store that a test has in its hands: it says who stands there, and how far they are.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;

use super::*;
use crate::clock::ManualClock;
use crate::model::{Event, Gap, Head, KeyHash, KeyId, KeyRecord, Nonce, SHARDS, Shard};
use crate::store::{
    self, Creation, Durability, FleetSettings, ListQuery, Page, Revocation, Rotation, StoreReport, StoredKey,
    Told, UsageBatch,
};

const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);
const REVOKED_AT: Timestamp = Timestamp::from_millis(1_764_000_000_007);
const STALENESS: Duration = Duration::from_secs(300);
/// What nobody should need, for receipts that come when everybody has answered.
const PATIENT: Duration = Duration::from_secs(20);
/// For receipts that do not: somebody is never heard from.
const IMPATIENT: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Board {
    members: Mutex<HashMap<GatewayId, Member>>,
    down: AtomicBool,
    hangs: AtomicBool,
    readings: AtomicUsize,
    /// Readings at this moment, and the most there were at once.
    reading: AtomicUsize,
    most_reading: AtomicUsize,
    durability: Mutex<Option<Durability>>,
    /// A line that comes just before somebody is taken off.
    at_last: Mutex<Option<Member>>,
}

#[derive(Default)]
struct Attended(Mutex<Vec<Tick>>);

struct Fleet {
    board: Arc<Board>,
    attended: Arc<Attended>,
    clock: ManualClock,
    metrics: Arc<Metrics>,
    progress: watch::Sender<Option<Progress>>,
    roll: Arc<Roll>,
}

fn fleet(receipt_timeout: Duration) -> Fleet {
    let (board, attended) = (Arc::new(Board::default()), Arc::new(Attended::default()));
    let (clock, metrics) = (ManualClock::at(NOW), Arc::new(Metrics::new()));
    let (progress, followed) = watch::channel(None);
    let settings = RollSettings { name: "here:8080".into(), max_staleness: STALENESS, receipt_timeout };
    let roll = Roll::new(
        settings,
        Arc::clone(&board) as Arc<dyn KeyStore>,
        Arc::clone(&attended) as Arc<dyn FeedSink>,
        followed,
        Arc::new(clock.clone()),
        Arc::clone(&metrics),
    );
    Fleet { board, attended, clock, metrics, progress, roll: Arc::new(roll.unwrap()) }
}

fn shard() -> Shard {
    Shard::all().nth(3).unwrap()
}

fn head(seq: u64) -> Head {
    Head { seq, nonce: Nonce::from_u64(100 + seq) }
}

fn told(seq: u64) -> Told {
    Told::Logged(head(seq))
}

fn member(n: u64, seq: u64) -> Member {
    let mut positions = vec![head(0); SHARDS];
    positions[shard().index()] = head(seq);
    Member {
        id: GatewayId::from_u64(n),
        name: format!("gateway-{n}:8080"),
        version: "0.1.0".into(),
        started_at: NOW,
        max_staleness_ms: 300_000,
        beat: 1,
        positions,
        gone: false,
    }
}

fn progress(position: u64, end: u64) -> Progress {
    let (mut positions, mut heads) = ([head(0); SHARDS], [head(0); SHARDS]);
    positions[shard().index()] = head(position);
    heads[shard().index()] = head(end);
    Progress { positions, heads }
}

impl Board {
    fn put(&self, member: Member) {
        self.members.lock().unwrap().insert(member.id, member);
    }

    fn take(&self, n: u64) {
        self.members.lock().unwrap().remove(&GatewayId::from_u64(n));
    }

    fn line(&self, id: GatewayId) -> Option<Member> {
        self.members.lock().unwrap().get(&id).cloned()
    }

    /// Waits until the roll has been read so many times more.
    async fn is_read(&self, times: usize) {
        let before = self.readings.load(Ordering::SeqCst);
        until(|| self.readings.load(Ordering::SeqCst) >= before + times).await;
    }

    async fn answer(&self) -> Result<(), StoreError> {
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match self.down.load(Ordering::SeqCst) {
            true => Err(StoreError::unavailable("down")),
            false => Ok(()),
        }
    }
}

impl Fleet {
    async fn receipt(&self, seq: u64) -> Receipt {
        self.roll.receipt(told(seq), shard(), REVOKED_AT, self.clock.now().tick).await
    }

    fn later(&self, seq: u64) -> tokio::task::JoinHandle<Receipt> {
        let (roll, began) = (Arc::clone(&self.roll), self.clock.now().tick);
        tokio::spawn(async move { roll.receipt(told(seq), shard(), REVOKED_AT, began).await })
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENT, waited).await.expect("it must come true");
}

fn ids(members: &[Member]) -> Vec<GatewayId> {
    members.iter().map(|member| member.id).collect()
}

#[tokio::test]
async fn a_receipt_waits_for_everybody() {
    let fleet = fleet(PATIENT);
    fleet.board.put(member(1, 7));
    fleet.board.put(member(2, 8));
    let receipt = fleet.later(8);
    fleet.board.is_read(3).await;
    assert!(!receipt.is_finished());
    fleet.clock.advance(Duration::from_millis(16));
    // Further than the entry is as good: positions are cumulative.
    fleet.board.put(member(1, 9));
    let receipt = receipt.await.unwrap();
    assert_eq!((receipt.acknowledged, receipt.gateways, receipt.roll_read), (3, 3, true));
    assert_eq!((receipt.unacknowledged.len(), receipt.elapsed), (0, Duration::from_millis(16)));
    assert_eq!(receipt.effective_by, NOW.plus(Duration::from_millis(16)), "when it was known");
    assert_eq!(receipt.durable, Durability::Durable);
}

#[tokio::test]
async fn who_does_not_answer_is_named_and_bounded_by_its_own_lease() {
    let fleet = fleet(IMPATIENT);
    fleet.board.put(member(1, 8));
    fleet.board.put(Member { max_staleness_ms: 60_000, ..member(3, 7) });
    fleet.board.put(Member { max_staleness_ms: 120_000, positions: Vec::new(), ..member(2, 0) });
    fleet.board.put(Member { max_staleness_ms: 300_000, ..member(4, 9) });
    let receipt = fleet.receipt(8).await;
    assert_eq!((receipt.acknowledged, receipt.gateways), (3, 5));
    assert_eq!(ids(&receipt.unacknowledged), [GatewayId::from_u64(2), GatewayId::from_u64(3)]);
    assert_eq!(receipt.effective_by, REVOKED_AT.plus(Duration::from_millis(120_001)));
}

#[tokio::test]
async fn a_place_in_another_log_is_no_acknowledgement() {
    // With the same number, or with a higher one: it followed a log that the store has lost.
    for seq in [8, 9, 100] {
        let fleet = fleet(IMPATIENT);
        let mut forked = member(1, 0);
        forked.positions[shard().index()] = Head { seq, nonce: Nonce::from_u64(666) };
        fleet.board.put(forked);
        assert_eq!(fleet.receipt(8).await.acknowledged, 1);
    }
}

#[tokio::test]
async fn this_gateway_counts_as_heard_whether_or_not_it_stands_on_the_roll() {
    let fleet = fleet(PATIENT);
    let receipt = fleet.receipt(8).await;
    assert_eq!((receipt.acknowledged, receipt.gateways), (1, 1));
    fleet.roll.write_line().await.unwrap();
    assert!(fleet.board.line(fleet.roll.id()).unwrap().positions.is_empty());
    let receipt = fleet.receipt(8).await;
    assert_eq!((receipt.acknowledged, receipt.gateways), (1, 1));
}

#[tokio::test]
async fn who_joins_after_the_first_look_is_not_waited_for_and_who_goes_is() {
    let fleet = fleet(IMPATIENT);
    fleet.board.put(member(1, 7));
    let receipt = fleet.later(8);
    fleet.board.is_read(1).await;
    fleet.board.put(member(2, 7));
    fleet.board.take(1);
    let receipt = receipt.await.unwrap();
    assert_eq!((receipt.acknowledged, receipt.gateways), (1, 2));
    assert_eq!(ids(&receipt.unacknowledged), [GatewayId::from_u64(1)]);
}

#[tokio::test]
async fn who_vanished_without_a_goodbye_counts_until_it_can_trust_nothing_any_more() {
    let fleet = fleet(IMPATIENT);
    fleet.board.put(member(1, 7));
    fleet.roll.sweep().await;
    // The store was restored from a copy that did not know it yet.
    fleet.board.take(1);
    let receipt = fleet.receipt(8).await;
    assert_eq!((receipt.acknowledged, receipt.gateways), (1, 2));
    assert_eq!(ids(&receipt.unacknowledged), [GatewayId::from_u64(1)]);
    assert!(receipt.effective_by > NOW.plus(STALENESS));
    fleet.clock.advance(2 * STALENESS + Duration::from_secs(10));
    assert_eq!(fleet.receipt(8).await.gateways, 2);
    fleet.clock.advance(Duration::from_millis(1));
    assert_eq!(fleet.receipt(8).await.gateways, 1);
}

#[tokio::test]
async fn who_has_said_goodbye_is_neither_counted_nor_shown_and_goes_after_a_while() {
    let fleet = fleet(PATIENT);
    fleet.board.put(Member { gone: true, ..member(1, 7) });
    assert_eq!(fleet.receipt(8).await.gateways, 1);
    assert!(fleet.roll.gateways().await.unwrap().is_empty());
    fleet.clock.advance(2 * STALENESS + Duration::from_secs(11));
    fleet.roll.sweep().await;
    assert_eq!(fleet.board.line(GatewayId::from_u64(1)), None);
}

#[tokio::test]
async fn a_log_that_has_lost_the_revocation_says_nothing_of_who_has_applied_it() {
    let fleet = fleet(IMPATIENT);
    fleet.board.put(member(1, 9));
    assert_eq!(fleet.receipt(8).await.acknowledged, 2);
    let lost = Told::Logged(Head { seq: 8, nonce: Nonce::from_u64(666) });
    let receipt = fleet.roll.receipt(lost, shard(), REVOKED_AT, fleet.clock.now().tick).await;
    assert_eq!(receipt.acknowledged, 1);
    assert!(matches!(receipt.durable, Durability::NotConfirmed(_)), "what is lost is not durable");
}

#[tokio::test]
async fn the_bound_is_counted_from_now_if_the_store_says_that_it_was_long_ago() {
    let fleet = fleet(IMPATIENT);
    fleet.board.put(member(1, 7));
    let long_ago = Timestamp::from_millis(NOW.as_millis() - 3_600_000);
    let receipt = fleet.roll.receipt(told(8), shard(), long_ago, fleet.clock.now().tick).await;
    assert_eq!(receipt.effective_by, NOW.plus(STALENESS + Duration::from_millis(1)));
}

#[tokio::test]
async fn a_look_that_began_before_the_revocation_does_not_count() {
    let fleet = fleet(PATIENT);
    fleet.board.put(member(1, 7));
    let first = fleet.later(8);
    fleet.board.is_read(1).await;
    // The next look has seen one gateway alone, and does not come back yet.
    fleet.board.hangs.store(true, Ordering::SeqCst);
    until(|| fleet.board.reading.load(Ordering::SeqCst) == 1).await;
    fleet.board.put(member(2, 6));
    let second = fleet.later(7);
    tokio::task::yield_now().await;
    fleet.board.hangs.store(false, Ordering::SeqCst);
    fleet.board.is_read(3).await;
    assert!(!second.is_finished(), "the first look did not know who had joined before the revocation");
    fleet.board.put(member(2, 7));
    assert_eq!(second.await.unwrap().acknowledged, 3);
    fleet.board.put(member(1, 8));
    assert_eq!(first.await.unwrap().gateways, 2);
}

#[tokio::test]
async fn many_receipts_have_one_reader() {
    let fleet = fleet(PATIENT);
    fleet.board.put(member(1, 0));
    let receipts: Vec<_> = (1..=50).map(|seq| fleet.later(seq)).collect();
    fleet.board.is_read(5).await;
    fleet.board.put(member(1, 30));
    until(|| receipts[..30].iter().all(tokio::task::JoinHandle::is_finished)).await;
    assert!(!receipts[30..].iter().any(tokio::task::JoinHandle::is_finished));
    // Whoever reads may give up, and another goes on.
    receipts[31..].iter().for_each(tokio::task::JoinHandle::abort);
    fleet.board.put(member(1, 31));
    until(|| receipts[30].is_finished()).await;
    assert_eq!(fleet.board.most_reading.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_the_roll_the_last_known_are_named_and_the_longest_lease_holds() {
    let fleet = fleet(IMPATIENT);
    fleet.board.put(Member { max_staleness_ms: 1_000, ..member(1, 7) });
    fleet.roll.sweep().await;
    fleet.board.down.store(true, Ordering::SeqCst);
    let receipt = fleet.receipt(8).await;
    assert_eq!((receipt.acknowledged, receipt.gateways, receipt.roll_read), (1, 2, false));
    assert_eq!(ids(&receipt.unacknowledged), [GatewayId::from_u64(1)]);
    assert_eq!(receipt.effective_by, REVOKED_AT.plus(Duration::from_millis(300_001)));
}

#[tokio::test]
async fn a_roll_that_can_be_read_again_in_time_is_enough() {
    let fleet = fleet(PATIENT);
    fleet.board.put(member(1, 8));
    fleet.board.down.store(true, Ordering::SeqCst);
    let receipt = fleet.later(8);
    fleet.board.is_read(2).await;
    fleet.board.down.store(false, Ordering::SeqCst);
    assert_eq!(receipt.await.unwrap().acknowledged, 2);
}

#[tokio::test]
async fn a_store_that_tells_everybody_needs_no_roll() {
    let fleet = fleet(PATIENT);
    fleet.board.down.store(true, Ordering::SeqCst);
    *fleet.board.durability.lock().unwrap() = Some(Durability::NotConfirmed("it said so".into()));
    let receipt = fleet.roll.receipt(Told::Everybody, shard(), REVOKED_AT, fleet.clock.now().tick).await;
    assert_eq!((receipt.acknowledged, receipt.gateways, receipt.roll_read), (1, 1, true));
    assert_eq!(receipt.effective_by, REVOKED_AT, "its clock is the store's");
    assert_eq!(receipt.durable, Durability::NotConfirmed("it said so".into()));
}

#[tokio::test]
async fn a_line_says_how_far_this_gateway_is_until_its_goodbye() {
    let fleet = fleet(PATIENT);
    fleet.clock.advance(Duration::from_secs(5));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let roll = Arc::clone(&fleet.roll);
    let running = tokio::spawn(async move { roll.run(async move { drop(stopped.await) }).await });
    let id = fleet.roll.id();
    until(|| fleet.board.line(id).is_some()).await;
    fleet.progress.send_replace(Some(progress(8, 9)));
    until(|| fleet.board.line(id).is_some_and(|line| line.positions.get(3) == Some(&head(8)))).await;
    let line = fleet.board.line(id).unwrap();
    assert_eq!((line.name.as_str(), line.max_staleness(), line.started_at), ("here:8080", STALENESS, NOW));
    assert!(line.beat >= 2);
    until(|| fleet.attended.0.lock().unwrap().len() >= 2).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    let last = fleet.board.line(id).unwrap();
    assert!(last.gone && last.beat > line.beat, "its goodbye is the last that it writes");
}

#[tokio::test]
async fn attendance_dates_from_before_the_line_was_asked_for() {
    let fleet = fleet(PATIENT);
    fleet.board.down.store(true, Ordering::SeqCst);
    assert!(fleet.roll.write_line().await.is_err());
    assert!(fleet.attended.0.lock().unwrap().is_empty());
    fleet.board.down.store(false, Ordering::SeqCst);
    // The line is asked for now, and the store takes its time.
    fleet.board.hangs.store(true, Ordering::SeqCst);
    let asked_at = fleet.clock.now().tick;
    let ((), written) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            fleet.clock.advance(Duration::from_secs(1));
            fleet.board.hangs.store(false, Ordering::SeqCst);
        },
        fleet.roll.write_line()
    );
    written.unwrap();
    assert_eq!(*fleet.attended.0.lock().unwrap(), [asked_at]);
}

#[tokio::test]
async fn a_silent_gateway_goes_after_its_time_and_only_if_it_is_still_silent() {
    let fleet = fleet(PATIENT);
    let limit = Duration::from_secs(2 * 60 + 10);
    let silent = Member { max_staleness_ms: 60_000, ..member(1, 7) };
    let alive = Member { max_staleness_ms: 60_000, ..member(2, 7) };
    fleet.board.put(silent.clone());
    fleet.board.put(alive.clone());
    fleet.roll.write_line().await.unwrap();
    fleet.roll.sweep().await;
    fleet.clock.advance(limit);
    fleet.board.put(Member { beat: 2, ..alive.clone() });
    fleet.roll.sweep().await;
    assert!(fleet.board.line(silent.id).is_some(), "its time is not over before it is over");
    fleet.clock.advance(Duration::from_millis(1));
    fleet.roll.sweep().await;
    assert!(fleet.board.line(silent.id).is_none());
    assert!(fleet.board.line(alive.id).is_some());
    assert!(fleet.board.line(fleet.roll.id()).is_some(), "nobody takes itself off");
    // A sign of life between the look and the strike.
    fleet.clock.advance(limit);
    *fleet.board.at_last.lock().unwrap() = Some(Member { beat: 3, ..alive.clone() });
    fleet.roll.sweep().await;
    assert!(fleet.board.at_last.lock().unwrap().is_none(), "it was to be taken off");
    assert!(fleet.board.line(alive.id).is_some());
    assert!(fleet.metrics.render().contains("keygate_fleet_gateways 2"));
}

#[tokio::test]
async fn an_operator_sees_who_is_behind_and_who_is_silent() {
    let fleet = fleet(PATIENT);
    fleet.progress.send_replace(Some(progress(9, 9)));
    fleet.board.put(member(1, 7));
    fleet.board.put(Member { positions: Vec::new(), ..member(2, 0) });
    fleet.roll.write_line().await.unwrap();
    fleet.roll.sweep().await;
    fleet.clock.advance(Duration::from_secs(4));
    fleet.roll.write_line().await.unwrap();
    let gateways = fleet.roll.gateways().await.unwrap();
    let shown: Vec<_> =
        gateways.iter().map(|gateway| (gateway.this, gateway.lag, gateway.silent_for.as_secs())).collect();
    assert_eq!(shown, [(false, Some(2), 4), (false, None, 4), (true, Some(0), 0)]);
    fleet.board.down.store(true, Ordering::SeqCst);
    assert!(fleet.roll.gateways().await.is_err());
}

/// Only the roll is asked for here.
#[async_trait]
impl KeyStore for Board {
    async fn attend(&self, member: &Member) -> Result<(), StoreError> {
        self.answer().await?;
        self.put(member.clone());
        Ok(())
    }
    async fn leave(&self, id: GatewayId, beat: u64) -> Result<(), StoreError> {
        self.answer().await?;
        let at_last = self.at_last.lock().unwrap().take();
        at_last.into_iter().for_each(|member| self.put(member));
        let mut members = self.members.lock().unwrap();
        if members.get(&id).is_some_and(|member| member.beat == beat) {
            members.remove(&id);
        }
        Ok(())
    }
    async fn holds(&self, _: Shard, places: &[Head]) -> Result<Vec<bool>, StoreError> {
        self.answer().await?;
        Ok(places.iter().map(|place| *place == head(place.seq)).collect())
    }
    async fn roll(&self) -> Result<Vec<Member>, StoreError> {
        let reading = 1 + self.reading.fetch_add(1, Ordering::SeqCst);
        self.most_reading.fetch_max(reading, Ordering::SeqCst);
        let members = self.members.lock().unwrap().values().cloned().collect();
        let answer = self.answer().await;
        self.reading.fetch_sub(1, Ordering::SeqCst);
        self.readings.fetch_add(1, Ordering::SeqCst);
        answer.map(|()| members)
    }
    async fn confirm_durable(&self, _: Shard, _: Duration) -> Durability {
        self.durability.lock().unwrap().clone().unwrap_or(Durability::Durable)
    }
    async fn find(&self, _: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        unreachable!()
    }
    async fn get(&self, _: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        unreachable!()
    }
    async fn list(&self, _: &ListQuery) -> Result<Page, StoreError> {
        unreachable!()
    }
    async fn create_from(&self, _: &KeyRecord, _: &store::Origin) -> Result<Creation, StoreError> {
        unreachable!()
    }
    async fn recall(&self, _: Shard, _: &[u8; 32]) -> Result<Option<store::Earlier>, StoreError> {
        unreachable!()
    }
    async fn edit(&self, _: &KeyRecord, _: &store::Editable) -> Result<Option<store::Edit>, StoreError> {
        unreachable!()
    }
    async fn changes(&self, _: &KeyId) -> Result<Vec<store::Change>, StoreError> {
        unreachable!()
    }
    async fn counts(
        &self,
        _: &KeyId,
        _: store::Period,
        _: usize,
        _: Timestamp,
    ) -> Result<Vec<store::PeriodCount>, StoreError> {
        unreachable!()
    }
    async fn revoke(&self, _: &KeyId) -> Result<Option<Revocation>, StoreError> {
        unreachable!()
    }
    async fn assert_revoked(&self, _: &KeyHash) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn rotate_once(
        &self,
        _: &KeyId,
        _: &KeyRecord,
        _: Timestamp,
        _: Option<&store::Once>,
    ) -> Result<Option<Rotation>, StoreError> {
        unreachable!()
    }
    async fn record_uses(&self, _: &UsageBatch) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn fleet(&self) -> Result<FleetSettings, StoreError> {
        unreachable!()
    }
    async fn accept_unchecked_keys(&self, _: bool) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn canary(&self, _: Shard, _: Duration) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn inspect(&self) -> Result<StoreReport, StoreError> {
        unreachable!()
    }
    async fn accept(&self, _: Option<&str>) -> Result<(), StoreError> {
        unreachable!()
    }
}

impl FeedSink for Attended {
    fn attended(&self, at: Tick) {
        self.0.lock().unwrap().push(at);
    }
    fn apply(&self, _: &Event) {}
    fn gap(&self, _: Shard, _: Gap) {}
    fn current(&self, _: Shard, _: Tick) {}
    fn fleet_time(&self, _: Timestamp, _: Tick, _: Tick) {}
    fn lag(&self, _: u64) {}
    fn connected(&self, _: bool) {}
    fn revoked_in(&self, _: Shard) -> Vec<KeyHash> {
        Vec::new()
    }
    fn hash_of(&self, _: &KeyId) -> Option<KeyHash> {
        None
    }
}
