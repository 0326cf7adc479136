//! The feed: the gateway's own door, its trail and its follower.

include!(concat!(env!("OUT_DIR"), "/events.rs"));
