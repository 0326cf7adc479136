//! What every store of people promises: one suite, run against each of them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{Role, SecretToken};

/// One test for each promise, on the store that `$start` makes: an `async fn() -> (Arc<dyn PeopleStore>, impl Sized)`;
/// the second lives as long as the test.
macro_rules! people_suite {
    ($start:path) => {
        $crate::store::people::contract::people_suite! { $start;
            a_user_comes_back_as_it_was
            an_account_is_there_once
            of_many_changes_of_one_revision_one_wins
            the_last_fleet_admin_stays
            a_session_is_there_until_it_ends
            a_new_epoch_ends_sessions_and_links
            a_removed_user_leaves_nothing
            a_link_is_taken_once
            what_has_ended_is_forgotten
        }
    };
    ($start:path; $($promise:ident)*) => {
        mod people {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let (store, _guard) = $start().await;
                    $crate::store::people::contract::$promise(store).await;
                }
            )*
        }
    };
}
pub(crate) use people_suite;

type Store = Arc<dyn PeopleStore>;

/// Later than any time at which this runs: no store forgets what lasts until then.
fn now() -> Timestamp {
    Timestamp::from_millis(
        std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
    )
}

fn user(number: u8, role: Role, team: Option<&str>) -> StoredUser {
    StoredUser {
        user: User {
            id: UserId::new([number; 10]),
            account: format!("user{number}@example.com").parse().unwrap(),
            display_name: format!("Üser \"{number}\"\n<b>"),
            role,
            team: team.map(|team| team.parse().unwrap()),
            disabled: false,
            created_at: Timestamp::from_millis(1_764_000_000_123),
        },
        password: (number % 2 == 1)
            .then(|| PasswordHash::new(format!("$argon2id$v=19$m=1,t=1,p=1$c2FsdA${number}"))),
        epoch: 3,
        revision: 7,
    }
}

fn next(stored: &StoredUser) -> StoredUser {
    StoredUser { revision: stored.revision + 1, ..stored.clone() }
}

fn session(of: &StoredUser) -> Session {
    let hash = SecretToken::random().unwrap().hash();
    Session { hash, user: of.user.id, epoch: of.epoch, created_at: now(), seen_at: now() }
}

fn link(of: &StoredUser, purpose: Purpose) -> Link {
    let hash = SecretToken::random().unwrap().hash();
    Link {
        hash,
        user: of.user.id,
        epoch: of.epoch,
        purpose,
        expires_at: now().plus(Duration::from_secs(600)),
    }
}

async fn open(store: &Store, of: &StoredUser) -> TokenHash {
    let session = session(of);
    store.open_session(&session, now().plus(Duration::from_secs(600))).await.unwrap();
    session.hash
}

pub(crate) async fn a_user_comes_back_as_it_was(store: Store) {
    let users =
        [user(1, Role::Admin, None), user(2, Role::Viewer, Some("acme")), user(3, Role::Admin, Some("a.b"))];
    for user in users.iter().rev() {
        assert!(store.add_user(user).await.unwrap());
    }
    for user in &users {
        assert_eq!(store.user(&user.user.id).await.unwrap().as_ref(), Some(user));
        assert_eq!(store.user_of(&user.user.account).await.unwrap().as_ref(), Some(user));
    }
    assert_eq!(store.users().await.unwrap(), users);
    let changed = StoredUser {
        user: User {
            disabled: true,
            role: Role::Editor,
            team: Some("globex".parse().unwrap()),
            ..users[0].user.clone()
        },
        password: None,
        ..next(&users[0])
    };
    assert_eq!(store.replace_user(&changed, false).await.unwrap(), Replacement::Done);
    assert_eq!(store.user(&changed.user.id).await.unwrap(), Some(changed));
    assert_eq!(store.user(&UserId::new([9; 10])).await.unwrap(), None);
    assert_eq!(store.user_of(&"nobody".parse().unwrap()).await.unwrap(), None);
}

pub(crate) async fn an_account_is_there_once(store: Store) {
    let first = user(1, Role::Admin, None);
    let second =
        StoredUser { user: User { id: UserId::new([2; 10]), ..first.user.clone() }, ..first.clone() };
    let adding = [first, second].map(|user| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.add_user(&user).await.unwrap() })
    });
    let mut added = 0;
    for task in adding {
        added += usize::from(task.await.unwrap());
    }
    assert_eq!(added, 1);
    assert_eq!(store.users().await.unwrap().len(), 1);
}

