//! What `keygate demo` stands in front of: a small payments API.
//!
//! `ledger` is the state, without any network: wallets, and money that really moves between them.
//! `order` is what a client may ask of it, `answer` what it hears back; [`SampleUpstream`] speaks HTTP around it, as the API behind a production gateway would.

mod answer;
mod ledger;
mod order;
mod sample_upstream;

pub use sample_upstream::SampleUpstream;
