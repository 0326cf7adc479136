//! The receipt of a revocation, as a sentence.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{GatewayId, Timestamp};

use super::card::{Key, not_understood};
use super::failure::Failure;
use super::table::{printable, time};

/// How far a revocation has come, as the admin API says it.
#[derive(Debug, Deserialize)]
struct Receipt {
    newly_revoked: bool,
    acknowledged: u64,
    gateways: u64,
    elapsed_ms: u64,
    unacknowledged: Vec<Name>,
    #[serde(default = "yes")]
    roll_read: bool,
    effective_by: Timestamp,
    durable: bool,
    durable_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Name {
    id: GatewayId,
    name: String,
    version: String,
}

fn yes() -> bool {
    true
}

/// What was revoked, who has stopped accepting it, and what is not certain.
pub(super) fn receipt(revoked: &Value, now: Timestamp) -> Result<String, Failure> {
    let key = Key::read(revoked)?;
    let receipt = Receipt::deserialize(&revoked["revocation"]);
    let receipt = receipt.map_err(|error| not_understood(&error.to_string()))?;
    let (id, label) = (key.id, printable(&key.label));
    let mut text = match (receipt.newly_revoked, key.revoked_at) {
        (false, Some(before)) => format!("{id} ({label}) was revoked before, {}: ", time(before, now)),
        _ => format!("{id} ({label}) is revoked, for ever: "),
    };
    text += &format!(
        "{} of {} gateways stopped accepting it in {} ms.",
        receipt.acknowledged, receipt.gateways, receipt.elapsed_ms
    );
    if !receipt.unacknowledged.is_empty() {
        let names = receipt.unacknowledged.iter();
        let names: Vec<String> = names
            .map(|who| format!("{} ({}, {})", printable(&who.name), who.id, printable(&who.version)))
            .collect();
        text += &format!(" Not heard from: {}.", names.join(", "));
    }
    if !receipt.roll_read {
        text += " The roll of gateways could not be read, so that there may be others.";
    }
    if !receipt.unacknowledged.is_empty() || !receipt.roll_read {
        text += &format!(" It holds everywhere by {} at the latest.", receipt.effective_by);
    }
    if !receipt.durable {
        let reason = receipt.durable_reason.as_deref().unwrap_or("the store does not say");
        text += &format!(" A crash of the store could undo it: {}.", printable(reason.trim_end_matches('.')));
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_060_000);

    fn said(change: impl FnOnce(&mut Value)) -> String {
        let mut revoked = json!({
            "id": "key_00000000000000000000", "label": "Server", "team": "acme", "environment": "live",
            "display": "sk_live_0000…0000", "created_at": "2025-11-24T15:00:00Z",
            "revoked_at": "2025-11-24T16:00:00Z", "status": "revoked",
            "revocation": {
                "newly_revoked": true, "effective_on_this_gateway": true, "acknowledged": 3, "gateways": 3,
                "elapsed_ms": 6, "unacknowledged": [], "effective_by": "2025-11-24T16:00:00.006Z",
                "durable": true, "durable_reason": null,
            },
        });
        change(&mut revoked["revocation"]);
        receipt(&revoked, NOW).unwrap()
    }

    #[test]
    fn a_receipt_is_a_sentence() {
        let who = "key_00000000000000000000 (Server)";
        assert_eq!(
            said(|_| ()),
            format!("{who} is revoked, for ever: 3 of 3 gateways stopped accepting it in 6 ms.\n")
        );
        assert_eq!(
            said(|receipt| receipt["newly_revoked"] = false.into()),
            format!(
                "{who} was revoked before, 2025-11-24T16:00:00.000Z (60 seconds ago): 3 of 3 gateways stopped \
                 accepting it in 6 ms.\n"
            )
        );
    }

    #[test]
    fn a_receipt_says_what_is_not_certain() {
        let silent = json!([{ "id": "gw_000000000000beef", "name": "host:8080", "version": "0.1.0" }]);
        let text = said(|receipt| {
            receipt["acknowledged"] = 2.into();
            receipt["elapsed_ms"] = 2500.into();
            receipt["unacknowledged"] = silent;
            receipt["effective_by"] = "2025-11-24T16:05:00Z".into();
        });
        assert!(
            text.ends_with(
                "2 of 3 gateways stopped accepting it in 2500 ms. Not heard from: host:8080 (gw_000000000000beef, \
                 0.1.0). It holds everywhere by 2025-11-24T16:05:00.000Z at the latest.\n"
            ),
            "{text}"
        );
        let text = said(|receipt| {
            receipt["durable"] = false.into();
            receipt["durable_reason"] = "appendfsync is everysec".into();
        });
        assert!(text.ends_with(" A crash of the store could undo it: appendfsync is everysec.\n"), "{text}");
        let text = said(|receipt| receipt["roll_read"] = false.into());
        assert!(text.contains("could not be read") && text.contains("It holds everywhere by"), "{text}");
    }
}
