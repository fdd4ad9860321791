//! What the server has: memory and descriptors.

use std::fs;

use crate::util::{DEADLINE, Program, holds_within, procfs::resident_bytes};

/// What the server has.
pub(crate) struct Holdings {
    resident: u64,
    pub(crate) descriptors: usize,
}

impl Holdings {
    pub(crate) fn of(server: &Program) -> Self {
        let pid = server.child.id();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the server lives").count();
        Self { resident: resident_bytes(pid), descriptors }
    }

    /// Base + 10 % or + 512 KiB, whichever is more.
    fn resident_max(&self) -> u64 {
        self.resident + (self.resident / 10).max(512 << 10)
    }
}

impl std::fmt::Display for Holdings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB resident, {} descriptors", self.resident >> 10, self.descriptors)
    }
}

/// Waits until the server has what it had before the clients came.
pub(crate) fn given_back(server: &Program, base: &Holdings) {
    let is_back = |now: &Holdings| now.descriptors == base.descriptors && now.resident <= base.resident_max();
    let is_back = holds_within(DEADLINE, || is_back(&Holdings::of(server)));
    let now = Holdings::of(server);
    println!("after all left: {now}; base: {base}");
    assert!(is_back, "after all left: {now}; base: {base}");
}
