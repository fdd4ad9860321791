//! What a protocol sees of what its peer sent.

/// The bytes that a connection has received and its protocol has not consumed yet.
///
/// What a callback leaves unconsumed comes again with the next bytes behind it, up to
/// [`input_limit_bytes`](crate::Config::input_limit_bytes); or as it is, when reading was
/// [paused](crate::Context::pause_reading) and is resumed. So a protocol that stops at something else than the end of what
/// has come, for want of room for the answer, pauses; [`Context::flow`](crate::Context::flow) shows how.
#[derive(Debug)]
pub struct Input<'a> {
    all: &'a [u8],
    consumed: usize,
}

impl<'a> Input<'a> {
    pub(crate) const fn new(all: &'a [u8]) -> Self {
        Self { all, consumed: 0 }
    }

    /// The bytes not consumed yet, first to last.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        &self.all[self.consumed..]
    }

    /// Marks the next `n` bytes as dealt with. More than there are counts as all.
    pub fn consume(&mut self, n: usize) {
        self.consumed += n.min(self.all.len() - self.consumed);
    }

    /// Takes all the bytes.
    pub fn take(&mut self) -> &'a [u8] {
        let bytes = self.bytes();
        self.consumed = self.all.len();
        bytes
    }

    pub(crate) const fn consumed(&self) -> usize {
        self.consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_more_than_there_is_consumes_all() {
        let mut input = Input::new(b"abc");
        input.consume(1);
        assert_eq!(input.bytes(), b"bc");
        input.consume(usize::MAX);
        assert_eq!(input.bytes(), b"");
        assert_eq!(input.consumed(), 3);
    }
}
