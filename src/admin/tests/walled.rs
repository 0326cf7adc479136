//! Keys are kept from who may not have them, also where the gate has let somebody pass.

use super::*;
use crate::admin::session::{Caller, Visitor};
use crate::keys::KeyError;
use crate::people::{Role, SecretToken, User, UserId};

fn person(role: Role, team: Option<&str>) -> Caller {
    let token = SecretToken::random().unwrap();
    let user = User {
        id: UserId::new([7; 10]),
        account: "ada".parse().unwrap(),
        display_name: "Ada".to_owned(),
        role,
        team: team.map(|team| team.parse().unwrap()),
        disabled: false,
        created_at: NOW,
    };
    Caller::Person(Visitor { role, team: user.team.clone(), user, csrf: token.csrf(), token })
}

#[tokio::test]
async fn who_may_only_look_gets_no_keys_to_change_and_a_team_none_of_the_fleet() {
    let keys = api().keys;
    for (caller, edits, has_all) in [
        (person(Role::Viewer, Some("acme")), false, false),
        (person(Role::Editor, Some("acme")), true, false),
        (person(Role::Admin, Some("acme")), true, false),
        (person(Role::Admin, None), true, true),
        (Caller::Machine, true, true),
    ] {
        assert_eq!(keys.edited_by(&caller).is_ok(), edits, "{caller:?}");
        assert_eq!(keys.of_the_fleet(&caller).is_ok(), has_all, "{caller:?}");
    }
}

/// How long an answer takes would say that there is such a key.
#[tokio::test]
async fn the_store_is_asked_as_often_for_a_key_of_another_team_as_for_one_that_does_not_exist() {
    let api = api();
    let seen = api.keys.seen_by(&person(Role::Editor, Some("acme")));
    let edited = api.keys.edited_by(&person(Role::Editor, Some("acme"))).unwrap();
    let mut keys = Vec::new();
    for team in ["globex", "acme"] {
        let new = json!({ "label": "Web shop", "environment": "live", "team": team });
        let (_, created) = api.post("/v1/keys", &new).await;
        keys.push(seen.format().parse(created["key"].as_str().unwrap().as_bytes()).unwrap());
    }
    let unknown = seen.format().parse(format!("sk_live_{}", "0".repeat(64)).as_bytes()).unwrap();
    let mut questions = Vec::new();
    for key in [&unknown, &keys[0]] {
        let before = api.store.asked();
        assert_eq!(seen.find(key).await.unwrap(), None);
        let found = api.store.asked();
        assert!(matches!(edited.revoke_key(key).await, Err(KeyError::NotFound)));
        questions.push((found - before, api.store.asked() - found));
    }
    assert_eq!(questions[0], questions[1]);
    assert_eq!(seen.find(&keys[1]).await.unwrap().unwrap().record.team, "acme");
}
