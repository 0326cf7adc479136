//! Settings from several places, laid over each other, each remembered with its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::error::{ConfigError, Origin};
use super::raw::Raw;

/// The file that holds every default.
pub(super) const DEFAULTS: &str = include_str!("../../config/keygate.toml");

/// Variables that begin like settings and belong to the commands that talk to the admin API.
const COMMAND_VARIABLES: [&str; 2] = ["KEYGATE_ADMIN_URL", "KEYGATE_ADMIN_CA_FILE"];
const VARIABLE_PREFIX: &str = "KEYGATE_";

/// Where settings come from, beside the defaults. Later ones override earlier ones, in the order of the fields.
#[derive(Debug, Default)]
pub struct Sources {
    /// What the command itself sets, as `keygate demo` does.
    pub preset: Option<Preset>,
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// The environment; names that do not begin with `KEYGATE_` are ignored.
    pub env: BTreeMap<String, String>,
    /// Flags that were given.
    pub flags: Vec<Flag>,
    /// Whether no upstream need be set, because the command brings its own.
    pub brings_upstream: bool,
}

/// What a command sets by itself.
#[derive(Clone, Debug)]
pub struct Preset {
    /// As it stands in messages, for example `keygate demo`.
    pub name: &'static str,
    /// Setting and value. May hold a secret.
    pub settings: Vec<(&'static str, String)>,
}

/// A flag that was given.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it is spelled, with its dashes.
    pub flag: &'static str,
    /// The setting that it sets.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
}

/// The layers as one table, and where each value in it came from.
pub(super) struct Layers {
    table: Table,
    defaults: Table,
    origins: BTreeMap<String, Origin>,
    /// Paths of all settings, as `cache.ttl_s`.
    known: BTreeSet<String>,
    errors: Vec<ConfigError>,
}

impl Layers {
    /// The embedded file alone.
    pub(super) fn defaults() -> Layers {
        let defaults: Table = toml::from_str(DEFAULTS).expect("a test reads the embedded file");
        let raw = Raw::deserialize(defaults.clone()).expect("a test reads the embedded file");
        let names = serde_json::to_value(&raw).expect("settings are plain data");
        let mut known = BTreeSet::new();
        collect_paths(&names, "", &mut known);
        Layers { table: defaults.clone(), defaults, origins: BTreeMap::new(), known, errors: Vec::new() }
    }

    /// Lays all `sources` over the defaults.
    pub(super) fn of(sources: &Sources) -> Layers {
        let mut layers = Layers::defaults();
        if let Some(preset) = &sources.preset {
            for (setting, value) in &preset.settings {
                layers.set_text(setting, value, Origin::Preset(preset.name));
            }
        }
        if let Some(path) = &sources.file {
            match std::fs::read_to_string(path) {
                Ok(text) => layers.lay_file(&text, path),
                Err(source) => layers.errors.push(ConfigError::Unreadable { path: path.clone(), source }),
            }
        }
        for (name, value) in &sources.env {
            layers.lay_variable(name, value);
        }
        for Flag { flag, setting, value } in &sources.flags {
            layers.set_text(setting, value, Origin::Flag(flag));
        }
        layers
    }

    /// Lays a TOML text over what is there.
    pub(super) fn lay_file(&mut self, text: &str, path: &Path) {
        let parsed = DeTable::parse(text).and_then(|spans| Ok((spans, toml::from_str::<Table>(text)?)));
        match parsed {
            Ok((spans, values)) => self.lay_table(&values, spans.get_ref(), "", &|offset| Origin::File {
                path: path.to_owned(),
                line: line_of(text, offset),
            }),
            Err(error) => self.errors.push(ConfigError::Syntax {
                path: path.to_owned(),
                line: line_of(text, error.span().map_or(0, |span| span.start)),
                what: error.message().to_owned(),
            }),
        }
    }

    fn lay_table(&mut self, table: &Table, spans: &DeTable<'_>, parent: &str, at: &dyn Fn(usize) -> Origin) {
        for (key, span) in spans {
            let name = key.get_ref().as_ref();
            let Some(value) = table.get(name) else { continue };
            let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
            let origin = at(key.span().start);
            match (value, span.get_ref()) {
                _ if name.contains('.') => self.unknown(path, origin),
                (Value::Table(inner), DeValue::Table(spans)) if self.is_section(&path) => {
                    self.lay_table(inner, spans, &path, at);
                }
                _ if self.is_section(&path) => {
                    self.invalid(&path, origin, format!("expected a table, as [{path}]"))
                }
                _ if self.known.contains(&path) => self.set(&path, value.clone(), origin),
                _ => self.unknown(path, origin),
            }
        }
    }

    fn lay_variable(&mut self, name: &str, value: &str) {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { return };
        let orchestration = is_service_variable(rest, value);
        if value.is_empty() || COMMAND_VARIABLES.contains(&name) || orchestration {
            return;
        }
        let path = rest.to_ascii_lowercase().replace("__", ".");
        self.set_text(&path, value, Origin::Environment(name.to_owned()));
    }