pub(crate) async fn of_many_changes_of_one_revision_one_wins(store: Store) {
    let before = user(1, Role::Admin, None);
    assert_eq!(store.replace_user(&next(&before), false).await.unwrap(), Replacement::Unknown);
    store.add_user(&before).await.unwrap();
    let changing: Vec<_> = (0..8)
        .map(|number| {
            let (store, mut after) = (Arc::clone(&store), next(&before));
            after.user.display_name = format!("name {number}");
            tokio::spawn(async move { store.replace_user(&after, false).await.unwrap() })
        })
        .collect();
    let mut won = 0;
    for task in changing {
        match task.await.unwrap() {
            Replacement::Done => won += 1,
            other => assert_eq!(other, Replacement::Outdated),
        }
    }
    assert_eq!(won, 1);
}

pub(crate) async fn the_last_fleet_admin_stays(store: Store) {
    let admins = [user(1, Role::Admin, None), user(2, Role::Admin, None)];
    let of_team = user(3, Role::Admin, Some("acme"));
    let viewer = user(4, Role::Viewer, Some("acme"));
    for user in admins.iter().chain([&of_team, &viewer]) {
        store.add_user(user).await.unwrap();
    }
    assert_eq!(store.remove_user(&viewer.user.id, true).await.unwrap(), Replacement::Done);
    // Both at once: one of them stays.
    let removing = admins.clone().map(|user| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.remove_user(&user.user.id, true).await.unwrap() })
    });
    let mut outcomes = Vec::new();
    for task in removing {
        outcomes.push(task.await.unwrap());
    }
    assert!(
        outcomes.contains(&Replacement::Done) && outcomes.contains(&Replacement::LastAdmin),
        "{outcomes:?}"
    );
    let last = store.users().await.unwrap().into_iter().find(|user| user.user.is_fleet_admin()).unwrap();
    let lesser = [
        User { disabled: true, ..last.user.clone() },
        User { role: Role::Viewer, team: Some("acme".parse().unwrap()), ..last.user.clone() },
        User { team: Some("acme".parse().unwrap()), ..last.user.clone() },
    ];
    for user in lesser {
        let change = StoredUser { user, ..next(&last) };
        assert_eq!(store.replace_user(&change, true).await.unwrap(), Replacement::LastAdmin);
    }
    assert_eq!(store.replace_user(&next(&last), true).await.unwrap(), Replacement::Done);
    assert_eq!(store.remove_user(&of_team.user.id, true).await.unwrap(), Replacement::Done);
    assert_eq!(store.remove_user(&last.user.id, false).await.unwrap(), Replacement::Done);
    assert_eq!(store.remove_user(&last.user.id, false).await.unwrap(), Replacement::Unknown);
}

pub(crate) async fn a_session_is_there_until_it_ends(store: Store) {
    let ada = user(1, Role::Admin, None);
    store.add_user(&ada).await.unwrap();
    let opened = session(&ada);
    let until = now().plus(Duration::from_secs(600));
    store.open_session(&opened, until).await.unwrap();
    let other = open(&store, &ada).await;
    assert_eq!(store.session(&opened.hash).await.unwrap(), Some((opened.clone(), ada.clone())));
    let later = opened.seen_at.plus(Duration::from_secs(5));
    store.touch_session(&opened.hash, later, until).await.unwrap();
    store.touch_session(&opened.hash, opened.seen_at, until).await.unwrap();
    let (found, _) = store.session(&opened.hash).await.unwrap().unwrap();
    assert_eq!(found, Session { seen_at: later, ..opened.clone() }, "it never goes backwards");
    store.end_session(&opened.hash).await.unwrap();
    store.end_session(&opened.hash).await.unwrap();
    store.touch_session(&opened.hash, later, until).await.unwrap();
    assert_eq!(store.session(&opened.hash).await.unwrap(), None, "a late touch brings nothing back");
    assert!(store.session(&other).await.unwrap().is_some());
}

