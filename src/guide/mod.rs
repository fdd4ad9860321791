//! To learn from: a tutorial in steps that compile, and where what you know from elsewhere is here.

#[doc = include_str!("tutorial.md")]
pub mod tutorial {}

#[doc = include_str!("coming_from.md")]
pub mod coming_from {}

#[doc = include_str!("stability.md")]
pub mod stability {}
