//! Clients of every kind, mixed at random for a chosen time, against the program; then nothing is left of them.
//!
//! `ECHOLOOP_SOAK=30m cargo test --release --test soak -- --nocapture` soaks for half an hour, without the variable
//! it is a few seconds. `ECHOLOOP_SOAK_DRAINS=50` drains so many servers at random moments, see `drains`.
//! `ECHOLOOP_SOAK_SEED` repeats the choices of a run that failed, not its timing.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod client;
mod drains;
mod holdings;
mod kinds;
mod pulse;
mod summary;
#[path = "../util/mod.rs"]
mod util;
mod workers;

use std::{env, process::Command, sync::Mutex, time::Duration};

use crate::{
    holdings::given_back,
    summary::Summary,
    util::{DEADLINE, Program},
    workers::Soak,
};

const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_TIMEOUT: Duration = Duration::from_secs(3);

/// One test at a time: each keeps the machine busy.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn after_clients_of_every_kind_nothing_is_left_of_them() {
    let _alone = ALONE.lock();
    let seed = seed();
    let time = env::var("ECHOLOOP_SOAK").map_or(Duration::from_secs(5), |time| duration(&time));
    println!("soaking for {time:?} with ECHOLOOP_SOAK_SEED={seed}");
    let mut server = start();
    let soak = Soak::new(seed, server.listening());
    let base = soak.base(&server);
    println!("base: {base}");
    soak.run(&server, time);
    println!("all clients are gone after {:?}: {}", soak.pulse.begin.elapsed(), soak.progress(&server));
    soak.serve_one();
    given_back(&server, &base);
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    let summary = server.line();
    println!("{summary}");
    soak.expect_balance(&Summary::parse(&summary));
}

/// What `ECHOLOOP_SOAK_SEED` says, or one of its own for each run.
fn seed() -> u64 {
    env::var("ECHOLOOP_SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap())
}

/// `30m`, `90s`.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).unwrap_or_default();
    let seconds =
        [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(name, n)| (name == unit).then_some(n));
    Duration::from_secs(number.parse::<u64>().unwrap() * seconds.expect("a time like 30m or 90s"))
}

fn start() -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echoloop"));
    command.args(["serve", "127.0.0.1:0", "--idle-timeout", "2s", "--write-timeout", "2s"]);
    command.args(["--linger-timeout", "3s"]).env("RUST_LOG", "warn");
    Program::spawn(command)
}
