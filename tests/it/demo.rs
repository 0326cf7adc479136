//! `keygate demo`: what it prints works as printed.

use std::process::Command;

use rustix::process::Signal;

use crate::support::process::Process;
use crate::support::wait::{PATIENCE, settles};
use crate::support::{Ran, eventually, keygate, tool};

/// A demo on free ports, and what it has printed.
fn start() -> (Process, String) {
    let directory = std::env::temp_dir();
    let mut command: Command = keygate();
    command.args(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).current_dir(directory);
    let mut process = Process::start(&mut command, "keygate");
    eventually("the demo prints a command", PATIENCE, || {
        assert!(process.exit_status().is_none(), "the demo ended");
        String::from_utf8_lossy(&process.stdout()).contains("curl ")
    });
    let printed = settles("the demo has said what to try", || process.stdout());
    (process, String::from_utf8_lossy(&printed).into_owned())
}

/// The curl commands of a text, continued lines joined.
fn commands(printed: &str) -> Vec<String> {
    let joined = printed.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim().trim_start_matches("$ ").trim());
    lines.filter(|line| line.starts_with("curl ")).map(str::to_owned).collect()
}

fn run(command: &str) -> Ran {
    let mut shell = tool("sh");
    shell.args(["-c", command]);
    Ran::to_end(&mut shell, "curl").assert_code(0)
}

#[test]
fn the_printed_commands_work_as_printed_and_ctrl_c_ends_it() {
    let (mut process, printed) = start();
    let commands = commands(&printed);
    assert!(commands.len() >= 2, "{printed}");
    let answers: Vec<_> = commands.iter().map(|command| run(command).stdout).collect();
    for (command, answer) in commands.iter().zip(&answers) {
        assert!(answer.contains('{'), "{command} is answered in JSON: {answer}");
    }
    assert!(answers.iter().any(|answer| answer.contains("wlt_1")), "the wallet is there: {answers:#?}");
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
}

#[test]
fn the_demo_has_a_key_for_each_environment() {
    let (_process, printed) = start();
    let command = commands(&printed)
        .into_iter()
        .find(|command| command.contains("wlt_1") && command.contains("sk_"))
        .expect("a command with a key reads the wallet");
    let at = command.find("sk_").unwrap();
    let used = &command[at..at + 72];
    for spelling in ["sk_live_", "sk_test_"] {
        let at = printed.find(spelling).unwrap_or_else(|| panic!("no {spelling} key in {printed}"));
        let answer = run(&command.replace(used, &printed[at..at + 72])).stdout;
        assert!(answer.contains("\"data\"") && answer.contains("wlt_1"), "{spelling}: {answer}");
    }
}
