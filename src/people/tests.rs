use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::memory::MemoryPeople;
use super::*;
use crate::clock::ManualClock;
use crate::store::people::PeopleStore;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const IDLE: Duration = Duration::from_secs(1_800);
const TOTAL: Duration = Duration::from_secs(43_200);

struct House {
    people: People,
    store: Arc<MemoryPeople>,
    clock: ManualClock,
}

fn house() -> House {
    let clock = ManualClock::at(Timestamp::from_millis(1_764_000_000_000));
    let store = Arc::new(MemoryPeople::default());
    let limits = SessionLimits { idle: IDLE, total: TOTAL };
    House { people: People::new(store.clone(), Arc::new(clock.clone()), limits), store, clock }
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned())
}

impl House {
    async fn add(&self, account: &str, role: Role, team: Option<&str>) -> User {
        let team = team.map(|team| team.parse().unwrap());
        let new = NewUser {
            account: account.to_owned(),
            display_name: None,
            role,
            team,
            password: Some(password(&format!("the password of {account}"))),
        };
        self.people.add(new, None).await.unwrap().user
    }

    async fn log_in(&self, account: &str) -> Result<SecretToken, PeopleError> {
        let password = password(&format!("the password of {}", account.to_lowercase()));
        self.people.log_in(account, &password, HERE).await.map(|(token, _)| token)
    }

    /// Gives a user another password, as an admin does, and logs in by it.
    async fn reset(&self, id: &UserId) -> SecretToken {
        let reset = password("what an admin has set");
        let change = UserChange { password: Some(reset.clone()), ..UserChange::default() };
        let user = self.people.update(id, None, |_| true, change, true).await.unwrap().user;
        self.people.log_in(&user.account, &reset, HERE).await.unwrap().0
    }

