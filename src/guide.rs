//! To learn from: a tutorial in steps that compile, and pages for those who know other frameworks, or measure.

/// From an echo to a chat room with names, timeouts and tests, in eight steps.
///
#[doc = include_str!("../docs/tutorial.md")]
pub mod tutorial {}

/// Where to find what you know from tokio, Netty, asyncio, Twisted and gnet.
///
#[doc = include_str!("../docs/coming-from.md")]
pub mod coming_from {}

/// How to measure a protocol with criterion.
///
#[doc = include_str!("../docs/benchmarking.md")]
pub mod benchmarking {}

/// What may change in later versions, and what may not.
///
#[doc = include_str!("../docs/stability.md")]
pub mod stability {}
