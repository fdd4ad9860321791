//! What the kernel has counted for a process, and statistics.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The processor time that a process has used, its threads' in the kernel included.
///
/// The scheduler counts nanoseconds for each thread that lives; `stat` has those of ended threads too, in
/// ticks of 10 ms. Neither says too much, so the larger one is right. What a thread uses while it runs comes
/// into the account at the next tick at the latest: ask while the server rests.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    Some(threads_time(&process)?.max(ticks(&process)?))
}

fn threads_time(process: &Path) -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(process.join("task")).ok()?.flatten() {
        // One that ended meanwhile is in the ticks.
        let Ok(line) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        nanoseconds += line.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

fn ticks(process: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything; utime and stime are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map_while(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis(ticks.sum::<u64>() * 10))
}

/// How long this thread was ready to run while its processor ran other programs.
pub(crate) fn time_waited() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = schedstat.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// The resident memory of a process, in bytes; exact, unlike `VmRSS`, which may lag by some hundred KiB.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// The value below which `percent` of 100 are.
pub(crate) fn percentile(values: &mut [u64], percent: usize) -> u64 {
    let Some(last) = values.len().checked_sub(1) else { return 0 };
    let index = (values.len() * percent / 100).min(last);
    *values.select_nth_unstable(index).1
}

/// The middle one, or between the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
