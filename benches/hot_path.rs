//! The hot path, against its yardsticks.

fn main() {}