    async fn is_in(&self, token: &SecretToken) -> bool {
        self.people.visit(token).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
    let house = house();
    house.add("ada", Role::Admin, None).await;
    let idle = house.log_in("Ada").await.unwrap();
    house.clock.advance(IDLE - Duration::from_secs(1));
    assert!(house.is_in(&idle).await);
    house.clock.advance(IDLE - Duration::from_secs(1));
    assert!(house.is_in(&idle).await, "a use begins the time anew");
    house.clock.advance(IDLE);
    assert!(!house.is_in(&idle).await);

    let busy = house.log_in("ada").await.unwrap();
    for _ in 0..TOTAL.as_secs() / 1_200 - 1 {
        house.clock.advance(Duration::from_secs(1_200));
        assert!(house.is_in(&busy).await);
    }
    house.clock.advance(Duration::from_secs(1_200));
    assert!(!house.is_in(&busy).await, "however busy");
    assert!(house.store.session(&busy.hash()).await.unwrap().is_none(), "and it is deleted");
}

#[tokio::test]
async fn what_takes_something_from_a_user_ends_the_sessions() {
    let house = house();
    let user = house.add("ada", Role::Editor, Some("acme")).await;
    let changes = [
        (UserChange { role: Some(Role::Viewer), ..UserChange::default() }, true),
        (UserChange { team: Some(Some("globex".parse().unwrap())), ..UserChange::default() }, true),
        (UserChange { password: Some(password("the password of ada")), ..UserChange::default() }, true),
        (UserChange { disabled: Some(true), ..UserChange::default() }, true),
        (UserChange { display_name: Some("Ada".into()), ..UserChange::default() }, false),
        (UserChange { role: Some(Role::Viewer), ..UserChange::default() }, false),
    ];
    for (change, ends) in changes {
        let token = house.log_in("ada").await.unwrap();
        house.people.update(&user.id, None, |_| true, change.clone(), true).await.unwrap();
        assert_eq!(house.is_in(&token).await, !ends, "{change:?}");
        let enable = UserChange { disabled: Some(false), ..UserChange::default() };
        house.people.update(&user.id, None, |_| true, enable, true).await.unwrap();
        assert_eq!(house.is_in(&token).await, !ends, "{change:?} and back");
    }
    let tokens = [house.log_in("ada").await.unwrap(), house.log_in("ada").await.unwrap()];
    house.people.log_out(&tokens[0]).await.unwrap();
    assert!(!house.is_in(&tokens[0]).await && house.is_in(&tokens[1]).await);
    house.people.log_out_everywhere(&user.id).await.unwrap();
    assert!(!house.is_in(&tokens[1]).await);
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_but_the_one_that_asked() {
    let house = house();
    let user = house.add("ada", Role::Admin, None).await;
    let before = [house.log_in("ada").await.unwrap(), house.log_in("ada").await.unwrap()];
    let old = password("the password of ada");
    let new = password("another one of ada");
    for wrong in [&new, &password("")] {
        let refused = house.people.change_password(&user.id, wrong, &new, HERE).await.unwrap_err();
        assert!(matches!(refused, PeopleError::WrongCredentials), "{refused}");
    }
    let refused = house.people.change_password(&user.id, &old, &password("short"), HERE).await.unwrap_err();
    assert!(matches!(refused, PeopleError::Weak(WeakPassword::TooShort)), "{refused}");
    assert!(house.is_in(&before[0]).await, "nothing was changed so far");
    let after = house.people.change_password(&user.id, &old, &new, HERE).await.unwrap();
    assert!(house.is_in(&after).await);
    for token in &before {
        assert!(!house.is_in(token).await);
    }
    assert!(house.log_in("ada").await.is_err());
    assert!(house.people.log_in("ada", &new, HERE).await.is_ok());
}

#[tokio::test]
async fn nobody_learns_whether_there_is_an_account() {
    let house = house();
    house.add("ada", Role::Admin, None).await;
    let disabled = house.add("bob", Role::Viewer, Some("acme")).await;
    let disable = UserChange { disabled: Some(true), ..UserChange::default() };
    house.people.update(&disabled.id, None, |_| true, disable, true).await.unwrap();
    let invited = NewUser {
        account: "eve".into(),
        display_name: None,
        role: Role::Viewer,
        team: Some("acme".parse().unwrap()),
        password: None,
    };
    house.people.add(invited, None).await.unwrap();
    let mut words = Vec::new();
    for account in ["ada", "bob", "eve", "nobody", "no account at all", ""] {
        let before = house.people.hashings();
        let typed = if account == "bob" { "the password of bob" } else { "a wrong password" };
        let refused = house.people.log_in(account, &password(typed), HERE).await.unwrap_err();
        assert_eq!(house.people.hashings() - before, 1, "{account}: as much work as any");
        words.push(refused.to_string());
    }
    words.dedup();
    assert_eq!(words, ["account or password is wrong"]);
}

#[tokio::test]
async fn the_right_password_does_not_get_through_a_block() {
    let house = house();
    house.add("ada", Role::Admin, None).await;
    for _ in 0..5 {
        let source = [192, 0, 2, 1].into();
        house.people.log_in("ada", &password("a wrong password"), source).await.unwrap_err();
    }
    let before = house.people.hashings();
    let (right, wrong) = (
        house.log_in("ada").await.unwrap_err(),
        house.people.log_in("ADA ", &password("wrong again and again"), HERE).await.unwrap_err(),
    );
    assert!(matches!(right, PeopleError::Throttled(_)), "{right}");
    assert_eq!(right.to_string(), wrong.to_string());
    assert_eq!(house.people.hashings(), before, "it is not even tried");
    house.clock.advance(Duration::from_secs(1));
    assert!(house.log_in("ada").await.is_ok());
    for _ in 0..5 {
        assert!(house.log_in("ada").await.is_ok(), "a success forgets the failures");
    }
}

#[tokio::test]
async fn a_link_sets_a_password_once_and_in_time() {
    let house = house();
    let user = house.add("ada", Role::Admin, None).await;
    let session = house.log_in("ada").await.unwrap();
    let (first, _) = house.people.password_link(&user.id, None).await.unwrap();
    let (second, _) = house.people.password_link(&user.id, None).await.unwrap();
    let weak = house.people.set_password_by_link(&first, &password("short")).await.unwrap_err();
    assert!(matches!(weak, PeopleError::Weak(_)), "{weak}");
    let new = password("a password by a link");
    assert!(house.people.log_in_by_link(&first).await.is_err(), "it is not good for that");
    let opened = house.people.set_password_by_link(&first, &new).await.unwrap();
    assert!(house.is_in(&opened).await && !house.is_in(&session).await);
    for link in [&first, &second] {
        let used = house.people.set_password_by_link(link, &new).await.unwrap_err();
        assert!(matches!(used, PeopleError::LinkEnded), "a new password ends every link: {used}");
    }
    let (late, until) = house.people.password_link(&user.id, None).await.unwrap();
    house.clock.advance(until.since(house.people.now()));
    assert!(matches!(house.people.link(&late).await, Err(PeopleError::LinkEnded)));
    assert!(house.people.set_password_by_link(&late, &new).await.is_err());

    let (demo, until) = house.people.log_in_link(&user.id).await.unwrap();
    assert_eq!(until.since(house.people.now()), Duration::from_secs(900));
    assert!(house.people.set_password_by_link(&demo, &new).await.is_err(), "it is not good for that");
    assert!(house.is_in(&house.people.log_in_by_link(&demo).await.unwrap()).await);
    assert!(house.people.log_in_by_link(&demo).await.is_err());
    let (late, until) = house.people.log_in_link(&user.id).await.unwrap();
    house.clock.advance(until.since(house.people.now()));
    assert!(matches!(house.people.log_in_by_link(&late).await, Err(PeopleError::LinkEnded)));
}

/// Goes on with something as far as it comes by itself.
async fn begin<F: Future>(work: Pin<&mut F>) -> bool {
    let mut work = Some(work);
    poll_fn(|context| Poll::Ready(work.take().is_some_and(|work| work.poll(context).is_pending()))).await
}

#[tokio::test]
async fn who_is_turned_away_for_want_of_a_turn_has_the_link_still() {
    let house = house();
    let user = house.add("ada", Role::Admin, None).await;
    let (link, _) = house.people.password_link(&user.id, None).await.unwrap();
    let new = password("a password by a link");
    let turns = house.people.passwords.all_turns();
    let mut crowd = Vec::new();
    loop {
        let mut log_in = Box::pin(house.people.passwords.verify(&new, None));
        if !begin(log_in.as_mut()).await {
            break;
        }
        crowd.push(log_in);
    }
    let busy = house.people.set_password_by_link(&link, &new).await.unwrap_err();
    assert!(matches!(busy, PeopleError::Busy), "{busy}");
    drop((crowd, turns));
    assert!(house.log_in("ada").await.is_ok(), "nothing was changed so far");
    let opened = house.people.set_password_by_link(&link, &new).await.unwrap();
    assert!(house.is_in(&opened).await);
    assert!(house.people.log_in("ada", &new, HERE).await.is_ok());
}

#[tokio::test]
async fn of_two_who_use_a_link_at_once_one_sets_the_password() {
    let house = house();
    let user = house.add("ada", Role::Admin, None).await;
    let (link, _) = house.people.password_link(&user.id, None).await.unwrap();
    let (first, second) = (password("the first one's password"), password("the second one's password"));
    let (one, other) = tokio::join!(
        house.people.set_password_by_link(&link, &first),
        house.people.set_password_by_link(&link, &second),
    );
    let (set, refused, session) = match (one, other) {
        (Ok(session), Err(error)) => (&first, error, session),
        (Err(error), Ok(session)) => (&second, error, session),
        (one, other) => panic!("{:?} {:?}", one.err(), other.err()),
    };
    assert!(matches!(refused, PeopleError::LinkEnded), "{refused}");
    assert!(house.is_in(&session).await, "the other ended nothing");
    assert!(house.people.log_in("ada", set, HERE).await.is_ok());
}

#[tokio::test]
async fn a_reset_is_not_undone_by_a_link_under_way() {
    let house = house();
    let user = house.add("ada", Role::Admin, None).await;
    let (link, _) = house.people.password_link(&user.id, None).await.unwrap();
    let new = password("too late a password");
    let turns = house.people.passwords.all_turns();
    let mut setting = Box::pin(house.people.set_password_by_link(&link, &new));
    assert!(begin(setting.as_mut()).await, "it waits for its turn");
    drop(turns);
    let session = house.reset(&user.id).await;
    let late = setting.await.unwrap_err();
    assert!(matches!(late, PeopleError::LinkEnded), "{late}");
    assert!(house.is_in(&session).await);
    assert!(house.people.log_in("ada", &new, HERE).await.is_err());
}

#[tokio::test]
async fn a_reset_is_not_undone_by_a_change_under_way() {
    let house = house();
    let user = house.add("ada", Role::Admin, None).await;
    let (old, new) = (password("the password of ada"), password("too late a password"));
    let turns = house.people.passwords.all_turns();
    let mut changing = Box::pin(house.people.change_password(&user.id, &old, &new, HERE));
    assert!(begin(changing.as_mut()).await, "it waits for its turn");
    drop(turns);
    let session = house.reset(&user.id).await;
    let late = changing.await.unwrap_err();
    assert!(matches!(late, PeopleError::Outdated), "{late}");
    assert!(house.is_in(&session).await);
    assert!(house.people.log_in("ada", &new, HERE).await.is_err());
}

#[tokio::test]
async fn a_user_of_another_team_is_not_there() {
    let house = house();
    house.add("ada", Role::Admin, None).await;
    let mine = house.add("mine", Role::Viewer, Some("acme")).await;
    let other = house.add("other", Role::Viewer, Some("globex")).await;
    let wall: Team = "acme".parse().unwrap();
    let listed = house.people.list(Some(&wall)).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.user.id).collect::<Vec<_>>(), [mine.id]);
    assert_eq!(house.people.list(None).await.unwrap().len(), 3);
    let gone = |result: Result<(), PeopleError>| matches!(result, Err(PeopleError::NotFound));
    assert!(gone(house.people.get(&other.id, Some(&wall)).await.map(drop)));
    assert!(gone(house.people.remove(&other.id, Some(&wall), true).await));
    assert!(gone(house.people.password_link(&other.id, Some(&wall)).await.map(drop)));
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    assert!(gone(house.people.update(&other.id, Some(&wall), |_| true, change, true).await.map(drop)));
    assert!(house.log_in("other").await.is_ok());
}

