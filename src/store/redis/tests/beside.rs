//! Connections beside the first one.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

struct Both {
    fleet: Fleet,
    beside: Link,
}

impl Both {
    async fn up() -> Both {
        let fleet = Fleet::on(RedisServer::start()).await;
        let beside = fleet.store.link.start_beside();
        let both = Both { fleet, beside };
        both.until_apart().await;
        both
    }

    /// Waits until there are two connections.
    async fn until_apart(&self) {
        let first = &self.fleet.store.link;
        eventually("there is a connection beside the first", async || {
            matches!((first.line(), self.beside.line()), (Ok(first), Ok(own)) if !Arc::ptr_eq(&first, &own))
        })
        .await;
    }

    /// Has the server close the connection of `line`.
    async fn kill(&self, line: &Line) {
        let id: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut line.connection()).await.unwrap();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        assert_eq!(kill.query_async::<u64>(&mut self.fleet.connection().await).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_worker_finds_what_the_store_holds_by_its_own_way() {
    let fleet = Fleet::on(RedisServer::start()).await;
    let nearby = fleet.store.nearby().unwrap();
    fleet.store.create(&record(1)).await.unwrap();
    // Before its connection stands, and after.
    assert_eq!(nearby.find(&record(1).hash).await.unwrap(), Some(record(1)));
    let connections = async || {
        let list: String =
            redis::cmd("CLIENT").arg("LIST").query_async(&mut fleet.connection().await).await.unwrap();
        list.lines().filter(|line| line.contains("cmd=hget")).count()
    };
    eventually("its look-ups have a connection of their own", async || {
        assert_eq!(nearby.find(&record(1).hash).await.unwrap(), Some(record(1)));
        assert_eq!(nearby.find(&record(2).hash).await.unwrap(), None);
        connections().await == 1
    })
    .await;
}

#[tokio::test]
async fn what_stood_beside_a_connection_that_was_replaced_is_not_used_again() {
    let both = Both::up().await;
    let first = both.fleet.store.link.line().unwrap();
    let own = both.beside.line().unwrap();
    assert!(own.is_beside(&first));
    both.kill(&first).await;
    eventually("the first one is replaced", async || {
        both.fleet.store.link.line().is_ok_and(|now| !Arc::ptr_eq(&now, &first))
    })
    .await;
    assert!(!own.is_beside(&both.fleet.store.link.line().unwrap()), "it may lead to an older store");
    both.until_apart().await;
    assert!(!Arc::ptr_eq(&both.beside.line().unwrap(), &own));
}

#[tokio::test]
async fn without_the_first_connection_there_is_none_beside_it() {
    let both = Both::up().await;
    both.fleet.store.link.lose();
    assert!(both.beside.line().is_err(), "nobody could prove what it reads");
}

#[tokio::test]
async fn while_a_workers_connection_is_replaced_the_first_one_serves() {
    let both = Both::up().await;
    let own = both.beside.line().unwrap();
    both.kill(&own).await;
    eventually("it is replaced", async || {
        let now = both.beside.line().expect("there is always one");
        !Arc::ptr_eq(&now, &own)
    })
    .await;
    both.until_apart().await;
}

/// An address that leads the first who connects to one server and all others to another.
async fn crossroads(first: &RedisServer, others: &RedisServer) -> (String, Arc<AtomicUsize>) {
    let (first, others) = (address(first), address(others));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = if count.fetch_add(1, Ordering::SeqCst) == 0 { &first } else { &others };
            let mut server = tokio::net::TcpStream::connect((to.0.as_str(), to.1)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (url, passed)
}

#[tokio::test]
async fn a_connection_to_another_server_is_not_used_whatever_that_holds() {
    let (primary, copy) = (RedisServer::start(), RedisServer::start());
    let (url, passed) = crossroads(&primary, &copy).await;
    let store = connected(settings(url)).await;
    // It has the fleet's identity, and is a primary: only it is not the one whose log is followed.
    let (host, port) = address(&primary);
    let mut replicate = connect(&copy).await;
    redis::cmd("REPLICAOF").arg(host).arg(port).exec_async(&mut replicate).await.unwrap();
    eventually("the copy is whole", async || {
        redis::cmd("EXISTS").arg(layout::FLEET_KEY).query_async(&mut replicate.clone()).await.unwrap()
    })
    .await;
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut replicate).await.unwrap();
    store.create(&record(1)).await.unwrap();

    let nearby = store.nearby().unwrap();
    eventually("it is tried, more than once", async || {
        assert_eq!(nearby.find(&record(1).hash).await.unwrap(), Some(record(1)));
        passed.load(Ordering::SeqCst) > 3
    })
    .await;
    assert!(store.find(&record(1).hash).await.is_ok(), "nor is the store itself taken for another");
}

fn address(server: &RedisServer) -> (String, u16) {
    let url = server.url();
    let (host, port) = url.trim_start_matches("redis://").trim_end_matches('/').rsplit_once(':').unwrap();
    (host.to_owned(), port.parse().unwrap())
}
