//! Where a run was: figures of two machines are not to be compared.

use std::fmt;
use std::fs;

use serde::Serialize;

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
    pub kernel: String,
    pub memory_bytes: u64,
}

impl Machine {
    pub fn here() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown CPU").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal").and_then(kilobytes).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, memory_bytes } = self;
        let gigabytes = *memory_bytes as f64 / f64::from(1 << 30);
        write!(f, "{cpu}, {cores} cores, {gigabytes:.0} GiB, {kernel}")
    }
}

/// The first value of this name, as `/proc` writes it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn kilobytes(value: &str) -> Option<u64> {
    Some(value.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "processor\t: 0\nmodel name\t: A: b\nmodel name\t: c\nMemTotal:  16 kB\n";
        assert_eq!(field(text, "model name"), Some("A: b"));
        assert_eq!(field(text, "MemTotal").and_then(kilobytes), Some(16_384));
        assert_eq!(field(text, "absent"), None);
    }
}
