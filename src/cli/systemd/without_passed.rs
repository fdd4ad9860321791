//! No sockets are passed on other systems.

use echoloop::{Address, Builder, Echo};

use super::listen::{self, Listen};
use crate::cli::failure::Failure;

/// Nothing was passed.
pub(crate) struct Passed;

/// There are none.
#[derive(Debug)]
pub(crate) struct PassedSockets;

impl Passed {
    pub(crate) const fn from_env() -> Self {
        Self
    }

    pub(crate) fn sockets(self) -> Result<PassedSockets, Failure> {
        listen::names(None, 0).map(|_| PassedSockets)
    }
}

impl PassedSockets {
    pub(crate) fn addresses(&self, asked: &[Listen]) -> Result<Vec<Address>, Failure> {
        listen::addresses(asked, &[])
    }

    pub(crate) fn pass_to(self, builder: Builder<Echo>) -> Builder<Echo> {
        builder
    }
}
