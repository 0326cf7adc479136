//! What every store promises of lists: filters, orders, searches and pages.

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::store::{Mark, Sort, SortBy, SortOrder, fold};

const NOW: Timestamp = Timestamp::from_millis(1_764_000_500_000);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn days(days: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + days * DAY_MS)
}

/// 96 keys of all ages, ends, uses and fates.
async fn all_sorts(store: &dyn KeyStore) -> Vec<StoredKey> {
    let labels =
        ["Zürich", "zebra", "Ärger", "Production Server", "production worker", "ωMEGA", "Key 1", "_"];
    for number in 0..96u32 {
        let age = [0, 1, 89, 90, 91, 400][number as usize % 6];
        let end = [None, Some(-1), Some(0), Some(7), Some(8)][number as usize % 5];
        let key = KeyRecord {
            label: format!("{} {}", labels[number as usize % 8], number / 16),
            created_at: days(-age),
            expires_at: end.map(days),
            ..record(number)
        };
        store.create(&key).await.unwrap();
        if number.is_multiple_of(7) {
            store
                .rotate(&key.id, &successor(&key, number as u8), days(i64::from(number % 3) * 6))
                .await
                .unwrap();
        }
        if number.is_multiple_of(11) {
            store.revoke(&key.id).await.unwrap();
        }
        if !number.is_multiple_of(3) {
            let last_used_at = Some(days(-[0, 89, 90, 91][number as usize % 4]));
            let activity = Activity { last_used_at, uses: 1, ..Activity::default() };
            let uses = vec![KeyUse { id: key.id, activity }];
            let batch = UsageBatch { id: u128::from(number), shard: key.id.shard(), uses };
            store.record_uses(&batch).await.unwrap();
        }
    }
    read_all_pages(store, &everything(1_000)).await.unwrap()
}

pub(in crate::store) async fn every_filter_and_order_is_kept(subject: Box<dyn Subject>) {
    let store = subject.store();
    let keys = all_sorts(&*store).await;
    let statuses = [KeyStatus::Active, KeyStatus::Rotating, KeyStatus::Expired, KeyStatus::Revoked];
    let states = statuses.map(KeyState::Status).into_iter().chain(Mark::ALL.map(KeyState::Mark));
    let states: Vec<_> = [None].into_iter().chain(states.map(Some)).collect();
    for team in [None, Some("acme")] {
        for &state in &states {
            for by in [SortBy::Created, SortBy::LastUsed, SortBy::Label] {
                for order in [SortOrder::Ascending, SortOrder::Descending] {
                    let query = ListQuery {
                        team: team.map(str::to_owned),
                        state: state.map(|state| (state, NOW)),
                        sort: Sort { by, order },
                        ..everything(7)
                    };
                    let listed = read_all_pages(&*store, &query).await.unwrap();
                    let expected = expected(&keys, &query);
                    assert_eq!(listed, expected, "{query:?}");
                    let counted = store.list(&ListQuery { count: true, ..query.clone() }).await.unwrap();
                    assert_eq!(counted.total, Some(expected.len() as u64), "{query:?}");
                    assert_eq!(counted.keys, expected[..expected.len().min(7)], "{query:?}");
                    // A total is of all pages, also on the last one.
                    let next = ListQuery { count: true, after: counted.next.clone(), ..query.clone() };
                    if next.after.is_some() {
                        assert_eq!(store.list(&next).await.unwrap().total, counted.total, "{query:?}");
                    }
                    assert!(team.is_some() || !expected.is_empty(), "the filter is tried: {query:?}");
                }
            }
        }
    }
}

/// What the query means, said in another way.
fn expected(keys: &[StoredKey], query: &ListQuery) -> Vec<StoredKey> {
    let is = |key: &StoredKey, state: KeyState| {
        let (record, used) = (&key.record, key.activity.last_used_at);
        let status = record.status(NOW);
        let opens = matches!(status, KeyStatus::Active | KeyStatus::Rotating);
        match state {
            KeyState::Status(wanted) => status == wanted,
            KeyState::Mark(Mark::Expiring) => opens && record.ends_at().is_some_and(|end| end <= days(7)),
            KeyState::Mark(Mark::Idle) => {
                status == KeyStatus::Active && used.max(Some(record.created_at)) <= Some(days(-90))
            }
            KeyState::Mark(Mark::NeverUsed) => opens && used.is_none(),
            KeyState::Mark(Mark::RotationDue) => {
                status == KeyStatus::Active && record.created_at <= days(-90)
            }
        }
    };
    let mut keys: Vec<_> = keys
        .iter()
        .filter(|key| query.team.as_ref().is_none_or(|team| key.record.team == *team))
        .filter(|key| query.state.is_none_or(|(state, _)| is(key, state)))
        .cloned()
        .collect();
    match query.sort.by {
        SortBy::Created => keys.sort_by_key(|key| (key.record.created_at, key.record.id)),
        SortBy::LastUsed => keys.sort_by_key(|key| (key.activity.last_used_at, key.record.id)),
        SortBy::Label => keys.sort_by_key(|key| (fold(&key.record.label), key.record.id)),
    }
    if query.sort.order == SortOrder::Descending {
        keys.reverse();
    }
    keys
}

