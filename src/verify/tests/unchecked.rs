//! Keys without a check, which may be guesses.

use super::*;

#[tokio::test]
async fn a_key_without_a_check_never_reaches_the_store_while_the_switch_is_off() {
    let world = World::new(OPEN, false).await;
    world.put(&world.unchecked_key(1));
    assert_eq!(world.decide(&world.unchecked_key(1)).await, Err(Denial::KeyUnknown));
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn keys_without_a_check_have_a_budget_that_does_not_starve_the_others() {
    let world = World::new(OPEN, true).await;
    for n in 1..=3 {
        assert_eq!(world.decide(&world.unchecked_key(n)).await, Err(Denial::KeyUnknown));
    }
    assert_eq!(world.decide(&world.unchecked_key(4)).await, Err(Denial::Overloaded));
    world.put(&world.key(5));
    assert_eq!(world.decide(&world.key(5)).await, Ok(()));
    world.clock.advance(Duration::from_secs(1));
    world.put(&world.unchecked_key(6));
    assert_eq!(world.decide(&world.unchecked_key(6)).await, Ok(()));
}

#[tokio::test]
async fn the_first_imported_key_opens_at_once_and_a_flood_asks_once() {
    let world = World::new(OPEN, false).await;
    assert_eq!(world.decide(&world.unchecked_key(1)).await, Err(Denial::KeyUnknown));
    assert_eq!(world.store.asked_for_fleet.load(Ordering::SeqCst), 1);
    world.store.accept_unchecked.store(true, Ordering::SeqCst);
    world.put(&world.unchecked_key(1));
    world.verifier.apply(&Event::of_fleet(world.clock.now().wall));
    world.tell(EventKind::Created, &world.unchecked_key(1));
    for _ in 0..3 {
        assert_eq!(world.decide(&world.unchecked_key(1)).await, Ok(()));
    }
    assert_eq!(world.store.asked_for_fleet.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn whether_keys_without_a_check_may_ask_is_not_known_for_long() {
    let world = World::new(OPEN, false).await;
    world.store.failing.store(true, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(3));
    assert_eq!(world.decide(&world.unchecked_key(1)).await, Err(Denial::KeyUnknown));
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..10 {
        assert_eq!(world.decide(&world.unchecked_key(1)).await, Err(Denial::VerificationUnavailable));
    }
    assert_eq!(world.store.asked_for_fleet.load(Ordering::SeqCst), 2, "a flood does not queue for it");
    world.store.failing.store(false, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.decide(&world.unchecked_key(1)).await, Err(Denial::KeyUnknown));
}

#[tokio::test]
async fn a_gap_puts_the_fleets_switch_in_doubt() {
    let world = World::new(OPEN, false).await;
    world.verifier.gap(Shard::all().next().unwrap(), Gap::Trimmed);
    world.store.failing.store(true, Ordering::SeqCst);
    assert_eq!(world.decide(&world.unchecked_key(1)).await, Err(Denial::VerificationUnavailable));
}

#[tokio::test]
async fn however_many_wait_for_one_imported_key_its_budget_is_spent_once() {
    let world = Arc::new(World::new(0, true).await);
    world.put(&world.unchecked_key(1));
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.decide(&world.unchecked_key(1)).await })
        })
        .collect();
    world.store.asked_once.notified().await;
    tokio::task::yield_now().await;
    world.store.gate.add_permits(OPEN);
    for request in waiting {
        assert_eq!(request.await.unwrap(), Ok(()));
    }
    assert_eq!(world.asked(), 1);
    // Stale, it is still known to have been there.
    world.verifier.gap(Shard::of(&world.unchecked_key(1).hash()), Gap::Trimmed);
    for n in 2..=3 {
        assert_eq!(world.decide(&world.unchecked_key(n)).await, Err(Denial::KeyUnknown));
    }
    assert_eq!(world.decide(&world.unchecked_key(4)).await, Err(Denial::Overloaded));
    assert_eq!(world.decide(&world.unchecked_key(1)).await, Ok(()));
}

#[tokio::test]
async fn an_imported_key_in_use_does_not_spend_the_budget() {
    let world = World::new(OPEN, true).await;
    world.put(&world.unchecked_key(1));
    for _ in 0..10 {
        assert_eq!(world.decide(&world.unchecked_key(1)).await, Ok(()));
    }
    assert_eq!(world.asked(), 1);
}
