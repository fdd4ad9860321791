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
    /// It is what the connection has received, and the loop has it too.
    is_received: bool,
}

impl<'a> Input<'a> {
    /// For an inner protocol: what it is to see, such as what a layer has decoded. See
    /// [`Context::inner`](crate::Context::inner).
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { all: bytes, consumed: 0, is_received: false }
    }

    /// What a connection has received.
    pub(crate) const fn received(bytes: &'a [u8]) -> Self {
        Self { all: bytes, consumed: 0, is_received: true }
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

    /// How many bytes were consumed.
    #[must_use]
    pub const fn consumed(&self) -> usize {
        self.consumed
    }

    pub(crate) const fn is_received(&self) -> bool {
        self.is_received
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
