//! Events that the next wait of the loop brings.

use std::{cell::RefCell, rc::Rc};

use mio::Token;

use crate::system::readiness::Readiness;

/// What there is to be told: shared by all that tell it.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Rc<RefCell<Vec<(Token, Readiness)>>>);

impl Events {
    pub(super) fn announce(&self, token: Token, ready: Readiness) {
        self.0.borrow_mut().push((token, ready));
    }

    pub(super) fn take(&self) -> Vec<(Token, Readiness)> {
        self.0.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
