//! What a request costs: instructions and allocations of the thread that serves it, as valgrind's callgrind counts them.
//!
//! A time says more of the machine than of the gateway; a count is the same on a busy machine, and the next time. The
//! instructions are held loosely, since they move a little with the compiler and the C library. What this finds is a
//! header that is looked at again, a copy too many, work for each request that belongs to each connection. What it does
//! not see is system calls, and memory that two workers write.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::command::KEYGATE;
use crate::support::wait::PATIENCE;
use crate::support::{Gateway, Request, Upstream};

const REQUESTS: u64 = 1_000;
/// Valgrind takes fifty times as long.
const VERY_PATIENT: Duration = PATIENCE.saturating_mul(9);
/// So many times the instructions last noted are not believed to be the compiler's doing.
const TOO_MANY: f64 = 1.25;
/// And so many more allocations are certainly not: one for every other request.
const TOO_MANY_ALLOCATIONS: f64 = 0.5;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

/// As last noted, of a build for tests: nine times as much, and still more if the code does more.
const NOTED: Cost = Cost { instructions: 355_600.0, allocations: 9.1 };
/// As last noted, of a build for a release.
const NOTED_OF_THE_RELEASE: Cost = Cost { instructions: 40_000.0, allocations: 9.1 };

#[test]
fn a_request_costs_no_more_than_it_did() {
    assert_costs(Path::new(KEYGATE), "tests", NOTED);
}

#[test]
#[ignore = "needs what `cargo build --release` builds"]
fn a_request_of_the_release_costs_no_more_than_it_did() {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release").join("keygate");
    assert!(binary.exists(), "{} is not there: cargo build --release", binary.display());
    assert_costs(&binary, "release", NOTED_OF_THE_RELEASE);
}

/// That a request to this binary costs about what was noted.
fn assert_costs(binary: &Path, build: &str, noted: Cost) {
    if !cfg!(target_arch = "x86_64") {
        return; // other processors, other counts
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind").join(build);
    let (cost, file) = measure(binary, &directory);
    eprintln!("{build}: {cost}");
    assert!(
        cost.instructions <= noted.instructions * TOO_MANY
            && cost.allocations <= noted.allocations + TOO_MANY_ALLOCATIONS,
        "a request costs {cost}; noted were {noted}.\n\
        `callgrind_annotate --inclusive=yes {}` shows where; the same for a tree before the change shows what is new.\n\
        If it is worth that, or if a new compiler counts otherwise, note the new cost in tests/it/cost.rs, and say why.",
        file.display()
    );
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} instructions and {:.1} allocations", self.instructions, self.allocations)
    }
}

/// What each of many requests on one connection costs the thread that serves them, and the file with the details.
fn measure(binary: &Path, directory: &Path) -> (Cost, PathBuf) {
    let _ = fs::remove_dir_all(directory); // of the last time
    fs::create_dir_all(directory).expect("the directory is ours");
    let out = format!("--callgrind-out-file={}", directory.join("out").display());
    let valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--fair-sched=try", &out];
    let upstream = Upstream::forgetful();
    let mut gateway = Gateway::builder()
        .live(&upstream)
        .set("KEYGATE_LOOKUP__TIMEOUT_MS", "60000")
        .under(valgrind.map(str::to_owned).to_vec(), binary, VERY_PATIENT)
        .start();
    let request = Request::get("/v1/wallets/wlt_1").key(&gateway.live_key());
    let mut connection = gateway.connect();
    for _ in 0..REQUESTS {
        connection.ask(&request).assert_forwarded();
    }
    drop(connection);
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_for_exit(VERY_PATIENT).success());
    let files = fs::read_dir(directory).expect("valgrind wrote into it");
    let threads = files.map(|file| {
        let path = file.expect("it is there").path();
        (counted(&fs::read_to_string(&path).expect("names of functions are UTF-8")), path)
    });
    // The first one starts and ends the process, which is no part of a request; the others but one have nothing to do.
    let workers = threads.filter(|(counted, _)| counted.thread > 1);
    let (busiest, file) = workers.max_by_key(|(counted, _)| counted.instructions).expect("a thread ran");
    let each = |count: u64| count as f64 / REQUESTS as f64;
    (Cost { instructions: each(busiest.instructions), allocations: each(busiest.allocations) }, file)
}

/// What one thread did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    /// From 1 on; 0 in a file without a thread.
    thread: u32,
    instructions: u64,
    allocations: u64,
}

/// Reads what callgrind wrote about a thread. It names a function where it first speaks of it, and by a number from then on.
fn counted(profile: &str) -> Counted {
    let (mut counted, mut names) = (Counted::default(), HashMap::new());
    let (mut caller, mut callee) = ("", "");
    for line in profile.lines() {
        let Some((word, rest)) = line.split_once(['=', ':']) else { continue };
        match word {
            "fn" => caller = name(rest, &mut names),
            "cfn" => callee = name(rest, &mut names),
            "calls" if ALLOCATING.contains(&callee) && !is_allocator(caller) => {
                let calls = rest.split(' ').next().and_then(|count| count.parse::<u64>().ok());
                counted.allocations += calls.expect("calls are counted");
            }
            "thread" => counted.thread = rest.trim().parse().expect("threads are numbered"),
            "summary" => counted.instructions = rest.trim().parse().expect("instructions are counted"),
            _ => {}
        }
    }
    counted
}

/// How the gateway asks for memory, if it is not the allocator's own doing.
const ALLOCATING: [&str; 6] =
    ["mi_malloc", "mi_malloc_aligned", "mi_zalloc", "mi_zalloc_aligned", "mi_realloc", "mi_realloc_aligned"];

fn is_allocator(name: &str) -> bool {
    name.trim_start_matches('_').starts_with("mi_")
}

/// `(7) main`, or `(7)` from then on.
fn name<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    match text.split_once(' ') {
        Some((number, name)) => names.entry(number).or_insert(name),
        None => names.get(text).copied().unwrap_or_default(),
    }
}

#[test]
fn calls_are_counted_where_the_gateway_asks_for_memory() {
    let profile = "thread: 6\nevents: Ir\nsummary: 1234\n\nfn=(1) keygate::main\n1 10\ncfn=(2) mi_malloc_aligned\n\
        calls=3 0 \n1 30\n\nfn=(2)\n1 9\ncfn=(3) mi_malloc\ncalls=3 0\n2 9\n\nfn=(4) keygate::other\ncfn=(3)\n\
        calls=2 0\n4 4\ncfn=(1)\ncalls=9 0\n4 4\n";
    assert_eq!(counted(profile), Counted { thread: 6, instructions: 1_234, allocations: 5 });
}
