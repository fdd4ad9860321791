//! Memory that the connections of a loop share for their records.

use std::cell::RefCell;

/// Where the connections of a loop open and seal: none has memory for it of its own.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What came, behind what was left.
    pub(crate) incoming: RefCell<Vec<u8>>,
    /// What is sealed. Who must keep some of it takes the whole.
    pub(crate) outgoing: RefCell<Vec<u8>>,
    /// Plaintext from several places that goes into one record.
    pub(crate) gathered: RefCell<Vec<u8>>,
}
