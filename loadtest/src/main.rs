//! Load tests of keygate.

fn main() {}
