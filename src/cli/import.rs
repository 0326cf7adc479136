//! `keygate keys import`: reading a file of keys, and sending it in pieces.

use std::path::Path;

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::keys::{ImportedKey, without_keys};
use crate::model::Timestamp;

use super::World;
use super::api::Api;
use super::failure::Failure;

/// Keys in one request: far below the API's limit of size, and done long before its caller gives up.
const BATCH: usize = 1000;
/// Wrong lines that are named; a file with more has one mistake, not many.
const MAX_NAMED: usize = 50;

/// Imports a file; what was done, as `{"created": …, "already_there": …}`. Nothing is sent if any line is wrong.
pub(super) fn import(
    api: &Api,
    file: &Path,
    world: &mut World<'_>,
    now: Timestamp,
) -> Result<Value, Failure> {
    let text = read_file(file, world)?;
    let keys = parse(&text, now).map_err(|wrong| {
        let named: String =
            wrong.iter().take(MAX_NAMED).map(|(line, what)| format!("\n  line {line}: {what}")).collect();
        let file = file.display();
        Failure::other(anyhow!(
            "{file}: {} lines cannot be imported; nothing was imported:{named}",
            wrong.len()
        ))
    })?;
    let (mut created, mut already_there) = (0, 0);
    for batch in keys.chunks(BATCH) {
        let done = api.post("/v1/keys/import", &json!({ "keys": batch })).map_err(|failure| match failure {
            Failure::Failed { code, error } => Failure::with_code(
                code,
                anyhow!(
                    "{} of {} keys were imported, then: {error}; the whole import can be repeated without harm",
                    created + already_there,
                    keys.len()
                ),
            ),
            Failure::OutputClosed => failure,
        })?;
        created += done["created"].as_u64().unwrap_or(0);
        already_there += done["already_there"].as_u64().unwrap_or(0);
    }
    Ok(json!({ "created": created, "already_there": already_there }))
}

fn read_file(file: &Path, world: &mut World<'_>) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => world.input.read_to_string(&mut text).map(|_| text),
        false => std::fs::read_to_string(file),
    };
    read.map_err(|error| Failure::other(anyhow!("{}: cannot be read: {error}", file.display())))
}

/// The keys, or each wrong line with what is wrong with it. Messages do not repeat what stands there: it may be a key.
fn parse(text: &str, now: Timestamp) -> Result<Vec<ImportedKey>, Vec<(usize, String)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = text.trim_start().starts_with('{');
    let (mut keys, mut wrong) = (Vec::new(), Vec::new());
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if !is_json && keys.is_empty() && wrong.is_empty() && line.to_ascii_lowercase().starts_with("sha256,")
        {
            continue;
        }
        let key = if is_json { from_json(line) } else { from_csv(line) };
        match key.and_then(|key| key.check(now).map(|()| key).map_err(|error| error.to_string())) {
            Ok(key) => keys.push(key),
            Err(what) => wrong.push((number, what)),
        }
    }
    if wrong.is_empty() { Ok(keys) } else { Err(wrong) }
}

fn from_json(line: &str) -> Result<ImportedKey, String> {
    serde_json::from_str(line).map_err(|error| {
        let message = without_keys(&error.to_string());
        // The line that serde means is always the first: we know better which it is.
        message.split(" at line ").next().unwrap_or_default().to_owned()
    })
}

fn from_csv(line: &str) -> Result<ImportedKey, String> {
    let cells = split_csv(line)?;
    let (sha256, label, environment, team) = match cells.as_slice() {
        [sha256, label, environment] => (sha256, label, environment, None),
        [sha256, label, environment, team] => (sha256, label, environment, Some(team.trim())),
        _ => return Err(format!("has {} columns; expected sha256,label,environment[,team]", cells.len())),
    };
    Ok(ImportedKey {
        sha256: sha256.trim().parse().map_err(|error| format!("sha256: {error}"))?,
        label: label.clone(),
        team: team.filter(|team| !team.is_empty()).map(str::to_owned),
        environment: environment.trim().parse().map_err(|error| format!("environment: {error}"))?,
        display: None,
        created_at: None,
        expires_at: None,
    })
}

/// The cells of one line, as RFC 4180 has them; a cell cannot go over several lines.
fn split_csv(line: &str) -> Result<Vec<String>, String> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        cells.push(cell);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(cells),
            None => return Err("has text behind a closing quote".to_owned()),
        }
    }
}

/// What stands before the closing quote, and what behind it. Two quotes are one that does not close.
fn quoted_cell(text: &str) -> Result<(String, &str), String> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let (before, behind) =
            rest.split_once('"').ok_or_else(|| "has a quote that is not closed".to_owned())?;
        cell.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                cell.push('"');
                rest = next;
            }
            None => return Ok((cell, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Environment;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn hash(digit: char) -> String {
        String::from(digit).repeat(64)
    }

    #[test]
    fn csv_and_json_lines_mean_the_same() {
        let (a, b) = (hash('a'), hash('b'));
        let csv = format!(
            "\u{feff}sha256,label,environment,team\r\n{a},Server,live,acme\r\n\r\n{b},\"A, \"\"B\"\"\",sandbox\r\n"
        );
        let json = format!(
            "{{\"sha256\":\"{a}\",\"label\":\"Server\",\"environment\":\"live\",\"team\":\"acme\"}}\n\
             {{\"sha256\":\"{b}\",\"label\":\"A, \\\"B\\\"\",\"environment\":\"sandbox\"}}\n"
        );
        let keys = parse(&csv, NOW).unwrap();
        assert_eq!(keys, parse(&json, NOW).unwrap());
        assert_eq!((keys[1].label.as_str(), keys[1].environment), ("A, \"B\"", Environment::Sandbox));
        assert_eq!((keys[0].team.as_deref(), keys[1].team.as_deref()), (Some("acme"), None));
    }

    #[test]
    fn each_wrong_line_is_named_and_not_repeated() {
        let key = format!("sk_live_{}", hash('0'));
        let csv = format!(
            "{},ok,live\n{key},a,live\n{},b,prod\n\n{},,live\nc\n{},\"d,live",
            hash('1'),
            hash('2'),
            hash('3'),
            hash('4')
        );
        let wrong = parse(&csv, NOW).unwrap_err();
        let lines: Vec<_> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 5, 6, 7], "{wrong:?}");
        assert!(!format!("{wrong:?}").contains("sk_live"));
        let json = format!("{{\"sha256\":\"{}\"}}\n{{\"{key}\":1}}\n{{\n", hash('5'));
        let wrong = parse(&json, NOW).unwrap_err();
        assert_eq!(wrong.len(), 3);
        assert!(!format!("{wrong:?}").contains(&hash('0')));
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "(\\{|sha256|\"|,|[a-f0-9]{64}|live|\n|.){0,40}") {
            let _ = parse(&text, NOW);
        }
    }
}
