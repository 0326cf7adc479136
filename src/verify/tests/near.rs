//! What holds of the verifier holds behind a worker's own hold too.

use super::*;
use crate::verify::memory::Cache;

#[tokio::test]
async fn a_key_in_use_is_refreshed_once_at_half_its_time_and_not_each_second() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    for _ in 0..200 {
        world.pass(Duration::from_secs(1));
        assert_eq!(world.decide_and_settle(&world.key(1)).await, Ok(()));
    }
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_revoked_key_is_dead_also_where_a_worker_holds_it() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    world.revoke(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyRevoked));
}

#[tokio::test]
async fn a_changed_record_is_seen_at_once_where_a_worker_holds_the_old_one() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    let past = Some(Timestamp::from_millis(1));
    world.store.records.lock().unwrap().get_mut(&world.key(1).hash()).unwrap().expires_at = past;
    world.tell(EventKind::Changed, &world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyExpired));
    assert_eq!(world.decide(&world.key(1)).await, Err(Denial::KeyExpired));
}

#[tokio::test]
async fn what_a_worker_holds_is_looked_up_again_each_second() {
    let world = World::new(OPEN, false).await;
    world.put(&world.key(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    // It may be used, so who has hold of it goes on for a moment after the cache has lost it.
    world.verifier.memory.cache().forget(&world.key(1).hash());
    world.clock.advance(Duration::from_millis(999));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.asked(), 1);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.decide(&world.key(1)).await, Ok(()));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn keys_of_one_place_put_each_other_out_and_are_not_taken_for_each_other() {
    let world = World::new(OPEN, false).await;
    let (first, second) = (world.key(1), world.key(2));
    world.put(&first);
    world.put(&second);
    world.store.records.lock().unwrap().get_mut(&second.hash()).unwrap().team = "umbrella".into();
    let near = NearCache::with_places(1);
    for (key, team) in [(&first, "acme"), (&second, "umbrella"), (&first, "acme"), (&second, "umbrella")] {
        let verified = world.verifier.verify_by(&world.loader, key, &near, world.clock.now()).await.unwrap();
        assert_eq!(verified.entry.record.team.as_ref(), team);
    }
    world.revoke(&first);
    let facts = Facts { serves_live: true, serves_sandbox: true };
    let verdicts =
        [&first, &second].map(|key| world.verifier.verify_by(&world.loader, key, &near, world.clock.now()));
    let [first, second] = verdicts;
    assert_eq!(first.await.unwrap_err().denial, Denial::KeyRevoked);
    assert!(permit(second.await.unwrap(), &facts).is_ok());
    assert_eq!(world.asked(), 2);
}
