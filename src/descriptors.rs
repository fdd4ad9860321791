//! How many descriptors the process may have, and how many connections that allows.

/// Connections when the system sets no limit that could be asked for.
const UNLIMITED: usize = 65_536;

/// The most descriptors that are kept back for everything that is not a connection.
const RESERVE: u64 = 64;

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

/// How many connections the present limit allows.
pub(crate) fn default_max_connections() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = None;
    connections_within(limit)
}

/// The limit less a reserve of 64 or an eighth, whichever is smaller.
fn connections_within(limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return UNLIMITED };
    let connections = limit - RESERVE.min(limit / 8);
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_64_or_an_eighth() {
        assert_eq!(connections_within(Some(20_000)), 19_936);
        assert_eq!(connections_within(Some(64)), 56);
        assert_eq!(connections_within(Some(0)), 1);
        assert_eq!(connections_within(None), UNLIMITED);
    }
}
