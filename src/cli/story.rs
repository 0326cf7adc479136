//! How often a key was used, and what happened to it, as people see it.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{KeyId, Timestamp};

use super::card::not_understood;
use super::failure::Failure;
use super::table::{Table, printable, time};

/// From little to much.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NONE: char = '·';

#[derive(Deserialize)]
struct Usage {
    days: Vec<Day>,
}

#[derive(Deserialize)]
struct Day {
    date: String,
    uses: u64,
    refusals: u64,
}

#[derive(Deserialize)]
struct Happening {
    at: Timestamp,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum What {
    Created {
        replaces: Option<KeyId>,
    },
    Imported,
    Renamed {
        from: String,
        to: String,
    },
    ExpiryChanged {
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    },
    Rotated {
        replaced_by: KeyId,
        retires_at: Timestamp,
    },
    Revoked,
    #[serde(other)]
    Other,
}

/// A line for the uses of each day, and one for the refusals if there were any.
pub(super) fn uses(usage: &Value) -> Result<String, Failure> {
    let Usage { days } = Usage::deserialize(usage).map_err(|error| not_understood(&error.to_string()))?;
    let since = days.first().map(|day| printable(&day.date)).unwrap_or_default();
    let line = |name: &str, counts: Vec<u64>| {
        let (total, most) = (counts.iter().sum::<u64>(), counts.iter().max().copied().unwrap_or(0));
        format!("{name:<13}{}  {total} since {since}, at most {most} a day\n", spark(&counts))
    };
    let mut text = line("day by day", days.iter().map(|day| day.uses).collect());
    if days.iter().any(|day| day.refusals > 0) {
        text += &line("refused", days.iter().map(|day| day.refusals).collect());
    }
    Ok(text)
}

/// A bar for each count.
fn spark(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let bar = |&count: &u64| match count {
        0 => NONE,
        // Rounded up: what happened is seen.
        _ => BARS[((u128::from(count) * 8).div_ceil(u128::from(most)) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(bar).collect()
}

/// A row for each thing that happened, the oldest first.
pub(super) fn past(history: &Value, now: Timestamp) -> Result<String, Failure> {
    let happenings =
        Vec::<Happening>::deserialize(history).map_err(|error| not_understood(&error.to_string()))?;
    let moment =
        |moment: Option<Timestamp>| moment.map_or_else(|| "never".to_owned(), |moment| moment.to_string());
    let mut table = Table::new(["HISTORY", ""]);
    for Happening { at, what } in happenings {
        let what = match what {
            What::Created { replaces: None } => "created".to_owned(),
            What::Created { replaces: Some(old) } => format!("created, in the place of {old}"),
            What::Imported => "imported".to_owned(),
            What::Renamed { from, to } => {
                format!("renamed from “{}” to “{}”", printable(&from), printable(&to))
            }
            What::ExpiryChanged { from, to } => format!("expires: {}, before: {}", moment(to), moment(from)),
            What::Rotated { replaced_by, retires_at } => {
                format!("rotated: {replaced_by} takes its place, and it ends at {retires_at}")
            }
            What::Revoked => "revoked".to_owned(),
            What::Other => "something that this version does not know".to_owned(),
        };
        table.row([time(at, now), what]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_happened_is_seen() {
        assert_eq!(spark(&[0, 1, 500, 1_000]), "·▁▄█");
        assert_eq!(spark(&[0, 0]), "··");
        assert_eq!(spark(&[u64::MAX, 1]), "█▁");
        assert_eq!(spark(&[]), "");
    }

    #[test]
    fn a_history_of_a_newer_gateway_is_shown_as_far_as_it_is_known() {
        let history = serde_json::json!([
            { "at": "2025-11-24T16:00:00.000Z", "what": "created", "replaces": null },
            { "at": "2025-11-24T16:00:00.000Z", "what": "blessed", "by": "whom" },
        ]);
        let text = past(&history, Timestamp::from_millis(1_764_000_000_000)).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("created\n") && text.contains("does not know"), "{text}");
    }
}