    /// Sets from text, as the environment and flags have it; the default's type says what the text means.
    fn set_text(&mut self, path: &str, text: &str, origin: Origin) {
        if !self.known.contains(path) {
            let name = match &origin {
                Origin::Environment(name) => name.clone(),
                _ => path.to_owned(),
            };
            return self.unknown(name, origin);
        }
        let value = match lookup(&self.defaults, path) {
            Some(Value::Integer(_)) => text.trim().parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.trim().parse().ok().map(Value::Boolean),
            _ => Some(Value::String(text.to_owned())),
        };
        match (value, lookup(&self.defaults, path)) {
            (Some(value), _) => self.set(path, value, origin),
            (None, Some(Value::Boolean(_))) => self.invalid(path, origin, "expected true or false"),
            (None, _) => self.invalid(path, origin, "expected a whole number, not negative"),
        }
    }

    /// Sets a known path.
    fn set(&mut self, path: &str, value: Value, origin: Origin) {
        put(&mut self.table, path, Some(value));
        self.origins.insert(path.to_owned(), origin);
    }

    fn is_section(&self, path: &str) -> bool {
        matches!(self.defaults.get(path), Some(Value::Table(_)))
    }

    fn unknown(&mut self, name: String, origin: Origin) {
        let from_environment = matches!(origin, Origin::Environment(_));
        let spell = |path: &String| if from_environment { variable_of(path) } else { path.clone() };
        let nearest = self
            .known
            .iter()
            .map(|path| (distance(&spell(path), &name), spell(path)))
            .min()
            .filter(|(distance, spelled)| *distance <= 2 + spelled.len() / 5)
            .map(|(_, spelled)| spelled);
        self.errors.push(ConfigError::Unknown { name, origin, nearest });
    }

    fn invalid(&mut self, path: &str, origin: Origin, what: impl Into<String>) {
        self.errors.push(ConfigError::Invalid { field: path.to_owned(), origin, what: what.into() });
    }

    /// The settings as they are written, and what was wrong with them so far. A value of the wrong type is
    /// replaced by its default, so that the rest can be judged too.
    pub(super) fn read(mut self) -> (Raw, BTreeMap<String, Origin>, Vec<ConfigError>) {
        loop {
            match serde_path_to_error::deserialize(Value::Table(self.table.clone())) {
                Ok(raw) => return (raw, self.origins, self.errors),
                Err(error) => {
                    let path = error.path().to_string();
                    let origin = self.origins.get(&path).cloned().unwrap_or(Origin::Default);
                    self.invalid(&path, origin, error.inner().message().to_owned());
                    put(&mut self.table, &path, lookup(&self.defaults, &path).cloned());
                }
            }
        }
    }
}

/// The variable that sets `path`.
pub(super) fn variable_of(path: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// Kubernetes tells each container of every service beside it, as `KEYGATE_SERVICE_HOST=10.0.0.7` and
/// `KEYGATE_PORT=tcp://10.0.0.7:8080` for a service named keygate: these are not settings.
fn is_service_variable(rest: &str, value: &str) -> bool {
    let is_port = |part: &str| {
        let mut words = part.split('_');
        let number =
            words.next().is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()));
        number
            && words.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
            && words.next().is_none_or(|what| matches!(what, "PROTO" | "PORT" | "ADDR"))
    };
    rest.ends_with("SERVICE_HOST")
        || rest.ends_with("SERVICE_PORT")
        || rest.contains("SERVICE_PORT_")
        || rest.split_once("PORT_").is_some_and(|(_, part)| is_port(part))
        || (rest.ends_with("PORT") && value.contains("://"))
}

fn collect_paths(value: &serde_json::Value, parent: &str, paths: &mut BTreeSet<String>) {
    let serde_json::Value::Object(members) = value else {
        paths.insert(parent.to_owned());
        return;
    };
    for (name, member) in members {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        collect_paths(member, &path, paths);
    }
}

fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((section, rest)) => table.get(section)?.as_table()?.get(rest),
        None => table.get(path),
    }
}

/// Puts a value at a known path; `None` takes it away.
fn put(table: &mut Table, path: &str, value: Option<Value>) {
    let (table, name) = match path.split_once('.') {
        Some((section, rest)) => match table.get_mut(section) {
            Some(Value::Table(inner)) => (inner, rest),
            _ => return,
        },
        None => (table, path),
    };
    match value {
        Some(value) => table.insert(name.to_owned(), value),
        None => table.remove(name),
    };
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// Levenshtein's distance, in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != b)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn variables_of_an_orchestrator_are_not_settings() {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.7"),
            ("SERVICE_PORT_HTTP", "8080"),
            ("REDIS_SERVICE_PORT", "6379"),
            ("PORT", "tcp://10.0.0.7:8080"),
            ("PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.7"),
        ] {
            assert!(is_service_variable(name, value), "{name}");
        }
        for (name, value) in [("PORT", "8080"), ("LISTEN", "127.0.0.1:1"), ("PORT_8080", "x")] {
            assert!(!is_service_variable(name, value), "{name}");
        }
    }
}
