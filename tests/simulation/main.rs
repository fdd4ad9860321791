//! The event loop driven through schedules that a seed decides: what clients do, what the kernel answers, in which order
//! events come, how time passes. After every step the invariants are checked. In some schedules there is another worker beside
//! the loop: see [`kernel::other_worker`]. Of tiny worlds every schedule is explored: see [`exhaustive`].
//!
//! `ECHOLOOP_SEED=N` replays one schedule with its trace, `ECHOLOOP_SCHEDULES=N` runs so many:
//!
//! ```sh
//! ECHOLOOP_SCHEDULES=1000000 cargo test --release --test simulation -- --nocapture
//! ECHOLOOP_SEED=42 cargo test --test simulation schedules -- --nocapture
//! ```

#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "a test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "the enums of the library may grow")]

mod choices;
mod client;
mod datagrams;
mod dials;
mod exhaustive;
mod kernel;
mod lookups;
mod protocol;
mod real;
mod relays;
mod secure;
mod stage;
mod witness;
mod world;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
};

use choices::Choices;
use kernel::{CHOICES, Planned};
use protocol::hush_planned_panics;
use stage::Failure;
use world::{Outcome, Plan};

/// Schedules of an ordinary run: fewer where the code is not optimized.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 1_500 } else { 10_000 };

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn run(seed: u64, is_verbose: bool) -> Outcome {
    of_seed(seed, || world::run_seed(seed, is_verbose))
}

/// What the schedule of this seed comes to. It names its seed if it fails or panics.
fn of_seed<R>(seed: u64, schedule: impl FnOnce() -> Result<R, Failure>) -> R {
    match panic::catch_unwind(AssertUnwindSafe(schedule)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => panic!("seed {seed}: {failure} (replay it with ECHOLOOP_SEED={seed})"),
        Err(_) => panic!("seed {seed}: a panic, see above (replay it with ECHOLOOP_SEED={seed})"),
    }
}

#[test]
fn random_schedules_break_no_invariant() {
    hush_planned_panics();
    if let Some(seed) = number("ECHOLOOP_SEED") {
        println!("{:#?}", Plan::new(&Choices::seeded(seed)));
        run(seed, true);
        return;
    }
    let schedules = number("ECHOLOOP_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number("ECHOLOOP_FIRST_SEED").unwrap_or(0);
    let (mut echoed, mut moved, mut calls, mut changed_worker) = (0, 0, 0, 0);
    for seed in first..first + schedules {
        let outcome = run(seed, false);
        echoed += outcome.echoed;
        moved += outcome.moved;
        calls += outcome.calls;
        changed_worker += outcome.changed_worker;
    }
    println!(
        "{schedules} schedules, {calls} calls, {echoed} bytes echoed, {moved} moved in the kernel, \
         {changed_worker} connections left to another worker"
    );
}

/// Of schedules over TLS an ordinary run has fewer.
const TLS_SCHEDULES: u64 = SCHEDULES / 2;

#[test]
fn random_schedules_over_tls_break_no_invariant() {
    hush_planned_panics();
    if let Some(seed) = number("ECHOLOOP_SEED") {
        println!("{:#?}", Plan::tls(&Choices::seeded(seed)));
        of_seed(seed, || world::run_tls_seed(seed, true));
        return;
    }
    let schedules = number("ECHOLOOP_SCHEDULES").unwrap_or(TLS_SCHEDULES);
    let first = number("ECHOLOOP_FIRST_SEED").unwrap_or(0);
    let (mut echoed, mut agreed) = (0, 0);
    for seed in first..first + schedules {
        let outcome = of_seed(seed, || world::run_tls_seed(seed, false));
        echoed += outcome.echoed;
        agreed += outcome.agreed;
    }
    println!("{schedules} schedules, {agreed} handshakes, {echoed} bytes echoed");
    assert!(echoed > 0 && agreed > 0);
}

/// Scripts of the error sweep of an ordinary run; `ECHOLOOP_SCRIPTS=N` runs so many.
const SCRIPTS: u64 = if cfg!(debug_assertions) { 2 } else { 8 };

/// Calls of a script that are made to fail, from its first on.
const CALLS_MAX: u64 = if cfg!(debug_assertions) { 100 } else { 400 };

#[test]
fn every_error_at_every_call_breaks_no_invariant() {
    hush_planned_panics();
    let mut runs = 0;
    for seed in 0..number("ECHOLOOP_SCRIPTS").unwrap_or(SCRIPTS) {
        let clean = world::run_script(seed, None, false);
        let calls = clean.unwrap_or_else(|failure| panic!("script {seed}: {failure}")).calls;
        for call in 1..=calls.min(CALLS_MAX) {
            for (choice, sticky) in (0..CHOICES).flat_map(|choice| [(choice, false), (choice, true)]) {
                let planned = Some(Planned { call, choice, sticky });
                if let Err(failure) = world::run_script(seed, planned, false) {
                    let _ = world::run_script(seed, planned, true);
                    panic!("script {seed}, {planned:?}: {failure}");
                }
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
}

#[test]
fn every_error_at_every_call_over_tls_breaks_no_invariant() {
    hush_planned_panics();
    let mut runs = 0;
    for seed in 0..number("ECHOLOOP_SCRIPTS").unwrap_or(SCRIPTS) {
        let clean = world::run_tls_script(seed, None, false);
        let calls = clean.unwrap_or_else(|failure| panic!("script {seed}: {failure}")).calls;
        for call in 1..=calls.min(CALLS_MAX) {
            for (choice, sticky) in (0..CHOICES).flat_map(|choice| [(choice, false), (choice, true)]) {
                let planned = Some(Planned { call, choice, sticky });
                if let Err(failure) = world::run_tls_script(seed, planned, false) {
                    let _ = world::run_tls_script(seed, planned, true);
                    panic!("script {seed}, {planned:?}: {failure}");
                }
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
}

/// What so many schedules of relays come to, or the one that is wanted: bytes passed on, and those moved in the kernel.
fn run_relays(schedules: u64, run: fn(u64) -> Result<(u64, u64), Failure>) {
    let seeds = match number("ECHOLOOP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ECHOLOOP_SCHEDULES").unwrap_or(schedules),
    };
    let (mut passed_on, mut moved) = (0, 0);
    for seed in seeds.clone() {
        let outcome = of_seed(seed, || run(seed));
        passed_on += outcome.0;
        moved += outcome.1;
    }
    println!("{} schedules, {passed_on} bytes passed on, {moved} moved in the kernel", seeds.count());
    assert!(passed_on > 0 && moved > 0);
}

#[test]
fn random_relays_break_no_invariant() {
    run_relays(SCHEDULES, relays::run_seed);
}

#[test]
fn random_tls_relays_break_no_invariant() {
    run_relays(TLS_SCHEDULES, relays::run_tls_seed);
}

#[test]
fn random_datagrams_break_no_invariant() {
    let schedules = number("ECHOLOOP_SCHEDULES").unwrap_or(SCHEDULES);
    let seeds = match number("ECHOLOOP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..schedules,
    };
    let answered: u64 = seeds.map(|seed| of_seed(seed, || datagrams::run_seed(seed))).sum();
    println!("{schedules} schedules, {answered} datagrams answered");
    assert!(answered > 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    hush_planned_panics();
    for seed in 0..100 {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
}
