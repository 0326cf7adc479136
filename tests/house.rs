//! The order of the house, held true: who may import whom, and a few things that have no place in `src/`.
//!
//! Every file under `src/` has a floor. It imports from lower floors, and on its own floor only from its own room.
//! The checker reads tokens, not types: paths that begin with `crate`, `super`, `self` or the crate's name are
//! followed, also inside macros, test modules and attributes that hold a path as text.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// The rooms of each floor, from the ground up. A room is a folder or a file directly under `src/`.
const FLOORS: [&[&str]; 5] = [
    &["model", "allocator", "clock", "backoff", "testing"],
    &["config", "observe", "store", "events"],
    &["verify", "usage", "keys", "roll", "people", "tls"],
    &["proxy", "admin", "demo"],
    &["app", "cli", "main"],
];

/// Floors whose rooms may import each other: the vocabulary is one language, the composition one place.
const OPEN_FLOORS: [usize; 2] = [0, 4];

/// What the vocabulary must not know.
const UNKNOWN_ON_THE_GROUND: [&str; 3] = ["tokio", "hyper", "redis"];

const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];
const CRATE: &str = "keygate";
const MAX_LINES: usize = 1_000;

#[test]
fn every_file_keeps_to_its_floor() {
    let sources = read_sources();
    assert!(
        sources.contains_key("src/main.rs") && sources.contains_key("src/model/mod.rs"),
        "found no house"
    );
    let faults: Vec<Fault> = sources.iter().flat_map(|(path, source)| check(path, source)).collect();
    let list: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(faults.is_empty(), "\n{}\n", list.join("\n"));
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there")
}

#[test]
fn every_metric_that_operators_are_told_of_exists() {
    let metrics = read("src/observe/metrics.rs");
    for file in ["deploy/prometheus/alerts.yml", "deploy/prometheus/alerts_test.yml", "docs/runbooks.md"] {
        let text = read(file);
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        for word in words.filter(|word| word.starts_with("keygate_")) {
            let name =
                ["_bucket", "_sum", "_count"].iter().fold(word, |name, end| name.trim_end_matches(end));
            assert!(metrics.contains(&format!("\"{name}\"")), "{file} speaks of {word}, which is no metric");
        }
    }
}

#[test]
fn every_alert_has_its_runbook() {
    let (alerts, runbooks) = (read("deploy/prometheus/alerts.yml"), read("docs/runbooks.md"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for name in names {
        let link = format!("runbook: docs/runbooks.md#{}", name.to_lowercase());
        assert!(
            alerts.lines().any(|line| line.trim() == link),
            "{name} points at no runbook: expected `{link}`"
        );
        assert!(
            runbooks.lines().any(|line| line == format!("## {name}")),
            "docs/runbooks.md says nothing of {name}"
        );
        count += 1;
    }
    assert_eq!(
        count,
        runbooks.lines().filter(|line| line.starts_with("## ")).count(),
        "a section is about no alert"
    );
}

/// Every Rust file under `src/`, by its path from the crate's root.
fn read_sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src/ can be read") {
            let path = entry.expect("src/ can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("it was found below the root");
                let source = fs::read_to_string(&path).expect("a source file is UTF-8");
                sources.insert(name.to_string_lossy().into_owned(), source);
            }
        }
    }
    sources
}

/// One thing that is not in order.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Everything that is not in order in one file.
fn check(path: &str, source: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |line, what| faults.push(Fault { path: path.to_owned(), line, what });
    let module = module_of(path);
    let room = module.first().map_or_else(|| root_file(path), String::clone);
    if source.lines().count() > MAX_LINES {
        fault(MAX_LINES + 1, format!("the file has more than {MAX_LINES} lines"));
    }
    let tokens = tokens(source);
    for (line, what) in habits(&tokens, &room) {
        fault(line, what);
    }
    // The crate's root declares every room and so stands above them.
    if room != "lib" {
        match floor_of(&room) {
            None => fault(1, format!("`{room}` has no floor: give it one in FLOORS")),
            Some(floor) => {
                for import in imports(&tokens, &module) {
                    if let Some(what) = judge(&room, floor, &import) {
                        fault(import.line, what);
                    }
                }
            }
        }
    }
    faults
}

