//! Work that blocks, which is done elsewhere than on the loop.

use std::{fmt, io};

use crate::address::Address;

/// Does what blocks, and is bounded: a job needs a place, which it gives back when it is done.
pub trait Blocking: Send + Sync {
    /// Takes a place for a job, if there is one.
    fn reserve(&self) -> bool;

    /// Does this job, for which there is a place, as soon as possible. One that is dropped instead answers too.
    fn submit(&self, job: Job);
}

/// Something that blocks. It answers by itself, to the loop.
pub enum Job {
    /// A protocol's work.
    Work(Box<dyn FnOnce() + Send>),
    /// A host name to look up, and who is told the addresses.
    Lookup(Address, Box<dyn FnOnce(Found) + Send>),
}

/// The addresses of a host name, or why there are none.
pub(crate) type Found = Result<Vec<Address>, io::ErrorKind>;

impl Job {
    /// Does it, now and here.
    pub fn run(self) {
        match self {
            Self::Work(work) => work(),
            Self::Lookup(name, answer) => answer(name.resolve().map_err(|error| {
                log::debug!("{error}");
                io::ErrorKind::NotFound
            })),
        }
    }
}

/// Nobody does anything that blocks.
impl Blocking for () {
    fn reserve(&self) -> bool {
        false
    }

    fn submit(&self, _: Job) {}
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(_) => f.write_str("Work"),
            Self::Lookup(name, _) => write!(f, "Lookup({name})"),
        }
    }
}
