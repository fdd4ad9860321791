//! Whoever asks for an outbound connection is told if nothing comes of it, whatever call fails.

use super::{kernel::Planned, protocol::hush_planned_panics, world};

/// Scripts, in each of which every call fails: fewer where the code is not optimized.
const SCRIPTS: u64 = if cfg!(debug_assertions) { 20 } else { 40 };

/// Calls of a script that are made to fail, from its first on.
const CALLS_MAX: u64 = 100;

/// The errors that calls fail with: the first two of each.
const ERRORS: usize = 2;

#[test]
fn every_error_on_the_way_to_a_connection_is_told_to_whoever_asked_for_it() {
    hush_planned_panics();
    for seed in 0..SCRIPTS {
        let clean = world::run_dials(seed, None);
        let calls = clean.unwrap_or_else(|failure| panic!("script {seed}: {failure}")).calls;
        for call in 1..=calls.min(CALLS_MAX) {
            for choice in 0..ERRORS {
                let planned = Planned { call, choice, sticky: false };
                if let Err(failure) = world::run_dials(seed, Some(planned)) {
                    panic!("script {seed}, {planned:?}: {failure}");
                }
            }
        }
    }
}
