//! The rig takes the verifier's steps in the verifier's order. Here that order is looked up in the verifier's own files: whoever
//! changes it is told to change the rig with it (`src/rig/gateway.rs`, `src/rig/feed.rs`).

use std::fs;
use std::path::Path;

/// Asserts that these stand in the file in this order, beginning behind `place`.
fn assert_order(file: &str, place: &str, steps: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = fs::read_to_string(path).expect("the file is there");
    let begin = text.find(place).unwrap_or_else(|| panic!("{file} has no `{place}` any more"));
    let mut rest = &text[begin + place.len()..];
    for step in steps {
        let at = rest
            .find(step)
            .unwrap_or_else(|| panic!("{file}: `{step}` does not follow in `{place}` any more"));
        rest = &rest[at + step.len()..];
    }
}

#[test]
fn a_request_is_verified_in_these_steps() {
    assert_order(
        "src/verify/mod.rs",
        "pub fn verify<",
        &["self.decide(", "near.recall(&self.memory", "async fn decide", "Usable(entry)", "self.look_up("],
    );
    let near = ["memory.is_usable(", "Usable(Held::Own", "memory.recall(", "Usable(Held::Own(hold)"];
    assert_order("src/verify/near.rs", "fn recall(", &near);
    let look_up = [
        "memory.death(",
        "KeyRevoked",
        "memory.recalls_unknown(",
        "KeyUnknown",
        "for _ in 0..=RELOADS",
        "self.load(loader, hash",
        "memory.settle(&hash, answer",
        "VerificationUnavailable",
    ];
    assert_order("src/verify/mod.rs", "async fn look_up(", &look_up);
    assert_order("src/verify/mod.rs", "pub async fn confirm", &["memory.is_usable(", "self.look_up_again("]);
    assert_order("src/verify/mod.rs", "const RELOADS", &[": usize = 2;"]);
}

#[test]
fn a_load_is_carried_out_in_these_steps() {
    let load = ["memory.begin_load(", "async move", "store.find(", "loader.found(", "memory.found_nothing("];
    assert_order("src/verify/loader.rs", "pub(super) fn load(", &load);
    let flight = ["board.join(hash", "begin()", "load.await", "drop(landing)", "tell.send_replace("];
    assert_order("src/verify/flight.rs", "pub fn start<", &flight);
}

#[test]
fn an_event_is_applied_in_these_steps() {
    let events = ["Revoked => self.memory.revoke(", "Created | EventKind::Changed => self.memory.outdate("];
    assert_order("src/verify/mod.rs", "fn apply_own(", &events);
    assert_order("src/verify/mod.rs", "fn gap(", &["self.memory.outdate_shard("]);
    let take = ["Step::Next", "sink.apply(", "trail.advance(", "Step::Apart", "sink.apply(", "doubt = true"];
    assert_order("src/events/follower.rs", "fn take(", &take);
    assert_order("src/events/follower.rs", "fn lose(", &["sink.gap(", ".restart(", "sink.current("]);
}
