//! What was written, and what of it took effect on a gateway. A log is followed from its end back, by the names in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Head, LogEntry, Nonce, Shard};
use crate::property::Property;

/// The ledger of one store and one gateway.
#[derive(Default)]
pub struct Ledger {
    entries: BTreeMap<Nonce, LogEntry>,
    /// Entries that were applied, or given up in a gap.
    in_effect: BTreeSet<Nonce>,
}

impl Ledger {
    /// The store took a change.
    pub fn written(&mut self, entry: &LogEntry) {
        self.entries.insert(entry.head.nonce, entry.clone());
    }

    /// It took effect.
    pub fn in_effect(&mut self, nonce: Nonce) {
        self.in_effect.insert(nonce);
    }

    /// The entry of this name.
    pub fn entry(&self, nonce: Nonce) -> &LogEntry {
        &self.entries[&nonce]
    }

    /// What was ever written in this shard.
    pub fn of_shard(&self, shard: Shard) -> Vec<Nonce> {
        let of_shard = self.entries.iter().filter(|(_, entry)| entry.event.shard() == shard);
        of_shard.map(|(nonce, _)| *nonce).collect()
    }

    /// Holds it against `property` if anything in the log that ends at `place` took no effect.
    ///
    /// # Panics
    /// It is so.
    pub fn expect_in_effect(&self, property: Property, place: &Head) {
        let mut nonce = place.nonce;
        while let Some(entry) = self.entries.get(&nonce) {
            if !self.in_effect.contains(&nonce) {
                let missing = entry.head;
                property.broken(format_args!("at {place}, {missing} was neither applied nor given up"));
            }
            nonce = entry.prev;
        }
    }
}
