//! What Linux says about another process.

use std::{fs, thread::park_timeout, time::Duration};

use super::eventually;

/// The resident memory of a process, in bytes.
#[track_caller]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kilobytes = line.trim().strip_suffix(" kB").expect("a number of kB");
    kilobytes.parse::<u64>().expect("a number") << 10
}

/// Waits until a process has slept for a while: it has done all that it has to do. One that a busy machine keeps from
/// running does not sleep.
#[track_caller]
pub fn wait_until_asleep(pid: u32) {
    eventually("the process sleeps", || {
        let before = switches_if_asleep(pid);
        park_timeout(Duration::from_millis(200));
        before.is_some() && switches_if_asleep(pid) == before
    });
}

/// How often the threads of a process have been switched off a processor; `None` unless all of them sleep.
fn switches_if_asleep(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
                .map(|name| field(name).expect("a counter").parse::<u64>().expect("a number"));
            field("State")?.starts_with('S').then(|| switches.iter().sum::<u64>())
        })
        .sum()
}

/// The processor time that a process has used, in user space and in the kernel.
#[track_caller]
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name, in parentheses, may hold anything; utime and stime are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
    // Linux shows ticks of 10 ms here whatever the kernel's own are.
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// How many more descriptors than it needs otherwise each process may have.
pub fn descriptors_for_connections() -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(256)
}
