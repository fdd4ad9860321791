//! Ctrl-C and Ctrl-Break.

use std::io;

use super::Stops;

/// Nothing is ever blocked.
pub(super) fn unblock() {}

pub(super) fn install(mut stops: Stops) -> io::Result<()> {
    ctrlc::set_handler(move || stops.stop(130)).map_err(io::Error::other)
}
