//! The request path. Begin with [`gateway`].

pub mod credential;
pub mod gateway;
pub mod headers;
pub mod listener;
pub mod respond;
pub mod upstream;

mod body;
mod connection;
mod framing;