/// What is wrong with an import from `room` on `floor`, if anything.
fn judge(room: &str, floor: usize, import: &Import) -> Option<String> {
    let written = &import.written;
    let Some(target) = import.target.as_deref() else {
        return Some(format!("`{written}` names the whole crate: name a room"));
    };
    let Some(target_floor) = floor_of(target) else {
        return Some(format!("`{written}`: `{target}` is no room of FLOORS"));
    };
    if target == room || target_floor < floor || (target_floor == floor && OPEN_FLOORS.contains(&floor)) {
        return None;
    }
    Some(if target_floor > floor {
        format!(
            "`{written}`: `{room}` (floor {floor}) imports upward from `{target}` (floor {target_floor}); a file imports only from lower floors"
        )
    } else {
        format!(
            "`{written}`: `{room}` imports sideways from `{target}` (both floor {floor}); within a floor a file imports only from its own room"
        )
    })
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The module that a file is: `src/store/redis.rs` is `store::redis`, the crate's roots are nothing.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && ["lib", "main"].contains(&module[0].as_str());
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

fn root_file(path: &str) -> String {
    path.trim_start_matches("src/").trim_end_matches(".rs").to_owned()
}

/// What has no place in `src/`, wherever it is imported from.
fn habits(tokens: &[Token], room: &str) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let Kind::Ident(name) = &token.kind else { continue };
        let follows = |symbol| tokens.get(i + 1).is_some_and(|next| next.kind == Kind::Symbol(symbol));
        let crate_name = name.split('_').next().unwrap_or_default();
        if floor_of(room) == Some(0) && UNKNOWN_ON_THE_GROUND.contains(&crate_name) {
            faults.push((token.line, format!("`{name}`: floor 0 does not know {crate_name}")));
        }
        if UNFINISHED.contains(&name.as_str()) && follows('!') {
            faults.push((token.line, format!("`{name}!` is for work that is not finished")));
        }
        if name == "disallowed_methods" && room != "clock" {
            faults.push((token.line, "only clock.rs may allow itself a raw clock".to_owned()));
        }
        if name == "path" && i >= 2 && tokens[i - 1].kind == Kind::Symbol('[') && follows('=') {
            faults.push((token.line, "`#[path]` hides on which floor a file lives".to_owned()));
        }
    }
    faults
}

/// A path that leads into the crate.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    /// As it stands in the file, groups taken apart.
    written: String,
    /// The room, or nothing if the path stops at the crate's root or takes all of it.
    target: Option<String>,
}