#[tokio::test]
async fn a_user_is_changed_as_seen_or_not_at_all() {
    let house = house();
    let user = house.add("ada", Role::Editor, Some("acme")).await;
    let seen = house.people.get(&user.id, None).await.unwrap();
    let disable = UserChange { disabled: Some(true), ..UserChange::default() };
    let disabled = house.people.update(&user.id, None, |_| true, disable, true).await.unwrap();
    assert_ne!(disabled.revision, seen.revision);
    let enable = UserChange { disabled: Some(false), ..UserChange::default() };
    let is_seen = |revision| revision == seen.revision;
    match house.people.update(&user.id, None, is_seen, enable, true).await.unwrap_err() {
        PeopleError::EditedMeanwhile(now) => assert_eq!(*now, disabled),
        other => panic!("{other}"),
    }
    assert_eq!(house.people.get(&user.id, None).await.unwrap(), disabled);
}

#[tokio::test]
async fn the_last_fleet_admin_stays_one() {
    let house = house();
    let ada = house.add("ada", Role::Admin, None).await;
    house.add("team", Role::Admin, Some("acme")).await;
    let viewer = house.add("viewer", Role::Viewer, Some("acme")).await;
    let changes = [
        UserChange { disabled: Some(true), ..UserChange::default() },
        UserChange { team: Some(Some("acme".parse().unwrap())), ..UserChange::default() },
    ];
    for change in &changes {
        let refused = house.people.update(&ada.id, None, |_| true, change.clone(), true).await.unwrap_err();
        assert!(matches!(refused, PeopleError::LastAdmin), "{refused}");
    }
    assert!(matches!(house.people.remove(&ada.id, None, true).await, Err(PeopleError::LastAdmin)));
    house.people.remove(&viewer.id, None, true).await.unwrap();
    house.add("bob", Role::Admin, None).await;
    house.people.remove(&ada.id, None, true).await.unwrap();
    let bob = house.people.list(None).await.unwrap().into_iter().find(|entry| &*entry.user.account == "bob");
    house.people.remove(&bob.unwrap().user.id, None, false).await.unwrap();
}

