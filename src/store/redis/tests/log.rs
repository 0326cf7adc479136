//! The log of a shard is a chain, whoever writes to it.

use super::*;
use crate::model::{Head, Nonce};
use crate::store::Rotation;

/// Asserts that each log is a chain from its beginning to its head; how many entries there are in all.
async fn assert_chained(store: &RedisStore, beginnings: &[Head; SHARDS]) -> usize {
    let heads = store.heads().await.unwrap().heads;
    let mut entries_in_all = 0;
    for shard in Shard::all() {
        let mut place = beginnings[shard.index()];
        assert_eq!(place.seq, 0);
        for entry in store.entries_after(shard, 0, 1_000_000).await.unwrap() {
            assert!(entry.follows(&place), "{entry:?} behind {place}");
            assert_eq!(entry.event.shard(), shard);
            place = entry.head;
            entries_in_all += 1;
        }
        assert_eq!(place, heads[shard.index()]);
    }
    entries_in_all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_log_is_a_chain_after_many_that_wrote_at_once() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let beginnings = fleet.store.heads().await.unwrap().heads;
    let names: std::collections::HashSet<Nonce> = beginnings.iter().map(|head| head.nonce).collect();
    assert_eq!(names.len(), SHARDS, "each log has a name of its own");
    let second = Arc::new(connected(settings(fleet.server.url())).await);
    let stores = [Arc::clone(&fleet.store), second];
    let writers: Vec<_> = (0..64)
        .map(|number: u32| {
            let store = Arc::clone(&stores[number as usize % 2]);
            tokio::spawn(async move {
                let key = record(number);
                store.create(&key).await.unwrap();
                let new = successor(&key, 100 + number as u8);
                let rotation = store.rotate(&key.id, &new, key.created_at).await;
                let Some(Rotation::Rotated { told, .. }) = rotation.unwrap() else { panic!("not rotated") };
                let revocation = store.revoke(&key.id).await.unwrap().unwrap();
                store.assert_revoked(&new.hash).await.unwrap();
                (key, told, revocation.told)
            })
        })
        .collect();
    for writer in writers {
        let (key, rotated, revoked) = writer.await.unwrap();
        for (told, kind) in [(rotated, EventKind::Changed), (revoked, EventKind::Revoked)] {
            let Told::Logged(head) = told else { panic!("{told:?}") };
            let entries = fleet.store.entries_after(key.id.shard(), head.seq - 1, 1).await.unwrap();
            assert_eq!(
                (entries[0].head, entries[0].event.kind, entries[0].event.hash),
                (head, kind, key.hash)
            );
        }
    }
    assert_eq!(assert_chained(&fleet.store, &beginnings).await, 64 * 5);
}

#[tokio::test]
async fn the_log_is_read_in_pages() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let key = record(1);
    let shard = key.id.shard();
    fleet.store.create(&key).await.unwrap();
    for _ in 0..9 {
        fleet.store.revoke(&key.id).await.unwrap();
    }
    let all = fleet.store.entries_after(shard, 0, 100).await.unwrap();
    let (mut paged, mut after) = (Vec::new(), 0);
    loop {
        let page = fleet.store.entries_after(shard, after, 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        assert!(last.head.seq > after, "it moves on");
        after = last.head.seq;
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(all.iter().map(|entry| entry.head.seq).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(fleet.store.entries_after(shard, u64::MAX - 1, 9).await.unwrap(), []);
    let other = Shard::all().find(|other| *other != shard).unwrap();
    assert_eq!(fleet.store.entries_after(other, 0, 9).await.unwrap(), []);
}

#[tokio::test]
async fn something_else_in_a_log_is_unreadable() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let shard = record(1).id.shard();
    let mut append = redis::cmd("XADD");
    append.arg(layout::log_key(shard)).arg("1-0").arg("event").arg("{}");
    append.exec_async(&mut fleet.connection().await).await.unwrap();
    assert!(matches!(fleet.store.entries_after(shard, 0, 9).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn what_the_log_cannot_take_does_not_happen() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let (key, new) = (record(1), successor(&record(1), 7));
    fleet.store.create(&key).await.unwrap();
    let before = fleet.store.heads().await.unwrap().heads;
    // The log is ahead of its head, as after a half-hearted restoration.
    let mut append = redis::cmd("XADD");
    append.arg(layout::log_key(key.id.shard())).arg("99-0").arg("event").arg("{}");
    append.exec_async(&mut fleet.connection().await).await.unwrap();
    assert!(fleet.store.create(&new).await.is_err());
    assert!(fleet.store.rotate(&key.id, &new, key.created_at).await.is_err());
    assert!(fleet.store.revoke(&key.id).await.is_err());
    assert!(fleet.store.assert_revoked(&key.hash).await.is_err());
    assert!(fleet.store.canary(key.id.shard(), Duration::from_secs(60)).await.is_err());
    assert_eq!(fleet.store.find(&key.hash).await.unwrap(), Some(key));
    assert_eq!(fleet.store.find(&new.hash).await.unwrap(), None);
    assert_eq!(fleet.store.heads().await.unwrap().heads, before);
}

#[tokio::test]
async fn two_gateways_tell_one_canary_in_an_interval() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let second = connected(settings(fleet.server.url())).await;
    let shard = record(1).id.shard();
    let hour = Duration::from_secs(3_600);
    for _ in 0..5 {
        let (one, other) = tokio::join!(fleet.store.canary(shard, hour), second.canary(shard, hour));
        one.and(other).unwrap();
    }
    assert_eq!(fleet.store.entries_after(shard, 0, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_heads_come_with_the_stores_time() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let before = fleet.now().await;
    let time = fleet.store.heads().await.unwrap().time;
    assert!(before <= time && time <= fleet.now().await);
}

/// Passes everything on to a server, and notes what the clients sent, piece by piece.
async fn listen_in(server: &RedisServer) -> (String, Arc<std::sync::Mutex<Vec<Vec<u8>>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let upstream = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let sent: Arc<std::sync::Mutex<Vec<Vec<u8>>>> = Arc::default();
    let notes = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let notes = Arc::clone(&notes);
            tokio::spawn(async move {
                let mut piece = vec![0; 65_536];
                while let Ok(length @ 1..) = from_client.read(&mut piece).await {
                    notes.lock().unwrap().push(piece[..length].to_vec());
                    if to_server.write_all(&piece[..length]).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    (url, sent)
}

#[tokio::test]
async fn a_look_up_is_one_round_trip_and_sees_whose_store_it_is() {
    let server = RedisServer::start();
    let (url, sent) = listen_in(&server).await;
    let store = connected(settings(url)).await;
    store.create(&record(1)).await.unwrap();
    for number in [1, 2] {
        let key = record(number);
        sent.lock().unwrap().clear();
        store.find(&key.hash).await.unwrap();
        let pieces: Vec<_> =
            sent.lock().unwrap().iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        let pieces: Vec<_> = pieces.iter().filter(|piece| !piece.contains("PING")).collect();
        assert_eq!(pieces.len(), 1, "{pieces:?}");
        let order = [layout::record_key(&key.hash), layout::head_key(key.id.shard())];
        let places: Vec<_> = order.iter().map(|word| pieces[0].find(word)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{pieces:?}");
    }
}