pub(in crate::store) async fn a_search_finds_labels_ends_and_ids(subject: Box<dyn Subject>) {
    let store = subject.store();
    let labels = ["Production Server", "ΟΔΟΣ Straße", "100% _sure_", "a'b\"c\\d", "sk_"];
    for (number, label) in (0..).zip(labels) {
        let display = format!("sk_live_4f{number}c…A1b{number}");
        let key = KeyRecord { label: label.to_owned(), display, ..record(number) };
        store.create(&key).await.unwrap();
    }
    let second = record(1).id;
    for (search, found) in [
        ("production", vec![0]),
        ("ION SERV", vec![0]),
        ("  server  ", vec![0]),
        ("οδος", vec![1]),
        ("ΟΔΟ", vec![1]),
        ("STRASSE", vec![]),
        ("%", vec![2]),
        ("_s", vec![2]),
        ("'b\"C\\", vec![3]),
        ("sk_", vec![4]),
        ("sk_l", vec![0, 1, 2, 3, 4]),
        ("4F1C", vec![1]),
        ("a1B3", vec![3]),
        ("sk_live_4f2c…a1b2", vec![2]),
        (second.as_str(), vec![1]),
        (&second.as_str().to_uppercase()[..12], vec![1]),
        (&second.as_str()[4..], vec![]),
        ("nothing of the kind", vec![]),
        ("", vec![0, 1, 2, 3, 4]),
    ] {
        for count in [false, true] {
            let query = ListQuery { search: Some(search.to_owned()), count, ..everything(10) };
            let page = store.list(&query).await.unwrap();
            let ids: HashSet<_> = page.keys.iter().map(|key| key.record.id).collect();
            assert_eq!(ids, found.iter().map(|&number| record(number).id).collect(), "{search:?}");
            assert_eq!(page.total, count.then_some(found.len() as u64), "{search:?}");
        }
    }
    let elsewhere = ListQuery {
        search: Some("production".to_owned()),
        team: Some("globex".to_owned()),
        ..everything(10)
    };
    assert_eq!(store.list(&elsewhere).await.unwrap().keys, [], "no search leaves its team");
}

pub(in crate::store) async fn pages_stay_right_while_keys_are_made(subject: Box<dyn Subject>) {
    let store = subject.store();
    for number in 0..30 {
        store.create(&record(number)).await.unwrap();
    }
    let mut made = 30;
    for by in [SortBy::Created, SortBy::LastUsed, SortBy::Label] {
        for order in [SortOrder::Ascending, SortOrder::Descending] {
            let before = read_all_pages(&*store, &everything(1_000)).await.unwrap();
            let mut query = ListQuery { sort: Sort { by, order }, ..everything(4) };
            let mut seen = Vec::new();
            loop {
                let page = store.list(&query).await.unwrap();
                seen.extend(page.keys.into_iter().map(|key| key.record.id));
                store.create(&record(made)).await.unwrap();
                made += 1;
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
                if made > 400 {
                    break;
                }
            }
            let distinct: HashSet<_> = seen.iter().copied().collect();
            assert_eq!(distinct.len(), seen.len(), "none twice: {:?}", query.sort);
            assert!(before.iter().all(|key| distinct.contains(&key.record.id)), "none left out");
        }
    }
}

pub(in crate::store) async fn ten_thousand_keys_stay_quick(subject: Box<dyn Subject>) {
    use futures_util::{StreamExt, stream};
    let store = subject.store();
    let keys = (0..10_000).map(|number| KeyRecord { team: "acme".to_owned(), ..record(number) });
    let writes = stream::iter(keys).map(|key| {
        let store = Arc::clone(&store);
        async move { store.create(&key).await.unwrap() }
    });
    writes.buffer_unordered(64).for_each(async |_| {}).await;
    let clock = SystemClock::start();
    let mut slowest = (0, String::new());
    for by in [SortBy::Created, SortBy::LastUsed, SortBy::Label] {
        for search in [None, Some("server 777"), Some("nothing of the kind")] {
            for count in [false, true] {
                let query = ListQuery {
                    team: Some("acme".to_owned()),
                    search: search.map(str::to_owned),
                    sort: Sort { by, order: SortOrder::Descending },
                    count,
                    ..everything(50)
                };
                // The best of three: others use this machine too.
                let mut took = u128::MAX;
                for _ in 0..3 {
                    let began = clock.now().tick;
                    store.list(&query).await.unwrap();
                    took = took.min(clock.now().tick.since(began).as_millis());
                }
                slowest = slowest.max((took, format!("{query:?}")));
            }
        }
    }
    // Without optimisation, as tests are built, and beside other tests it takes ten times as long as in a release.
    let bound = if cfg!(debug_assertions) { 1_500 } else { 100 };
    eprintln!("the slowest list of 10,000 keys: {} ms, {}", slowest.0, slowest.1);
    assert!(slowest.0 < bound, "{} ms: {}", slowest.0, slowest.1);
}