fn imports(tokens: &[Token], file: &[String]) -> Vec<Import> {
    let mut imports = Vec::new();
    // The inline modules that are open, each with the depth of its brace.
    let (mut inline, mut depth) = (Vec::<(String, usize)>::new(), 0_usize);
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i].kind {
            Kind::Symbol('{') => depth += 1,
            Kind::Symbol('}') => {
                depth = depth.saturating_sub(1);
                inline.retain(|(_, opened_at)| *opened_at <= depth);
            }
            Kind::Ident(word) if word == "mod" => {
                if let (Some(Kind::Ident(name)), Some(Kind::Symbol('{'))) =
                    (kind(tokens, i + 1), kind(tokens, i + 2))
                {
                    inline.push((name.clone(), depth + 1));
                }
            }
            Kind::Ident(word) if begins_a_path(tokens, i, word) => {
                let mut leaves = Vec::new();
                let end = read_tree(tokens, i, &mut Vec::new(), &mut leaves);
                let here: Vec<&str> = file
                    .iter()
                    .map(String::as_str)
                    .chain(inline.iter().map(|(name, _)| name.as_str()))
                    .collect();
                for (line, path) in leaves {
                    let target = resolve(&path, &here);
                    imports.push(Import { line, written: path.join("::"), target });
                }
                i = end;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    imports
}

/// Whether a path that this checker follows begins at token `i`, which is `word`.
fn begins_a_path(tokens: &[Token], i: usize, word: &str) -> bool {
    let goes_on = kind(tokens, i + 1) == Some(&Kind::PathSeparator);
    match word {
        // `use crate as everything;`, but not `pub(crate)`.
        "crate" => goes_on || kind(tokens, i + 1) == Some(&Kind::Ident("as".to_owned())),
        "super" | "self" | CRATE => goes_on,
        _ => false,
    }
}

/// Reads a path, or a tree of them in braces; returns where it ends.
fn read_tree(
    tokens: &[Token],
    mut i: usize,
    path: &mut Vec<String>,
    leaves: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    loop {
        let line = tokens.get(i).or(tokens.last()).map_or(1, |token| token.line);
        match kind(tokens, i) {
            Some(Kind::Ident(segment)) => {
                path.push(segment.clone());
                if kind(tokens, i + 1) == Some(&Kind::PathSeparator) {
                    i += 2;
                    continue;
                }
                leaves.push((line, path.clone()));
                return i + 1;
            }
            Some(Kind::Symbol('*')) => {
                path.push("*".to_owned());
                leaves.push((line, path.clone()));
                return i + 1;
            }
            Some(Kind::Symbol('{')) => {
                i += 1;
                loop {
                    match kind(tokens, i) {
                        None => return i,
                        Some(Kind::Symbol('}')) => return i + 1,
                        // Commas, and the words after an `as`.
                        Some(Kind::Symbol(',')) => i += 1,
                        Some(Kind::Ident(word)) if word == "as" => i += 2,
                        Some(Kind::Ident(_) | Kind::Symbol('{' | '*')) => {
                            i = read_tree(tokens, i, &mut path.clone(), leaves);
                        }
                        Some(_) => i += 1,
                    }
                }
            }
            // A turbofish, for example: the path before it counts.
            _ => {
                leaves.push((line, path.clone()));
                return i;
            }
        }
    }
}

/// The room into which `path` leads when it stands in the module `here`.
fn resolve(path: &[String], here: &[&str]) -> Option<String> {
    let first = path.first()?.as_str();
    let mut at: Vec<&str> = if first == "crate" || first == CRATE { Vec::new() } else { here.to_vec() };
    let rest = if first == "crate" || first == CRATE { &path[1..] } else { path };
    for segment in rest {
        match segment.as_str() {
            "self" => {}
            "super" => {
                at.pop();
            }
            name => at.push(name),
        }
    }
    at.first().filter(|&&room| room != "*" && room != "as").map(|&room| room.to_owned())
}

/// A piece of source that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Ident(String),
    /// `::`
    PathSeparator,
    Symbol(char),
}

fn kind(tokens: &[Token], i: usize) -> Option<&Kind> {
    tokens.get(i).map(|token| &token.kind)
}

