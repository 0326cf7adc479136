//! The follower keeps its word whatever store and bus do.

use keygate_model::following;

#[test]
fn it_follows_through_every_fault() {
    let stories = if std::env::var_os("KEYGATE_TEST_FULL").is_some() { 100_000 } else { 2_000 };
    following::stories(0..stories);
}