pub(in crate::store) async fn the_list_is_newest_first_and_filtered(subject: Box<dyn Subject>) {
    let store = subject.store();
    let now = Timestamp::from_millis(1_764_000_500_000);
    let mut records: Vec<_> = (0..60).map(record).collect();
    for (record, number) in records.iter_mut().zip(0i64..) {
        // One in three has expired at `now`, one in three at that very moment, one in three lives on.
        record.expires_at = Some(Timestamp::from_millis(now.as_millis() + number % 3 - 1));
        store.create(record).await.unwrap();
    }
    // One in four was rotated; the graces end as the keys do, in another order.
    for number in (0..60).step_by(4) {
        let new = successor(&records[number], 100 + number as u8);
        let retires_at = Timestamp::from_millis(now.as_millis() + (number / 4 % 3) as i64 - 1);
        let rotation = store.rotate(&records[number].id, &new, retires_at).await.unwrap();
        let Some(Rotation::Rotated { old, .. }) = rotation else { panic!("{rotation:?}") };
        records.push(KeyRecord { replaces: Some(old.id), ..new });
        records[number] = old;
    }
    for record in records.iter_mut().step_by(5) {
        *record = store.revoke(&record.id).await.unwrap().unwrap().record;
    }
    records.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));

    let statuses = [KeyStatus::Active, KeyStatus::Rotating, KeyStatus::Expired, KeyStatus::Revoked];
    for team in [None, Some("acme"), Some("globex"), Some("nobody")] {
        for environment in [None, Some(Environment::Live), Some(Environment::Sandbox)] {
            for status in [None].into_iter().chain(statuses.map(Some)) {
                let query = ListQuery {
                    team: team.map(str::to_owned),
                    environment,
                    state: status.map(|status| (KeyState::Status(status), now)),
                    ..everything(7)
                };
                let listed = read_all_pages(&*store, &query).await.unwrap();
                let listed: Vec<_> = listed.into_iter().map(|key| key.record).collect();
                let expected: Vec<_> = records
                    .iter()
                    .filter(|record| team.is_none_or(|team| record.team == team))
                    .filter(|record| environment.is_none_or(|wanted| record.environment == wanted))
                    .filter(|record| status.is_none_or(|wanted| record.status(now) == wanted))
                    .cloned()
                    .collect();
                assert_eq!(listed, expected, "{query:?}");
            }
        }
    }
}

pub(in crate::store) async fn pages_lose_and_double_nothing(subject: Box<dyn Subject>) {
    let store = subject.store();
    let mut expected: Vec<_> = (0..200).map(record).collect();
    for (record, number) in expected.iter_mut().zip(0..) {
        // An import: many keys of one moment.
        if (50..150).contains(&number) {
            record.created_at = Timestamp::from_millis(1_764_000_000_010);
        }
        store.create(record).await.unwrap();
    }
    expected.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
    for limit in [1, 2, 7, 50, 199, 200, 201, 1_000] {
        let listed = read_all_pages(&*store, &everything(limit)).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|key| key.record.id).collect();
        assert_eq!(listed, expected.iter().map(|record| record.id).collect::<Vec<_>>(), "limit {limit}");
    }

    let one_team = ListQuery { team: Some("acme".to_owned()), ..everything(9) };
    let listed = read_all_pages(&*store, &one_team).await.unwrap();
    assert_eq!(listed.len(), expected.iter().filter(|record| record.team == "acme").count());

    let from_nowhere = Cursor { place: Place::Created(Timestamp::from_millis(0)), id: record(0).id };
    let beyond = ListQuery { after: Some(from_nowhere), ..everything(10) };
    assert_eq!(store.list(&beyond).await.unwrap(), Page::default());
}

pub(in crate::store) async fn a_page_that_ends_exactly_is_the_last(subject: Box<dyn Subject>) {
    let store = subject.store();
    for number in 0..4 {
        store.create(&record(number)).await.unwrap();
    }
    let first = store.list(&everything(2)).await.unwrap();
    let second = store.list(&ListQuery { after: first.next, ..everything(2) }).await.unwrap();
    assert_eq!((first.keys.len(), second.keys.len(), second.next), (2, 2, None));
}
