//! Keys are kept from who may not have them, also where the gate has let somebody pass.

use super::*;
use crate::admin::session::{Caller, Visitor};
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
