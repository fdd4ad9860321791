//! What a server is doing, whoever asks and however it is shown.

use crate::{stats::Stats, status::WorkerStatus};

/// What its loops have said, and what was counted.
pub(super) struct Overview {
    pub(super) is_ready: bool,
    pub(super) workers_total: usize,
    /// Those that have answered.
    pub(super) workers: Vec<WorkerStatus>,
    /// How many have not, though they have not ended.
    pub(super) workers_silent: usize,
    pub(super) stats: Stats,
}
