//! What a socket may be ready for.

use std::ops::BitOr;

/// A set of directions that are worth a try, and whether an error is worth a look.
///
/// Ready means "not known to block": it is a reason to try, never a promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Bytes, FIN or an error may be there to read.
    pub const READ: Self = Self(1);
    /// The socket may take bytes.
    pub const WRITE: Self = Self(2);
    /// An error was reported.
    pub const ERROR: Self = Self(4);
    /// Behind what is there to read comes something that is no ordinary byte: the end, an error, urgent data. It
    /// may have been announced together with the bytes, so a short read does not mean that all was read.
    pub const MORE: Self = Self(8);

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether anything is worth a try.
    #[must_use]
    pub const fn is_worth_a_try(self) -> bool {
        self.0 & !Self::MORE.0 != 0
    }

    /// Nothing is worth a try before the next event. What comes behind the bytes that are there has still to be read.
    pub const fn rest(&mut self) {
        self.0 &= Self::MORE.0;
    }

    /// Adds `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes `other` out.
    pub fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
