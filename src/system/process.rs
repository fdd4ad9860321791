//! What this process takes of the machine.

use std::time::Duration;

/// What this process takes of the machine, as far as the system says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// Processor time, in user space and in the kernel.
    pub(crate) cpu: Option<Duration>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_descriptors: Option<u64>,
    /// The soft limit of these.
    pub(crate) max_descriptors: Option<u64>,
    /// Since 1970.
    pub(crate) started: Option<Duration>,
    /// How long ago that was.
    pub(crate) age: Option<Duration>,
}

/// Linux shows times of processes in hundredths of a second, whatever the kernel's own ticks are.
#[cfg(target_os = "linux")]
const TICKS: u64 = 100;

impl Process {
    #[cfg(target_os = "linux")]
    pub(crate) fn look() -> Self {
        use std::fs::read_to_string;

        use rustix::{
            process::{Resource, getrlimit},
            time::{ClockId, clock_gettime},
        };

        let time = |clock| Duration::try_from(clock_gettime(clock)).ok();
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let boot = read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
        // Since the system was started.
        let start = read_to_string("/proc/self/stat").ok().and_then(|stat| start_time(&stat));
        Self {
            cpu: time(ClockId::ProcessCPUTime),
            resident_bytes: resident_bytes(&status),
            open_descriptors: open_descriptors(),
            max_descriptors: getrlimit(Resource::Nofile).current,
            started: boot.zip(start).map(|(boot, start)| boot + start),
            age: time(ClockId::Boottime).zip(start).map(|(now, start)| now.saturating_sub(start)),
        }
    }

    /// Others are not asked.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn look() -> Self {
        Self::default()
    }
}

/// The directory has an entry for each, and says since Linux 6.2 how many that are.
#[cfg(target_os = "linux")]
fn open_descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    let told = std::fs::metadata(DIRECTORY).ok().map(|directory| directory.len()).filter(|&n| n > 0);
    told.or_else(|| {
        // One of them is that of the directory itself.
        let entries = std::fs::read_dir(DIRECTORY).ok()?.count();
        Some(entries.saturating_sub(1) as u64)
    })
}

#[cfg(target_os = "linux")]
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(target_os = "linux")]
fn boot_time(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok().map(Duration::from_secs)
}

/// The field 22; the name, in parentheses, may hold anything.
#[cfg(target_os = "linux")]
fn start_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1000 / TICKS)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_what_linux_says_it_is() {
        let process = Process::look();
        assert!(process.cpu > Some(Duration::ZERO) && process.resident_bytes > Some(1 << 20), "{process:?}");
        let (open, max) = (process.open_descriptors.unwrap(), process.max_descriptors.unwrap());
        assert!(open >= 3 && open <= max, "{process:?}");
        assert!(process.started > Some(Duration::from_secs(1_600_000_000)), "{process:?}");
        assert!(process.age < Some(Duration::from_secs(86_400)), "{process:?}");
    }

    #[test]
    fn names_of_processes_may_hold_anything() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 250 20";
        assert_eq!(start_time(stat), Some(Duration::from_millis(2_500)));
        assert_eq!(start_time("nonsense"), None);
        assert_eq!(
            (boot_time("x 1\nbtime 7\n"), resident_bytes("VmRSS:\t  8 kB\n")),
            (Some(Duration::from_secs(7)), Some(8192))
        );
    }
}
