//! What a protocol can do with its connection, and what it cannot do to others.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod blocking;
mod input;
mod lifecycle;
mod limits;
mod messages;
mod outbound;
mod output;
mod panics;
mod server_end;
mod timers;
#[path = "../util/mod.rs"]
mod util;
mod workers;

use std::time::Duration;

use echoloop::{Context, Input, Protocol};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const ANYWHERE: &[&str] = &["127.0.0.1:0"];

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What is called with the input and may answer.
struct OnData<F>(F);

impl<F: FnMut(&mut Input<'_>, &mut Context<'_>)> Protocol for OnData<F> {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        (self.0)(input, cx);
    }
}
