//! Would the model notice? One change of the sources at a time, each a way to lose the promise, in a copy of the workspace.
//!
//! The copy is built with the dependencies that are built already: same lock file, same profile, same features, same target
//! folder. A change whose text is no longer there, or is there twice, fails: the list keeps up with the sources.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use keygate_model::property::{BROKEN, Property};

const MEMORY: &str = "src/verify/memory.rs";
const FRESHNESS: &str = "src/verify/freshness.rs";
const FOLLOWER: &str = "src/events/follower.rs";
const TRAIL: &str = "src/events/trail.rs";
const CHAIN: &str = "src/model/chain.rs";
const GATEWAY: &str = "tests/model/src/rig/gateway.rs";
const FEED: &str = "tests/model/src/rig/feed.rs";
const BY_KEY: &str = "tests/model/src/loom_world/by_key.rs";

/// The follower's own stories.
const FOLLOWING: (&str, &[&str]) = ("follower", &["it_follows_through_every_fault"]);

/// A change of one or more places.
struct Mutant {
    name: &'static str,
    changes: &'static [Change],
    /// What is run against it: a test file and names in it.
    told: (&'static str, &'static [&'static str]),
    verdict: Verdict,
}

struct Change {
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

enum Verdict {
    /// The model fails, and by this property.
    Breaks(Property),
    /// The model holds: nothing depends on what was changed.
    Holds,
}

use Verdict::{Breaks, Holds};

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "plain get_with: what is there is used, and what a load brings",
        changes: &[
            Change {
                file: MEMORY,
                from: "Some(entry) if self.is_usable(hash, &entry, now) => Recalled::Usable(entry)",
                to: "Some(entry) => Recalled::Usable(entry)",
            },
            Change {
                file: MEMORY,
                from: "Answer::Known(entry) if self.is_usable(hash, &entry, now) => Some",
                to: "Answer::Known(entry) => Some",
            },
        ],
        told: ("loom", &["a_key_is_revoked_while_it_is_loaded"]),
        verdict: Breaks(Property::RevokedIsDead),
    },
    Mutant {
        name: "what is in the cache is used unjudged",
        changes: &[Change {
            file: MEMORY,
            from: "Some(entry) if self.is_usable(hash, &entry, now) => Recalled::Usable(entry)",
            to: "Some(entry) => Recalled::Usable(entry)",
        }],
        told: ("loom", &["a_key_in_use_is_revoked"]),
        verdict: Breaks(Property::RevokedIsDead),
    },
    Mutant {
        name: "who joins a load late uses what it brings unjudged",
        changes: &[Change {
            file: MEMORY,
            from: "Answer::Known(entry) if self.is_usable(hash, &entry, now) => Some",
            to: "Answer::Known(entry) => Some",
        }],
        // Of a revocation such a request would still hear: it looks among the revoked before it joins.
        told: ("loom", &["an_unknown_key_is_created_and_changed"]),
        verdict: Breaks(Property::AppliedIsSeen),
    },
    Mutant {
        name: "a remembered unknown is used unjudged",
        changes: &[Change {
            file: MEMORY,
            from: ".is_some_and(|loaded| self.is_usable_unknown(hash, loaded, now))",
            to: ".is_some_and(|_| now >= Tick::from_nanos(0))",
        }],
        told: ("loom", &["an_unknown_key_is_created_and_changed"]),
        verdict: Breaks(Property::AppliedIsSeen),
    },
    Mutant {
        name: "the epoch is noted after the read",
        changes: &[Change {
            file: MEMORY,
            from: "let entry = Arc::new(Entry { loaded, record });",
            to: "let entry = Arc::new(Entry { loaded: self.freshness.begin_load(loaded.started), record });",
        }],
        told: ("loom", &["a_key_is_revoked_while_it_is_loaded"]),
        verdict: Breaks(Property::RevokedIsDead),
    },
    Mutant {
        name: "a revocation is not looked for when a load ends",
        changes: &[Change {
            file: MEMORY,
            from: "if self.freshness.death(&hash).is_some() {",
            to: "if false {",
        }],
        told: ("loom", &["the_store_forgets_a_revocation"]),
        verdict: Breaks(Property::RevokedForEver),
    },
    Mutant {
        name: "the cache forgets before the barrier is raised",
        changes: &[Change {
            file: MEMORY,
            from: "self.freshness.revoke(hash, Death { id, at });\n        self.cache.forget(hash);",
            to: "self.cache.forget(hash);\n        self.freshness.revoke(hash, Death { id, at });",
        }],
        // What is in the cache is judged when it is used: when it forgets does not matter.
        told: ("loom", &["a_key_is_revoked_while_it_is_loaded", "the_store_forgets_a_revocation"]),
        verdict: Holds,
    },
    Mutant {
        name: "the barrier is raised to the epoch before",
        changes: &[Change {
            file: FRESHNESS,
            from: "self.barriers[slot(hash)].fetch_max(epoch, Ordering::SeqCst);",
            to: "self.barriers[slot(hash)].fetch_max(epoch - 1, Ordering::SeqCst);",
        }],
        told: ("loom", &["a_key_in_use_is_revoked"]),
        verdict: Breaks(Property::RevokedIsDead),
    },
    Mutant {
        name: "the barrier is stored and may go back",
        changes: &[Change {
            file: FRESHNESS,
            from: "self.barriers[slot(hash)].fetch_max(epoch, Ordering::SeqCst);",
            to: "self.barriers[slot(hash)].store(epoch, Ordering::SeqCst);",
        }],
        told: ("loom", &["two_events_at_once"]),
        verdict: Breaks(Property::RevokedIsDead),
    },
    Mutant {
        name: "the floor is raised to the epoch that is",
        changes: &[Change {
            file: FRESHNESS,
            from: "let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;\n        self.shards",
            to: "let epoch = self.epoch.load(Ordering::SeqCst);\n        self.shards",
        }],
        told: ("loom", &["the_feed_comes_back_with_a_gap"]),
        verdict: Breaks(Property::BoundHolds),
    },
    Mutant {
        name: "a key is among the revoked only after its epoch began",
        changes: &[Change {
            file: FRESHNESS,
            from: "self.revoked.insert(*hash, death);\n        self.outdate(hash);",
            to: "self.outdate(hash);\n        self.revoked.insert(*hash, death);",
        }],
        told: ("loom", &["a_forgotten_revocation_is_heard"]),
        verdict: Breaks(Property::RevokedForEver),
    },
    Mutant {
        name: "the proof is read after the barrier",
        changes: &[Change {
            file: FRESHNESS,
            from: "Knowledge { barrier, floor, proof }",
            to: "Knowledge { barrier, floor, proof: self.proof(hash).max(proof) }",
        }],
        told: ("loom", &["the_feed_comes_back"]),
        verdict: Breaks(Property::BoundHolds),
    },
    Mutant {
        name: "the proof is read without what was applied before it",
        changes: &[Change {
            file: FRESHNESS,
            from: "shard.proof.load(Ordering::Acquire)",
            to: "shard.proof.load(Ordering::Relaxed)",
        }],
        told: ("loom", &["the_feed_comes_back"]),
        verdict: Breaks(Property::BoundHolds),
    },
    Mutant {
        name: "the answer is told before the load is off the board",
        changes: &[Change {
            file: GATEWAY,
            from: "            drop(landing);\n",
            to: "            let _late = landing;\n",
        }],
        told: ("loom", &["a_key_is_revoked_while_it_is_loaded"]),
        verdict: Breaks(Property::ReloadIsNew),
    },
    Mutant {
        name: "an event moves the position by its number alone",
        changes: &[Change {
            file: CHAIN,
            from: "self.head.seq == place.seq.wrapping_add(1) && self.prev == place.nonce",
            to: "self.head.seq == place.seq.wrapping_add(1)",
        }],
        told: ("shuttle", &["a_storm_in_random_order"]),
        verdict: Breaks(Property::PositionIsReached),
    },
    Mutant {
        name: "an event moves the position although one between is missing",
        changes: &[Change {
            file: TRAIL,
            from: "Some(at) if entry.follows(&at) => Step::Next,",
            to: "Some(at) if entry.head.seq > at.seq => Step::Next,",
        }],
        told: ("loom", &["the_bus_loses_and_reorders"]),
        verdict: Breaks(Property::PositionIsReached),
    },
    Mutant {
        name: "a proof although the log has more",
        changes: &[Change {
            file: TRAIL,
            from: "} else if head.seq > at.seq {\n            Standing::Behind",
            to: "} else if head.seq > at.seq {\n            Standing::Current",
        }],
        told: ("loom", &["the_bus_loses_and_reorders"]),
        verdict: Breaks(Property::ProofIsComplete),
    },
    Mutant {
        name: "the gap comes after the proof",
        changes: &[Change {
            file: FEED,
            from: "        self.gateway.gap(shard);\n        self.trail(shard).restart(*end);\n        self.prove(shard, end, asked_at);\n",
            to: "        self.trail(shard).restart(*end);\n        self.prove(shard, end, asked_at);\n        self.gateway.gap(shard);\n",
        }],
        told: ("loom", &["the_feed_comes_back_with_a_gap"]),
        verdict: Breaks(Property::ProofIsComplete),
    },
    Mutant {
        name: "the position is told before the event is applied",
        changes: &[Change {
            file: FEED,
            from: "        self.gateway.apply(entry);\n        self.trail(entry.event.shard()).advance(entry);\n        self.tell(entry.event.shard());\n",
            to: "        self.trail(entry.event.shard()).advance(entry);\n        self.tell(entry.event.shard());\n        self.gateway.apply(entry);\n",
        }],
        told: ("loom", &["the_bus_loses_and_reorders"]),
        verdict: Breaks(Property::PositionIsReached),
    },
    Mutant {
        name: "the follower: the gap comes after the proof",
        changes: &[Change {
            file: FOLLOWER,
            from: "        self.sink.gap(shard, why);\n        self.trails[shard.index()].restart(heads.heads[shard.index()]);\n        self.sink.current(shard, *asked_at);\n",
            to: "        self.trails[shard.index()].restart(heads.heads[shard.index()]);\n        self.sink.current(shard, *asked_at);\n        self.sink.gap(shard, why);\n",
        }],
        told: FOLLOWING,
        verdict: Breaks(Property::ProofIsComplete),
    },
    Mutant {
        name: "the follower: a proof although the log has more",
        changes: &[Change {
            file: FOLLOWER,
            from: "Standing::Behind => self.behind.push_back(shard),",
            to: "Standing::Behind => self.sink.current(shard, *asked_at),",
        }],
        told: FOLLOWING,
        verdict: Breaks(Property::ProofIsComplete),
    },
    Mutant {
        name: "the follower: a proof dates from its answer",
        changes: &[Change {
            file: FOLLOWER,
            from: "self.ends = Some((asked_at, heads));",
            to: "self.ends = Some((self.clock.now().tick, heads));",
        }],
        told: FOLLOWING,
        verdict: Breaks(Property::ProofIsComplete),
    },
    Mutant {
        name: "the follower: the position is told before the event is applied",
        changes: &[Change {
            file: FOLLOWER,
            from: "                self.sink.apply(&entry.event);\n                trail.advance(entry);\n                self.tell_progress();\n",
            to: "                trail.advance(entry);\n                self.tell_progress();\n                self.sink.apply(&entry.event);\n",
        }],
        told: FOLLOWING,
        verdict: Breaks(Property::PositionIsReached),
    },
    Mutant {
        name: "the follower: a log that no longer reaches back is waited for",
        changes: &[Change {
            file: FOLLOWER,
            from: "            return self.lose(shard, Gap::Trimmed);",
            to: "            return;",
        }],
        told: FOLLOWING,
        verdict: Breaks(Property::CatchesUp),
    },
    Mutant {
        name: "the trail: a fork of the same length is taken for the log",
        changes: &[Change {
            file: TRAIL,
            from: "if self.passed.contains(head) || self.asked_from == Some(*head) {",
            to: "if self.passed.iter().any(|passed| passed.seq == head.seq) {",
        }],
        told: FOLLOWING,
        verdict: Breaks(Property::ProofIsComplete),
    },
    Mutant {
        name: "barriers by key: one is forgotten without the floor",
        changes: &[Change {
            file: BY_KEY,
            from: "        self.floor.fetch_max(barrier, Ordering::SeqCst);\n",
            to: "        let _ = barrier;\n",
        }],
        told: ("loom", &["barriers_by_key_are_forgotten"]),
        verdict: Breaks(Property::AppliedIsSeen),
    },
    Mutant {
        name: "barriers by key: the floor is read before the barrier",
        changes: &[Change {
            file: BY_KEY,
            from: "        let barrier = self.barriers.get(&KEY).unwrap_or(0);\n        let floor = self.floor.load(Ordering::SeqCst);\n",
            to: "        let floor = self.floor.load(Ordering::SeqCst);\n        let barrier = self.barriers.get(&KEY).unwrap_or(0);\n",
        }],
        told: ("loom", &["barriers_by_key_are_forgotten"]),
        verdict: Breaks(Property::AppliedIsSeen),
    },
];

#[test]
fn every_mutant_is_told_from_the_original() {
    let copy = Copy::of_the_workspace();
    let mut wrong = Vec::new();
    for mutant in MUTANTS {
        match copy.judge(mutant) {
            Ok(how) => println!("{}: {how}", mutant.name),
            Err(how) => wrong.push(format!("{}: {how}", mutant.name)),
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n\n"));
}

/// A copy of the workspace that is built into the same target folder.
struct Copy {
    original: PathBuf,
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn of_the_workspace() -> Copy {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it is tests/model");
        let program = env::current_exe().expect("a test knows its program");
        // target/debug/deps/mutants-…
        let target = program.ancestors().nth(3).expect("it is in the target folder").to_owned();
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
        fs::create_dir_all(&root).expect("a folder can be made in the target folder");
        let copy = Copy { original: original.to_owned(), root, target };
        for part in ["Cargo.lock", "Cargo.toml", "benches", "loadtest", "src", "tests/model"] {
            copy.bring(Path::new(part));
        }
        // The model itself need not be fast to fail.
        copy.change(&Change {
            file: "Cargo.toml",
            from: "keygate-model.opt-level = 2",
            to: "keygate-model.opt-level = 0",
        })
        .expect("Cargo.toml says how the model is built");
        copy
    }

    /// Copies a file or a folder. What is the same already is left alone, and need not be built again.
    fn bring(&self, part: &Path) {
        let (from, to) = (self.original.join(part), self.root.join(part));
        if from.is_dir() {
            fs::create_dir_all(&to).expect("a folder can be made in the target folder");
            for entry in fs::read_dir(&from).expect("the sources can be read") {
                self.bring(&part.join(entry.expect("the sources can be read").file_name()));
            }
        } else {
            let text = fs::read(&from).expect("the sources can be read");
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::write(&to, text).expect("a file can be written in the target folder");
            }
        }
    }

    /// Changes one place.
    fn change(&self, change: &Change) -> Result<(), String> {
        let path = self.root.join(change.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", change.file))?;
        match text.matches(change.from).count() {
            1 => {
                fs::write(&path, text.replacen(change.from, change.to, 1)).map_err(|error| error.to_string())
            }
            count => Err(format!("what it changes is {count} times in {}", change.file)),
        }
    }

    /// Builds a mutant and runs the model against it. How it went, or what is wrong.
    fn judge(&self, mutant: &Mutant) -> Result<String, String> {
        let changed = mutant.changes.iter().try_for_each(|change| self.change(change));
        let judged = changed.and_then(|()| {
            let (file, tests) = mutant.told;
            let output = self.run(file, tests)?;
            verdict(&output, tests.len(), &mutant.verdict)
        });
        mutant.changes.iter().for_each(|change| self.bring(Path::new(change.file)));
        judged
    }

    fn run(&self, file: &str, tests: &[&str]) -> Result<String, String> {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--locked", "--offline", "--workspace", "--test", file, "--", "--exact"])
            .args(tests)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_INCREMENTAL", "1")
            .env("RUST_BACKTRACE", "0")
            .env_remove("KEYGATE_TEST_FULL")
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

fn verdict(output: &str, tests: usize, expected: &Verdict) -> Result<String, String> {
    let end = output.lines().rev().take(40).collect::<Vec<_>>();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
    let broken = output.lines().find_map(|line| line.strip_prefix(BROKEN));
    let ran = |result: &str| output.contains(&format!("test result: {result}. {tests} passed"));
    match (expected, broken) {
        (Breaks(property), Some(how)) if how.starts_with(property.name()) => Ok(how.to_owned()),
        (Holds, None) if ran("ok") => Ok("holds".to_owned()),
        (_, Some(how)) => Err(format!("another property was broken: {how}")),
        (Breaks(_), None) if ran("ok") => Err("nothing noticed it".to_owned()),
        (_, None) => Err(format!("it did not run:\n{end}")),
    }
}
