//! How many descriptors the process may have, and how many connections that allows.

/// Connections when the system sets no limit that could be asked for.
const UNLIMITED: usize = 65_536;

/// The most descriptors that are kept back for everything that is not a connection.
const RESERVE: usize = 64;

/// What a worker needs besides: its poller and what wakes it, its listeners and their duplicates. For the first one they are
/// in the reserve.
const DESCRIPTORS_PER_WORKER: usize = 8;

/// Where there are fewer descriptors than this there are no pipes, and one more for each so many.
const DESCRIPTORS_PER_PIPE: usize = 128;

/// Raises the soft limit on open descriptors (`RLIMIT_NOFILE`) to the hard one and returns it; `None` where there
/// is no limit. It holds for the whole process, so the library never does this by itself; `echoloop serve`
/// does at its start. See getrlimit(2). Elsewhere than on Unix it does nothing.
///
/// # Errors
///
/// What setrlimit(2) says; the old limit then stays.
///
/// ```
/// let limit = echoloop::raise_descriptor_limit()?;
/// println!("{limit:?} descriptors");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn raise_descriptor_limit() -> std::io::Result<Option<u64>> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        }
        Ok(maximum)
    }
    #[cfg(not(unix))]
    Ok(None)
}

/// The limit on address space (`RLIMIT_AS`), in bytes; `None` where there is none.
pub(crate) fn address_space_limit() -> Option<usize> {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    #[cfg(not(unix))]
    let limit: Option<u64> = None;
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections the present limit allows, and how many of the pipes that each worker wants.
pub(crate) fn default_shares(pipes: usize, workers: usize) -> (usize, usize) {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = None;
    shares_of(limit, pipes, workers)
}

/// The connections are the limit less a reserve of 64 or an eighth, whichever is smaller, less two for each pipe, and less 8
/// for each worker but the first, as far as that leaves half. Every worker has as many pipes as the others.
fn shares_of(limit: Option<u64>, pipes: usize, workers: usize) -> (usize, usize) {
    let Some(limit) = limit else { return (UNLIMITED, pipes * workers) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let pipes = pipes.min(limit / DESCRIPTORS_PER_PIPE / workers) * workers;
    let connections = limit - RESERVE.min(limit / 8) - 2 * pipes;
    let of_workers = (DESCRIPTORS_PER_WORKER * (workers - 1)).min(connections / 2);
    ((connections - of_workers).max(1), pipes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_64_or_an_eighth() {
        assert_eq!(shares_of(Some(20_000), 0, 1), (19_936, 0));
        assert_eq!(shares_of(Some(64), 0, 1), (56, 0));
        assert_eq!(shares_of(Some(0), 0, 1), (1, 0));
        assert_eq!(shares_of(None, 0, 1), (UNLIMITED, 0));
    }

    #[test]
    fn pipes_take_two_descriptors_each_from_the_connections_and_few_where_there_are_few() {
        assert_eq!(shares_of(Some(20_000), 32, 1), (19_936 - 64, 32));
        assert_eq!(shares_of(Some(1024), 32, 1), (1024 - 64 - 16, 8));
        assert_eq!(shares_of(Some(64), 32, 1), (56, 0));
        assert_eq!(shares_of(None, 32, 2), (UNLIMITED, 64));
        assert_eq!(shares_of(Some(1024), 32, 3), (1024 - 64 - 12 - 16, 6));
        assert_eq!(shares_of(Some(1024), 32, 16), (1024 - 64 - 120, 0));
        assert_eq!(shares_of(Some(64), 32, 16), (28, 0));
    }
}