#[tokio::test]
async fn an_account_is_taken_once_and_a_team_is_required() {
    let house = house();
    house.add("ada@example.com", Role::Admin, None).await;
    let new = |account: &str, role, team: Option<&str>| NewUser {
        account: account.to_owned(),
        display_name: None,
        role,
        team: team.map(|team| team.parse().unwrap()),
        password: None,
    };
    house.add("bob", Role::Viewer, Some("acme")).await;
    for (wall, account, words) in [
        ("acme", "bob", "there is a user with this account already"),
        ("globex", "bob", "this account cannot be used here; choose another"),
        ("globex", "ada@example.com", "this account cannot be used here; choose another"),
    ] {
        let wall: Team = wall.parse().unwrap();
        let refused =
            house.people.add(new(account, Role::Admin, Some(&*wall)), Some(&wall)).await.unwrap_err();
        assert_eq!(refused.to_string(), words, "{account} behind {}", &*wall);
    }
    let taken = house.people.add(new("ADA@Example.com", Role::Admin, None), None).await.unwrap_err();
    assert!(matches!(taken, PeopleError::AccountTaken), "{taken}");
    for role in [Role::Viewer, Role::Editor] {
        let refused = house.people.add(new("eve", role, None), None).await.unwrap_err();
        assert!(matches!(refused, PeopleError::Invalid { field: "team", .. }), "{refused}");
    }
}
