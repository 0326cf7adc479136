//! The receipt of a revocation: who refuses the key now, who has not said so, and when it holds everywhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};

use crate::clock::Tick;
use crate::model::{GatewayId, Head, Member, Shard, Timestamp};
use crate::store::{Durability, Told};

use super::{Roll, within_deadline};

/// Between two looks at the roll: at first, and doubling up to the longest.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Nobody may trust what it cannot prove for longer. For gateways that are not known.
const LONGEST_STALENESS: Duration = Duration::from_secs(300);
/// `revoked_at` is cut off to whole milliseconds, and a proof may have been asked for within that one.
const ROUNDING: Duration = Duration::from_millis(1);
/// What a store that has to confirm something may take beyond the time that it was given.
const CONFIRM_MARGIN: Duration = Duration::from_secs(1);

/// How far a revocation has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// How many gateways are known to refuse the key, this one included.
    pub acknowledged: usize,
    /// How many gateways the fleet has.
    pub gateways: usize,
    /// From the beginning of the revocation to this receipt.
    pub elapsed: Duration,
    /// Who did not answer in time, by name.
    pub unacknowledged: Vec<Member>,
    /// Whether the roll could be read. If not, there may be gateways that are not counted here.
    pub roll_read: bool,
    /// From when on it holds everywhere, also on gateways that were not heard from.
    pub effective_by: Timestamp,
    /// Whether it outlasts a crash of the store.
    pub durable: Durability,
}

/// Where receipts wait together: one of them reads the roll for all.
#[derive(Default)]
pub(super) struct Desk {
    /// Readings that were begun. One with a higher number than there were when a receipt began, began after it.
    begun: AtomicU64,
    /// Who holds this reads next, after the pause in it.
    reader: Mutex<Duration>,
    readings: watch::Sender<Reading>,
    /// Somebody new waits: no pause.
    hurry: Notify,
}

#[derive(Clone, Default)]
struct Reading {
    number: u64,
    roll: Arc<Vec<Member>>,
}

/// Who of the others stood on the roll when it was first read after the revocation.
struct Count {
    myself: GatewayId,
    shard: Shard,
    entry: Option<Head>,
    others: Option<Vec<Waited>>,
}

struct Waited {
    member: Member,
    heard: bool,
}

impl Roll {
    /// Waits until every gateway of the fleet has applied the revocation that was `told` in the log of `shard`, at most
    /// for the time that is set, and writes down how far it has come. To be called after the store has taken the
    /// revocation and this gateway has applied it, which counts as an acknowledgement. `began` is when the revocation
    /// began, and `revoked_at` its moment by the store.
    pub async fn receipt(&self, told: Told, shard: Shard, revoked_at: Timestamp, began: Tick) -> Receipt {
        // No earlier than the store's write, whatever its clock says and however often the key was revoked before.
        let written_by = revoked_at.max(self.clock.now().wall);
        let mut count = Count::of(self.myself.id, shard, told);
        let ((), durable) = tokio::join!(self.wait_for_all(&mut count), self.durability(shard));
        let durable = self.still_there(durable, &count).await;
        let roll_read = count.others.is_some();
        let others = count.others.unwrap_or_else(|| self.last_known_others());
        let gateways = 1 + others.len();
        let silent = others.into_iter().filter(|waited| !waited.heard);
        let mut unacknowledged: Vec<Member> = silent.map(|waited| waited.member).collect();
        unacknowledged.sort_by(|left, right| (&left.name, left.id).cmp(&(&right.name, right.id)));
        let now = self.clock.now();
        let unknown = (!roll_read).then_some(LONGEST_STALENESS);
        let staleness = unacknowledged.iter().map(Member::max_staleness).chain(unknown).max();
        Receipt {
            acknowledged: gateways - unacknowledged.len(),
            gateways,
            elapsed: now.tick.since(began),
            unacknowledged,
            roll_read,
            effective_by: staleness
                .map_or(now.wall.max(revoked_at), |staleness| written_by.plus(staleness + ROUNDING)),
            durable,
        }
    }

    async fn wait_for_all(&self, count: &mut Count) {
        let earlier = self.desk.begun.load(Ordering::SeqCst);
        let mut readings = self.desk.readings.subscribe();
        self.desk.hurry.notify_one();
        let wait = async {
            while !count.is_complete() {
                tokio::select! {
                    // The sender is this gateway's own and does not go.
                    Ok(()) = readings.changed() => {}
                    pause = self.desk.reader.lock() => self.read_for_all(pause).await,
                }
                let reading = readings.borrow_and_update().clone();
                if reading.number > earlier {
                    count.look_at(&reading.roll);
                    self.hear_those_beyond(count).await;
                }
            }
        };
        // Whoever is not heard from by then is named.
        let _in_time = tokio::time::timeout(self.receipt_timeout, wait).await.is_ok();
    }

