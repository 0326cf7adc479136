//! What keygate is measured beside.

pub mod floor;
