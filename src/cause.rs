//! Why a protocol aborts a connection, in its own words.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Why a protocol aborted a connection, in its own words: [`Context::abort_because`](crate::Context::abort_because). It is
/// counted and logged under its name.
///
/// A program can have 63 different ones. Those that come later are all called "other".
///
/// ```
/// use echoloop::{Cause, CloseReason};
///
/// let reason = CloseReason::AbortedBecause(Cause::new("bad handshake"));
/// assert_eq!(reason.to_string(), "bad handshake");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cause(u8);

/// How many there can be.
pub(crate) const CAUSES_MAX: usize = 64;

const OTHER: Cause = Cause(63);

/// The names, in the order in which they were first used. A name is two words and a connection's state is to be one: it
/// has the number.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

impl Cause {
    /// The cause of this name. The same name is the same cause.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.iter().position(|&known| known == name);
        let index = known.unwrap_or(names.len());
        if index >= usize::from(OTHER.0) {
            return OTHER;
        }
        if known.is_none() {
            names.push(name);
        }
        Self(u8::try_from(index).expect("there are few"))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(self.index()).copied().unwrap_or("other")
    }

    /// Its place among the counters.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The one that is counted there.
    pub(crate) fn at(index: usize) -> Self {
        u8::try_from(index).map_or(OTHER, Self)
    }
}

impl From<&'static str> for Cause {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_cause() {
        let (one, other) = (Cause::new("this"), Cause::new("that"));
        assert_ne!(one, other);
        assert_eq!((one, other), (Cause::from("this"), Cause::at(other.index())));
        assert_eq!((one.name(), other.to_string()), ("this", "that".to_owned()));
        assert_eq!(OTHER.name(), "other");
    }
}