    /// Who stands beyond the entry has applied it, if the place is in the same log: one that was followed before the store
    /// was restored may have higher numbers.
    async fn hear_those_beyond(&self, count: &mut Count) {
        let mut places = count.places_beyond();
        let Some(entry) = count.entry.filter(|_| !places.is_empty()) else { return };
        places.push(entry);
        match within_deadline(self.store.holds(count.shard, &places)).await {
            // A log that has lost the entry says nothing of who has applied it.
            Ok(held) if held.last() == Some(&true) => {
                let held = places.into_iter().zip(held).filter(|(_, held)| *held).map(|(place, _)| place);
                count.hear_at(&held.collect::<Vec<_>>());
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the log cannot be read: the next look will tell"),
        }
    }

    /// Reads the roll once, and shows it to everybody who waits.
    async fn read_for_all(&self, mut pause: tokio::sync::MutexGuard<'_, Duration>) {
        tokio::select! {
            biased;
            () = self.desk.hurry.notified() => *pause = Duration::ZERO,
            () = tokio::time::sleep(*pause) => {}
        }
        let number = 1 + self.desk.begun.fetch_add(1, Ordering::SeqCst);
        *pause = match self.read().await {
            Ok(roll) => {
                self.desk.readings.send_replace(Reading { number, roll: Arc::new(roll) });
                (*pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
            }
            Err(error) => {
                tracing::warn!(%error, "the roll cannot be read: it is not known who has applied a revocation");
                LONGEST_PAUSE
            }
        };
    }

    /// What is confirmed must not have been lost before it was: a store that crashed in between confirms something else.
    async fn still_there(&self, durable: Durability, count: &Count) -> Durability {
        let (Durability::Durable, Some(entry)) = (&durable, count.entry) else { return durable };
        match within_deadline(self.store.holds(count.shard, &[entry])).await {
            Ok(held) if held == [true] => durable,
            Ok(_) => Durability::NotConfirmed(Cow::Borrowed("the store has lost it: revoke the key again")),
            Err(_) => Durability::NotConfirmed(Cow::Borrowed("the store stopped answering")),
        }
    }

    async fn durability(&self, shard: Shard) -> Durability {
        let within = self.receipt_timeout;
        let asked = self.store.confirm_durable(shard, within);
        let answer = tokio::time::timeout(within + CONFIRM_MARGIN, asked).await;
        answer.unwrap_or(Durability::NotConfirmed(Cow::Borrowed("the store did not say so in time")))
    }

    /// Without the roll: whoever stood on it when it was last read, all of them unheard.
    fn last_known_others(&self) -> Vec<Waited> {
        let seen = self.seen();
        let others = seen.values().filter(|seen| seen.member.id != self.myself.id && !seen.member.gone);
        others.map(|seen| Waited { member: seen.member.clone(), heard: false }).collect()
    }
}

impl Count {
    fn of(myself: GatewayId, shard: Shard, told: Told) -> Count {
        match told {
            Told::Logged(entry) => Count { myself, shard, entry: Some(entry), others: None },
            // Nobody has to be waited for.
            Told::Everybody => Count { myself, shard, entry: None, others: Some(Vec::new()) },
        }
    }

    fn is_complete(&self) -> bool {
        self.others.as_ref().is_some_and(|others| others.iter().all(|waited| waited.heard))
    }

    /// Who joined after the first look has loaded nothing from before the revocation, and is not waited for. Who has
    /// gone without an answer stays unheard: a roll that was lost with a store looks the same.
    fn look_at(&mut self, roll: &[Member]) {
        let others = self.others.get_or_insert_with(|| {
            let others = roll.iter().filter(|member| member.id != self.myself);
            others.map(|member| Waited { member: member.clone(), heard: false }).collect()
        });
        for waited in others.iter_mut().filter(|waited| !waited.heard) {
            if let Some(member) = roll.iter().find(|member| member.id == waited.member.id) {
                waited.member = member.clone();
                waited.heard = self.entry.is_none_or(|entry| waited.position(self.shard) == Some(entry));
            }
        }
    }

    /// Where those stand who are not heard yet and have a higher number than the entry.
    fn places_beyond(&self) -> Vec<Head> {
        let Some((entry, others)) = self.entry.zip(self.others.as_ref()) else { return Vec::new() };
        let unheard = others.iter().filter(|waited| !waited.heard);
        unheard
            .filter_map(|waited| waited.position(self.shard))
            .filter(|place| place.seq > entry.seq)
            .collect()
    }

    /// Whoever stands at one of these places has applied the entry.
    fn hear_at(&mut self, places: &[Head]) {
        for waited in self.others.iter_mut().flatten() {
            waited.heard |= waited.position(self.shard).is_some_and(|position| places.contains(&position));
        }
    }
}

impl Waited {
    fn position(&self, shard: Shard) -> Option<Head> {
        self.member.positions.get(shard.index()).copied()
    }
}
