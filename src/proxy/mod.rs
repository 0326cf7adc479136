//! The request path. Begin with [`gateway`].

pub mod credential;
pub mod gateway;
pub mod headers;
pub mod listener;
pub mod respond;
pub mod survey;
pub mod upstream;
pub mod values;

mod body;
mod connection;
mod framing;
mod gather;