/// The source without comments, numbers, lifetimes and literals. A string that is a path into the crate (as serde's
/// attributes take them) is read as one.
fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0, line: 1, tokens: Vec::new() };
    lexer.run();
    lexer.tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                '/' if self.peek(1) == Some('/') => self.skip_while(|c| c != '\n'),
                '/' if self.peek(1) == Some('*') => self.skip_block_comment(),
                '"' => self.skip_string(0, true),
                '\'' => self.skip_char_or_lifetime(),
                ':' if self.peek(1) == Some(':') => {
                    self.push(Kind::PathSeparator);
                    self.skip(2);
                }
                c if c.is_ascii_digit() => self.skip_while(|c| c.is_alphanumeric() || c == '_'),
                c if c.is_alphabetic() || c == '_' => self.read_word(),
                c => {
                    if !c.is_whitespace() {
                        self.push(Kind::Symbol(c));
                    }
                    self.skip(1);
                }
            }
        }
    }

    /// An identifier, or the prefix of a string.
    fn read_word(&mut self) {
        let start = self.at;
        self.skip_while(|c| c.is_alphanumeric() || c == '_');
        let word: String = self.chars[start..self.at].iter().collect();
        let hashes = self.chars[self.at..].iter().take_while(|&&c| c == '#').count();
        let opens_string = self.peek(hashes) == Some('"');
        match word.as_str() {
            "r" | "br" | "cr" if opens_string => {
                self.skip(hashes);
                self.skip_string(hashes, false);
            }
            // The prefix of a string or of a character, which comes next.
            "b" | "c" if matches!(self.peek(0), Some('"' | '\'')) => {}
            // A raw identifier, which comes next.
            "r" if hashes == 1 => self.skip(1),
            _ => self.push(Kind::Ident(word)),
        }
    }

    /// From the opening quote to behind the closing one and its hashes.
    fn skip_string(&mut self, hashes: usize, escapes: bool) {
        let line = self.line;
        self.skip(1);
        let start = self.at;
        while let Some(c) = self.peek(0) {
            if escapes && c == '\\' {
                self.skip(2);
            } else if c == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                break;
            } else {
                self.skip(1);
            }
        }
        let text: String = self.chars[start..self.at.min(self.chars.len())].iter().collect();
        self.skip(1 + hashes);
        if text.starts_with("crate::") || text.starts_with("super::") {
            self.tokens.extend(tokens(&text).into_iter().map(|token| Token { line, ..token }));
        }
    }

    fn skip_char_or_lifetime(&mut self) {
        if self.peek(1) == Some('\\') {
            self.skip(3);
            self.skip_while(|c| c != '\'');
            self.skip(1);
        } else if self.peek(2) == Some('\'') {
            self.skip(3);
        } else {
            self.skip(1);
            self.skip_while(|c| c.is_alphanumeric() || c == '_');
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.skip(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.skip(1),
            }
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.skip(1);
        }
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at = (self.at + 1).min(self.chars.len());
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { line: self.line, kind });
    }
}

/// The checker, checked: houses that are out of order, and what it must say of them.
mod checker {
    use super::{check, read_sources};

    /// Asserts that exactly the given lines of a file are at fault.
    fn assert_faults(path: &str, source: &str, lines: &[usize]) {
        let faults = check(path, source);
        let found: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(found, lines, "{path}:\n{source}\n{faults:#?}");
    }

    #[test]
    fn an_import_upward_is_caught_in_every_spelling() {
        for source in [
            "use crate::verify::Verifier;",
            "use crate::{model::KeyHash, verify::{self, Verifier}};",
            "use crate::{clock, verify::{cache::{Entry, *}}};",
            "pub(crate) use crate::verify;",
            "use crate::verify as innocent;",
            "fn f() { let x = crate::verify::make::<u8>(); }",
            "fn f(x: Vec<crate::verify::Entry>) {}",
            "use keygate::verify::Verifier;",
            "use ::keygate::verify::Verifier;",
            "use super::super::verify::Verifier;",
            "use self::super::super::verify::Verifier;",
            "use super::super::{config::Config, r#verify::Verifier};",
            "macro_rules! m { () => { $crate::verify::f() } }",
            "#[serde(with = \"crate::verify::form\")] struct S;",
            "impl crate::verify::Trait for S { const QUOTE: char = '\"'; }",
        ] {
            let faults = check("src/store/redis.rs", source);
            assert!(
                faults.iter().any(|fault| fault.what.contains("upward from `verify`")),
                "{source}: {faults:?}"
            );
        }
    }