pub(crate) async fn a_new_epoch_ends_sessions_and_links(store: Store) {
    let mut ada = user(1, Role::Admin, None);
    store.add_user(&ada).await.unwrap();
    let before = open(&store, &ada).await;
    let link_before = link(&ada, Purpose::SetPassword);
    store.add_link(&link_before).await.unwrap();
    ada = next(&ada);
    store.replace_user(&ada, false).await.unwrap();
    assert!(store.session(&before).await.unwrap().is_some(), "a change that begins no epoch ends nothing");
    assert!(store.link(&link_before.hash).await.unwrap().is_some());
    let late = session(&ada);
    ada = StoredUser { epoch: ada.epoch + 1, ..next(&ada) };
    store.replace_user(&ada, false).await.unwrap();
    // Whoever read the user before, and opens the session only now.
    store.open_session(&late, now().plus(Duration::from_secs(600))).await.unwrap();
    for hash in [before, late.hash] {
        assert_eq!(store.session(&hash).await.unwrap(), None);
    }
    assert_eq!(store.link(&link_before.hash).await.unwrap(), None);
    let after = open(&store, &ada).await;
    assert!(store.session(&after).await.unwrap().is_some());
    ada = StoredUser { user: User { disabled: true, ..ada.user.clone() }, ..next(&ada) };
    store.replace_user(&ada, false).await.unwrap();
    assert_eq!(store.session(&after).await.unwrap(), None, "a disabled user is logged out");
}

pub(crate) async fn a_removed_user_leaves_nothing(store: Store) {
    let ada = user(1, Role::Admin, None);
    store.add_user(&ada).await.unwrap();
    let opened = open(&store, &ada).await;
    let made = link(&ada, Purpose::LogIn);
    store.add_link(&made).await.unwrap();
    assert_eq!(store.remove_user(&ada.user.id, false).await.unwrap(), Replacement::Done);
    assert_eq!(store.session(&opened).await.unwrap(), None);
    assert_eq!(store.link(&made.hash).await.unwrap(), None);
    assert_eq!(store.user_of(&ada.user.account).await.unwrap(), None);
    let again = StoredUser { user: User { id: UserId::new([8; 10]), ..ada.user.clone() }, ..ada };
    assert!(store.add_user(&again).await.unwrap(), "the account is free");
    assert_eq!(store.session(&opened).await.unwrap(), None);
}

pub(crate) async fn a_link_is_taken_once(store: Store) {
    let ada = user(1, Role::Admin, None);
    store.add_user(&ada).await.unwrap();
    for purpose in [Purpose::SetPassword, Purpose::LogIn] {
        let made = link(&ada, purpose);
        store.add_link(&made).await.unwrap();
        assert_eq!(store.link(&made.hash).await.unwrap(), Some((made.clone(), ada.clone())));
        let taking: Vec<_> = (0..8)
            .map(|_| {
                let (store, hash) = (Arc::clone(&store), made.hash);
                tokio::spawn(async move { store.take_link(&hash).await.unwrap() })
            })
            .collect();
        let mut taken = 0;
        for task in taking {
            taken += usize::from(task.await.unwrap());
        }
        assert_eq!(taken, 1);
        assert_eq!(store.link(&made.hash).await.unwrap(), None);
    }
}

pub(crate) async fn what_has_ended_is_forgotten(store: Store) {
    let ada = user(1, Role::Admin, None);
    store.add_user(&ada).await.unwrap();
    let lasting = open(&store, &ada).await;
    let short = session(&ada);
    store.open_session(&short, short.seen_at.plus(Duration::from_millis(20))).await.unwrap();
    let made = Link { expires_at: now().plus(Duration::from_millis(20)), ..link(&ada, Purpose::LogIn) };
    store.add_link(&made).await.unwrap();
    let mut tries = 0;
    loop {
        store.forget_expired(now()).await.unwrap();
        let left = (store.session(&short.hash).await.unwrap(), store.link(&made.hash).await.unwrap());
        if left == (None, None) {
            break;
        }
        tries += 1;
        assert!(tries < 10_000, "{left:?}");
        tokio::task::yield_now().await;
    }
    assert!(store.session(&lasting).await.unwrap().is_some());
}
