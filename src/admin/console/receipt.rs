//! The receipt of a revocation, in sentences.

use crate::keys::RevokedKey;
use crate::model::Timestamp;
use crate::roll::Receipt;
use crate::store::Durability;

use super::view::{Time, relative};

/// How far a revocation has come.
pub(super) struct ReceiptView {
    /// Whether nothing is left to be said but good news.
    pub(super) certain: bool,
    pub(super) headline: String,
    pub(super) sentence: String,
    /// Who did not answer, by name.
    pub(super) silent: String,
    pub(super) roll_unread: bool,
    pub(super) effective_by: Option<Time>,
    pub(super) not_durable: Option<String>,
}

impl ReceiptView {
    pub(super) fn of(revoked: &RevokedKey, receipt: Receipt, now: Timestamp) -> ReceiptView {
        let Receipt { acknowledged, gateways, elapsed, unacknowledged, roll_read, effective_by, durable } =
            receipt;
        let names: Vec<String> = unacknowledged.into_iter().map(|member| member.name).collect();
        let complete = names.is_empty() && roll_read;
        let not_durable = match durable {
            Durability::Durable => None,
            Durability::NotConfirmed(reason) => Some(reason.trim_end_matches('.').to_owned()),
        };
        let headline = match revoked.newly {
            true => "The key is revoked, for ever.".to_owned(),
            false => format!("The key was revoked before, {}.", relative(revoked.revoked_at, now)),
        };
        let noun = if gateways == 1 { "gateway" } else { "gateways" };
        // Rounded up: it did not take less.
        let millis = elapsed.as_nanos().div_ceil(1_000_000);
        ReceiptView {
            certain: complete && not_durable.is_none(),
            headline,
            sentence: format!("{acknowledged} of {gateways} {noun} stopped accepting it in {millis} ms."),
            silent: names.join(", "),
            roll_unread: !roll_read,
            effective_by: (!complete).then(|| Time::exact(effective_by)),
            not_durable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Environment, GatewayId, KeyHash, KeyId, KeyRecord, Member, Shard};
    use crate::store::{Activity, StoredKey, Told};

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_060_000);

    fn revoked(newly: bool) -> RevokedKey {
        let shard = Shard::all().next().unwrap();
        let revoked_at = Timestamp::from_millis(1_764_000_000_000);
        let record = KeyRecord {
            id: KeyId::new(shard, [0; 10]),
            hash: KeyHash::from_bytes([0; 32]),
            label: "Server".into(),
            team: "acme".into(),
            environment: Environment::Live,
            display: "sk_live_0000…0000".into(),
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            revoked_at: Some(revoked_at),
            retires_at: None,
            replaced_by: None,
            replaces: None,
        };
        let key = StoredKey { record, activity: Activity::default() };
        RevokedKey { key, newly, revoked_at, told: Told::Everybody }
    }

    fn receipt(acknowledged: usize, silent: Vec<Member>) -> Receipt {
        Receipt {
            acknowledged,
            gateways: 3,
            elapsed: Duration::from_micros(5_100),
            unacknowledged: silent,
            roll_read: true,
            effective_by: NOW,
            durable: Durability::Durable,
        }
    }

    #[test]
    fn all_gateways_are_one_sentence() {
        let view = ReceiptView::of(&revoked(true), receipt(3, vec![]), NOW);
        assert!(view.certain && view.effective_by.is_none());
        assert_eq!(view.sentence, "3 of 3 gateways stopped accepting it in 6 ms.");
        let view = ReceiptView::of(&revoked(false), receipt(3, vec![]), NOW);
        assert_eq!(view.headline, "The key was revoked before, 1 minute ago.");
    }

    #[test]
    fn who_did_not_answer_is_named_with_the_end_of_the_doubt() {
        let member = Member {
            id: GatewayId::from_u64(1),
            name: "host:8080".into(),
            version: "0.1.0".into(),
            started_at: NOW,
            max_staleness_ms: 300_000,
            beat: 1,
            positions: vec![],
            gone: false,
        };
        let view = ReceiptView::of(&revoked(true), receipt(2, vec![member]), NOW);
        assert!(!view.certain && view.effective_by.is_some());
        assert_eq!(view.silent, "host:8080");
        let unread = Receipt { roll_read: false, ..receipt(3, vec![]) };
        assert!(ReceiptView::of(&revoked(true), unread, NOW).effective_by.is_some());
        let durable = Durability::NotConfirmed("appendfsync is everysec.".into());
        let view = ReceiptView::of(&revoked(true), Receipt { durable, ..receipt(3, vec![]) }, NOW);
        assert_eq!((view.certain, view.not_durable.as_deref()), (false, Some("appendfsync is everysec")));
    }
}
