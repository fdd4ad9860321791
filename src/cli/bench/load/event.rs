//! What the thread that runs the load is told.

/// What has happened, for the thread that runs the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadEvent {
    /// Every first connection of a loop is made, or has failed.
    Settled,
    /// A loop has nothing left to do.
    Idle,
    /// The pacer of a loop has handed out every message that it had.
    HandedOut,
    /// The first Ctrl-C.
    Interrupted,
    /// The second Ctrl-C.
    Aborted,
}
