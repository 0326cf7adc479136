//! The promises, kept or broken: the real binary, real sockets, a real `redis-server`.
//!
//! Each test is named by what it holds. `support` is what they are made of; `refusals` is the table of refusals,
//! a file for each kind of status; `faults` is every fault with what holds through it; `history` checks a long record of a
//! fleet under chaos. Nothing here waits for a time: only for a condition, with a bound.

mod support;

mod admin_api;
mod after_death;
mod canary;
mod cli;
mod clients;
mod console;
mod cost;
mod credentials;
mod demo;
mod described;
mod environments;
mod faults;
mod fleet;
mod forwarding;
mod garbage;
mod headers;
mod history;
mod key_api;
mod metrics;
mod outage;
mod people;
mod receipts;
mod refusals;
mod retries;
mod rotation;
mod shutdown;
mod startup;
mod stores;
mod streaming;
mod tls;
mod unusual;
mod upstream_tls;
mod usage;