    #[test]
    fn an_import_sideways_is_caught() {
        assert_faults("src/store/mod.rs", "use crate::events::FeedSink;", &[1]);
        assert_faults("src/keys.rs", "\nuse super::usage::Uses;", &[2]);
        assert_faults("src/admin/mod.rs", "use crate::keys::KeyService;\nuse crate::proxy::respond;", &[2]);
        let fault = check("src/admin/api.rs", "use crate::proxy::respond;").pop().unwrap();
        assert!(fault.to_string().starts_with("src/admin/api.rs:1: `crate::proxy::respond`"), "{fault}");
        assert!(fault.what.contains("sideways from `proxy` (both floor 3)"), "{fault}");
    }

    #[test]
    fn what_is_in_order_passes() {
        let good = r##"
            //! Not a word of crate::proxy counts in a comment. /* nor here */
            use super::{Page, contract::Suite};
            use crate::{clock::{Clock, Tick}, model::*};
            pub(crate) struct Held<'crate_like> { name: &'crate_like str }
            /* use crate::admin; /* nested */ use crate::admin; */
            const TEXT: &str = "use crate::admin; \" use crate::admin";
            const RAW: &str = r#"use crate::proxy; " "#;
            const BYTE: u8 = b'"';
            fn f(&self) -> char { self.g(1..=2); '\'' }
            mod tests { use super::*; mod deeper { use super::super::Page; use super::*; } }
            mod after { use super::Page; }
        "##;
        assert_faults("src/store/sqlite.rs", good, &[]);
        assert_faults("src/clock.rs", "use crate::model::Timestamp;", &[]);
        assert_faults("src/main.rs", "use keygate::{app, cli::Cli};", &[]);
        assert_faults("src/lib.rs", "pub mod proxy;\npub use proxy::Gateway;", &[]);
    }

    #[test]
    fn a_test_module_is_no_way_out() {
        let source = "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::app;\n    use super::super::super::admin::Api;\n}";
        assert_faults("src/store/redis.rs", source, &[4, 5]);
    }

    #[test]
    fn nobody_takes_the_whole_crate() {
        for source in
            ["use crate::*;", "use crate as all;", "use super::*;", "use keygate::*;", "use crate::{self};"]
        {
            assert_faults("src/keys.rs", source, &[1]);
        }
        assert_faults("src/store/mod.rs", "use crate::HiddenReExport;", &[1]);
    }

    #[test]
    fn a_room_needs_a_floor() {
        assert_faults("src/utils/mod.rs", "", &[1]);
        assert_faults("src/helpers.rs", "", &[1]);
    }

    #[test]
    fn the_ground_floor_knows_no_network() {
        assert_faults(
            "src/model/id.rs",
            "//! no tokio here\nuse tokio::time;\ntype T = hyper_util::rt::X;",
            &[2, 3],
        );
        assert_faults("src/clock.rs", "fn f(e: redis::RedisError) {}", &[1]);
        assert_faults("src/store/mod.rs", "use redis::Client;", &[]);
    }

    #[test]
    fn habits_that_have_no_place_are_caught() {
        assert_faults(
            "src/keys.rs",
            "fn f() {\n    todo!()\n}\nfn g() { dbg!(1); unimplemented!() }",
            &[2, 4, 4],
        );
        assert_faults("src/keys.rs", "#![allow(clippy::disallowed_methods)]", &[1]);
        assert_faults("src/clock.rs", "#![allow(clippy::disallowed_methods)]", &[]);
        assert_faults("src/keys.rs", "#[path = \"admin/mod.rs\"]\nmod hidden;", &[1]);
        assert_faults("src/keys.rs", &"\n".repeat(1_000), &[]);
        assert_faults("src/keys.rs", &"\n".repeat(1_001), &[1_001]);
    }

    /// One line added to each real file of the house must be noticed in each.
    #[test]
    fn a_mutant_of_every_real_file_is_caught() {
        for (path, source) in read_sources() {
            if path == "src/lib.rs" {
                continue;
            }
            let before = check(&path, &source).len();
            let mutant = format!("{source}\nuse crate::no_such_room::Thing;\n");
            assert_eq!(check(&path, &mutant).len(), before + 1, "{path}");
        }
    }
}
