//! What tests on several floors need. Not part of any build but theirs.

mod server;

pub(crate) use server::RedisServer;
