//! Placeholder while the crate takes shape.
fn main() {}
