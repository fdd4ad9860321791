//! The search for what ends a frame.

use std::io::BufRead;

/// Where `needle` begins in `input`, at `from` or behind it. It is not empty.
pub(super) fn find(needle: &[u8], from: usize, input: &[u8]) -> Option<usize> {
    let mut start = from;
    loop {
        start += position(needle[0], input.get(start..)?)?;
        if input[start..].starts_with(needle) {
            return Some(start);
        }
        start += 1;
    }
}

/// Where `byte` is in `input`. The standard library has a fast search only behind [`BufRead`].
fn position(byte: u8, input: &[u8]) -> Option<usize> {
    let mut rest = input;
    let skipped = rest.skip_until(byte).expect("to read a slice never fails");
    #[cfg(test)]
    tests::EXAMINED.set(tests::EXAMINED.get() + skipped);
    match input[..skipped].split_last() {
        Some((&last, before)) if last == byte => Some(before.len()),
        Some(_) | None => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Bytes that were looked at, to see that none is twice.
        pub(crate) static EXAMINED: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn the_first_whole_occurrence_is_found() {
        assert_eq!(find(b"ab", 0, b"aab ab"), Some(1));
        assert_eq!(find(b"ab", 2, b"aab ab"), Some(4));
        assert_eq!(find(b"ab", 5, b"aab ab"), None);
        assert_eq!(find(b"a", 0, b""), None);
        assert_eq!(find(b"a", 9, b"a"), None);
    }
}
