//! The `eva-rl` program.

fn main() {}
