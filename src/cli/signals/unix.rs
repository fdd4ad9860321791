//! Signals of Unix. Those that were ignored when the program began stay ignored, as nohup(1) wants it.

use std::{
    fs,
    io::{self, ErrorKind, IsTerminal, Read},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ},
    flag, low_level,
};

use super::Stops;

/// It does little, and memory may be scarce.
const STACK_BYTES: usize = 256 << 10;

/// A signal, and whether it has come since it was last looked at.
type Pending = (i32, Arc<AtomicBool>);

pub(super) fn unblock() {
    if let Err(error) = nix::sys::signal::SigSet::all().thread_unblock() {
        log::warn!("cannot unblock signals: {error}");
    }
}

pub(super) fn install(mut stops: Stops) -> io::Result<()> {
    let ignored = ignored_signals();
    let is_server = stops.actions.report.is_some();
    let wanted: &[i32] =
        if is_server { &[SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2] } else { &[SIGINT, SIGTERM] };
    let (mut wakes, waker) = UnixStream::pair()?;
    let mut pending: Vec<Pending> = Vec::new();
    for &signal in wanted.iter().filter(|&&signal| ignored & bit(signal) == 0) {
        let has_come = Arc::new(AtomicBool::new(false));
        // The flag is set before the thread is woken.
        flag::register(signal, Arc::clone(&has_come))?;
        low_level::pipe::register(signal, waker.try_clone()?)?;
        pending.push((signal, has_come));
    }
    // A log that reaches `ulimit -f` is an error of that write, and no reason to die.
    flag::register(SIGXFSZ, Arc::default())?;
    let had_terminal = io::stdin().is_terminal();
    thread::Builder::new().name("signals".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        // The writing end is kept open by the handlers.
        let _waker = waker;
        while wait(&mut wakes) {
            for (signal, has_come) in &pending {
                if has_come.swap(false, Ordering::SeqCst) {
                    handle(*signal, had_terminal, &mut stops);
                }
            }
        }
    })?;
    Ok(())
}

/// Waits for a signal. False if there will be none any more.
fn wait(wakes: &mut UnixStream) -> bool {
    loop {
        match wakes.read(&mut [0; 64]) {
            Ok(n) => return n > 0,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                log::error!("signals are no longer handled: {error}");
                return false;
            }
        }
    }
}

fn handle(signal: i32, had_terminal: bool, stops: &mut Stops) {
    match signal {
        SIGUSR1 => {
            if let Some(report) = &stops.actions.report {
                report();
            }
        }
        SIGUSR2 => log::info!("SIGUSR2 is ignored"),
        // The terminal is gone, and whoever could have stopped the server there.
        SIGHUP if had_terminal && !io::stdin().is_terminal() => stops.stop(status_of(signal)),
        SIGHUP => {
            if let Some(reload) = &stops.actions.reload {
                reload();
            }
        }
        _ => stops.stop(status_of(signal)),
    }
}

/// The exit status of a program that a signal has ended, as shells have it.
fn status_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The set of signals that are ignored by now. No safe call tells; on Linux /proc does, see proc_pid_status(5). Where
/// nobody does it is empty: what a handler does with SIGHUP then suits nohup(1) too.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}
