//! What the kernel has counted for a process, and statistics.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The processor time that a process and its descendants have used, their threads' in the kernel included.
///
/// The scheduler counts nanoseconds for each thread that lives; `stat` has those of ended threads too, in
/// ticks of 10 ms. Neither says too much, so the larger one is right. What a thread uses while it runs comes
/// into the account at the next tick at the latest: ask while the server rests.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let process = directory(pid);
    let Ticks { own, ended_children } = ticks(&process)?;
    let own = threads_time(&process)?.max(own);
    // One that ends meanwhile is in its parent's account, as soon as that asks.
    let children: Duration = children(&process).into_iter().filter_map(cpu_time).sum();
    Some(own + ended_children + children)
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The processes that live and were forked by it.
fn children(process: &Path) -> Vec<u32> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
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

struct Ticks {
    own: Duration,
    /// That of its children that have ended, and theirs.
    ended_children: Duration,
}

fn ticks(process: &Path) -> Option<Ticks> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything; utime, stime, cutime and cstime are the fields 14 to 17.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let mut time = || Some(Duration::from_millis((ticks.next()? + ticks.next()?) * 10));
    Some(Ticks { own: time()?, ended_children: time()? })
}

/// How long this thread was ready to run while its processor ran other programs.
pub(crate) fn time_waited() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = schedstat.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// The resident memory of a process and its children, in bytes; exact, unlike `VmRSS`, which may lag by some hundred KiB.
/// What children share, with it or with each other, counts once: theirs is the proportional set size.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let process = directory(pid);
    let own = rollup(&process, "Rss:")?;
    let children = children(&process).into_iter().filter_map(|child| rollup(&directory(child), "Pss:"));
    Some(own + children.sum::<u64>())
}

fn rollup(process: &Path, field: &str) -> Option<u64> {
    let rollup = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix(field))?;
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
