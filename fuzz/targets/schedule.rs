//! Schedules of the simulator, with the fuzzer for a seed: it looks for new ways through the state machine.

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "parts of a test"
)]

#[path = "../../tests/simulation/choices.rs"]
mod choices;
#[path = "../../tests/simulation/client.rs"]
mod client;
#[path = "../../tests/simulation/kernel/mod.rs"]
mod kernel;
#[path = "../../tests/simulation/lookups.rs"]
mod lookups;
#[path = "../../tests/simulation/protocol.rs"]
mod protocol;
#[path = "../../tests/simulation/secure.rs"]
mod secure;
#[path = "../../tests/simulation/stage.rs"]
mod stage;
#[path = "../../tests/simulation/witness.rs"]
mod witness;
#[path = "../../tests/simulation/world/mod.rs"]
mod world;

use std::sync::Once;

use libfuzzer_sys::fuzz_target;

static PANICS: Once = Once::new();

fuzz_target!(|decisions: &[u8]| {
    PANICS.call_once(protocol::hush_planned_panics);
    let choices = || choices::Choices::given(decisions.to_vec(), 0);
    let outcome = world::run_choices(choices(), false).and_then(|_| world::run_tls_choices(choices(), false));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
});
