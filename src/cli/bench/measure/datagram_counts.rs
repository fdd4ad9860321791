//! Datagrams that did not come back once, in time and unchanged.

use std::ops::AddAssign;

use indicatif::HumanCount;
use serde::Serialize;

/// How many datagrams did not come back as they should, over the whole load. The names are those of the JSON report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DatagramCounts {
    /// They did not come back within the timeout.
    pub(crate) lost: u64,
    /// Of those, they came back after it.
    pub(crate) late: u64,
    /// They came back once more.
    pub(crate) duplicate: u64,
    /// Something else came back.
    pub(crate) corrupt: u64,
}

impl DatagramCounts {
    /// The count of each kind that is a failure, with its name.
    pub(crate) const fn failures(&self) -> [(&'static str, u64); 2] {
        [("corrupt", self.corrupt), ("lost", self.lost)]
    }

    /// All of them, as `2 lost, 0 late, 0 duplicate, 0 corrupt`.
    pub(crate) fn summary(&self) -> String {
        let Self { lost, late, duplicate, corrupt } = *self;
        let all = [(lost, "lost"), (late, "late"), (duplicate, "duplicate"), (corrupt, "corrupt")];
        all.map(|(count, name)| format!("{} {name}", HumanCount(count))).join(", ")
    }
}

impl AddAssign<&Self> for DatagramCounts {
    fn add_assign(&mut self, more: &Self) {
        self.lost += more.lost;
        self.late += more.late;
        self.duplicate += more.duplicate;
        self.corrupt += more.corrupt;
    }
}
