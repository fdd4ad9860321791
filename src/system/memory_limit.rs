//! How much memory this process may have.

/// What its container may have, if that is limited.
#[cfg(target_os = "linux")]
pub(crate) fn memory_limit() -> Option<usize> {
    // Those of cgroup v2 and v1, as a container sees its own.
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    parse(&limit)
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn memory_limit() -> Option<usize> {
    None
}

/// The limit in bytes. Version 1 says that there is none with the largest number of pages that it knows.
#[cfg(target_os = "linux")]
fn parse(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&bytes: &usize| bytes < usize::MAX >> 8)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn limits_are_understood_and_so_is_their_absence() {
        assert_eq!(parse("67108864\n"), Some(64 << 20));
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
    }
}
