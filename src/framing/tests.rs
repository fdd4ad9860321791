//! Every framing finds the same frames, however the stream is cut.

use std::{fmt::Debug, num::NonZero};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{search::tests::EXAMINED, *};
use crate::protocol::input::Input;

/// The frames of a stream, and how it ends: with the bytes of an incomplete frame, or with an error.
type Found = (Vec<Vec<u8>>, Result<Vec<u8>, FrameError>);

/// Hands the stream over in pieces that end at the `cuts`; what is not consumed comes again, as a connection does it.
fn frames_of(framing: &mut impl Framing, stream: &[u8], cuts: &[usize]) -> Found {
    let mut frames = Vec::new();
    let mut ends: Vec<_> = cuts.iter().map(|&cut| cut.min(stream.len())).chain([stream.len()]).collect();
    ends.sort_unstable();
    let mut consumed = 0;
    for end in ends {
        let mut input = Input::new(&stream[consumed..end]);
        loop {
            match input.frame(framing) {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(input.frame(framing), Err(error), "an error stays");
                    return (frames, Err(error));
                }
            }
        }
        consumed += input.consumed();
    }
    (frames, Ok(stream[consumed..].to_vec()))
}

/// The same stream whole, cut as given, and byte by byte.
#[track_caller]
fn whatever_the_cuts<F: Framing>(new: impl Fn() -> F, stream: &[u8], cuts: &[usize]) -> Found {
    let whole = frames_of(&mut new(), stream, &[]);
    assert_eq!(frames_of(&mut new(), stream, cuts), whole);
    let every: Vec<_> = (0..stream.len()).collect();
    assert_eq!(frames_of(&mut new(), stream, &every), whole);
    whole
}

/// What no error was found in can still become a frame, with one of these endings.
#[track_caller]
fn errors_come_early(framing: impl Framing, (_, end): &Found, endings: &[&[u8]]) {
    let mut framing = framing;
    let Ok(rest) = end else { return };
    let becomes_a_frame = |ending: &&[u8]| matches!(framing.next(&[rest, *ending].concat()), Ok(Some(_)));
    assert!(endings.iter().any(becomes_a_frame), "{}", rest.escape_ascii());
}

fn bytes_of(alphabet: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(alphabet), 0..60)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(0..60_usize, 0..9)
}

/// What the framing of lines and delimiters is, said in another way.
fn split_at(stream: &[u8], delimiter: &[u8], max: usize, trim: fn(&[u8]) -> &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = stream;
    while let Some(end) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
        let frame = trim(&rest[..end]);
        if frame.len() > max {
            break;
        }
        frames.push(frame.to_vec());
        rest = &rest[end + delimiter.len()..];
    }
    frames
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn length_delimited() -> impl Strategy<Value = LengthDelimited> {
    let width = select(vec![Width::U8, Width::U16, Width::U32]);
    let endian = select(vec![Endian::Big, Endian::Little]);
    let adjustment = prop_oneof![-5..5_i64, any::<i64>()];
    let max = prop_oneof![0..9_usize, any::<usize>()];
    (width, endian, adjustment, max).prop_map(|(width, endian, adjustment, max)| {
        LengthDelimited::new(width, endian, max).adjusted_by(adjustment)
    })
}

proptest! {
    #[test]
    fn lines_are_the_same_whatever_the_cuts(stream in bytes_of(b"ab\r\n"), max in 0..9_usize, cuts in cuts()) {
        let found = whatever_the_cuts(|| Lines::new(max), &stream, &cuts);
        errors_come_early(Lines::new(max), &found, &[b"\n"]);
        prop_assert_eq!(found.0, split_at(&stream, b"\n", max, without_cr));
    }

    #[test]
    fn delimited_frames_are_the_same_whatever_the_cuts(
        stream in bytes_of(b"ab"),
        delimiter in vec(select(b"ab".to_vec()), 1..5),
        max in 0..9_usize,
        cuts in cuts(),
    ) {
        let new = || Delimiter::new(delimiter.clone(), max);
        let found = whatever_the_cuts(new, &stream, &cuts);
        let endings: Vec<_> = (0..delimiter.len()).map(|from| &delimiter[from..]).collect();
        errors_come_early(new(), &found, &endings);
        prop_assert_eq!(found.0, split_at(&stream, &delimiter, max, |frame| frame));
    }

    #[test]
    fn frames_of_one_size_are_the_same_whatever_the_cuts(
        stream in vec(any::<u8>(), 0..60),
        size in 1..9_usize,
        cuts in cuts(),
    ) {
        let new = || FixedSize::new(NonZero::new(size).unwrap());
        let (frames, rest) = whatever_the_cuts(new, &stream, &cuts);
        let (whole, incomplete) = stream.split_at(stream.len() / size * size);
        prop_assert_eq!(frames.concat(), whole);
        prop_assert!(frames.iter().all(|frame| frame.len() == size));
        prop_assert_eq!(rest, Ok(incomplete.to_vec()));
    }

    #[test]
    fn frames_behind_their_length_are_the_same_whatever_the_cuts(
        stream in bytes_of(b"\x00\x00\x00\x00\x01\x02\x05\xff"),
        framing in length_delimited(),
        cuts in cuts(),
    ) {
        let (frames, end) = whatever_the_cuts(|| framing, &stream, &cuts);
        // Written again they are what was read.
        let mut again = Vec::new();
        for frame in frames {
            framing.encode(&frame, &mut again).unwrap();
        }
        again.extend(end.unwrap_or_else(|_| stream[again.len()..].to_vec()));
        prop_assert_eq!(again, stream);
    }

    #[test]
    fn what_is_encoded_is_decoded(
        payloads in vec(vec(any::<u8>(), 0..300), 0..5),
        framing in length_delimited(),
        cuts in vec(0..900_usize, 0..9),
    ) {
        let mut stream = Vec::new();
        let mut sent = Vec::new();
        for payload in payloads {
            let before = stream.len();
            match framing.encode(&payload, &mut stream) {
                Ok(()) => sent.push(payload),
                Err(_) => prop_assert_eq!(stream.len(), before),
            }
        }
        prop_assert_eq!(frames_of(&mut framing.clone(), &stream, &cuts), (sent, Ok(Vec::new())));
    }
}

// ---- the limits ----

#[track_caller]
fn found<'a>(framing: &mut impl Framing, input: &'a [u8]) -> Option<&'a [u8]> {
    framing.next(input).expect("no error").map(|frame| frame.payload())
}

#[track_caller]
fn assert_too_long(mut framing: impl Framing + Debug, input: &[u8], expected: usize) {
    assert_eq!(framing.next(input), Err(FrameError::TooLong { limit: expected }), "{framing:?}");
}

#[test]
fn a_line_as_long_as_the_limit_may_end_in_either_way() {
    assert_eq!(found(&mut Lines::new(3), b"abc\n"), Some(&b"abc"[..]));
    assert_eq!(found(&mut Lines::new(3), b"abc\r\n"), Some(&b"abc"[..]));
    assert_eq!(found(&mut Lines::new(3), b"abc\r"), None);
    assert_eq!(found(&mut Lines::new(0), b"\r\n"), Some(&b""[..]));
    assert_eq!(found(&mut Lines::new(usize::MAX), b"abc"), None);
}

#[test]
fn a_line_is_too_long_with_the_first_byte_that_is_too_many() {
    assert_too_long(Lines::new(3), b"abcd", 3);
    assert_too_long(Lines::new(3), b"abc\rd", 3);
    assert_too_long(Lines::new(3), b"abc\r\r\n", 3);
    assert_too_long(Lines::new(0), b"a", 0);
}

#[test]
fn only_one_carriage_return_belongs_to_the_end_of_a_line() {
    assert_eq!(found(&mut Lines::new(9), b"a\rb\r\r\n"), Some(&b"a\rb\r"[..]));
}

#[test]
fn a_delimiter_that_has_begun_at_the_limit_may_still_end_the_frame() {
    assert_eq!(found(&mut Delimiter::new(b"--\n", 2), b"ab--"), None);
    assert_eq!(found(&mut Delimiter::new(b"--\n", 2), b"ab--\n"), Some(&b"ab"[..]));
    assert_too_long(Delimiter::new(b"--\n", 2), b"ab-x", 2);
    assert_too_long(Delimiter::new(b"--\n", 2), b"abc", 2);
    assert_too_long(Delimiter::new(b"--\n", 2), b"abc--\n", 2);
    assert_eq!(found(&mut Delimiter::new(b"--", usize::MAX), b"abc"), None);
}

#[test]
#[should_panic(expected = "a delimiter has at least one byte")]
fn a_delimiter_is_not_empty() {
    let _ = Delimiter::new(b"", 1);
}

#[test]
#[should_panic(expected = "a frame takes at least one byte")]
fn a_frame_takes_something() {
    let _ = Frame::new(b"", 0);
}

#[test]
fn a_length_field_alone_says_that_a_frame_is_too_long() {
    let frames = |width| LengthDelimited::new(width, Endian::Big, 3);
    assert_too_long(frames(Width::U8), b"\x04", 3);
    assert_too_long(frames(Width::U16), b"\x00\x04", 3);
    assert_too_long(frames(Width::U32), b"\xff\xff\xff\xff", 3);
    assert_eq!(found(&mut frames(Width::U8), b"\x03ab"), None);
    assert_eq!(found(&mut frames(Width::U8), b"\x00"), Some(&b""[..]));
}

#[test]
fn every_width_and_order_is_as_the_processor_has_it() {
    let encoded = |width, endian| {
        let mut output = Vec::new();
        LengthDelimited::new(width, endian, 1000).encode(&[7; 0x102][..], &mut output).map(|()| {
            output.truncate(output.len() - 0x102);
            output
        })
    };
    assert_eq!(encoded(Width::U8, Endian::Big), Err(FrameError::TooLong { limit: 255 }));
    assert_eq!(encoded(Width::U16, Endian::Big).unwrap(), 0x102_u16.to_be_bytes());
    assert_eq!(encoded(Width::U16, Endian::Little).unwrap(), 0x102_u16.to_le_bytes());
    assert_eq!(encoded(Width::U32, Endian::Big).unwrap(), 0x102_u32.to_be_bytes());
    assert_eq!(encoded(Width::U32, Endian::Little).unwrap(), 0x102_u32.to_le_bytes());
}

#[test]
fn an_adjustment_is_added_to_the_field_and_taken_from_what_is_written() {
    let counts_itself = LengthDelimited::new(Width::U8, Endian::Big, 9).adjusted_by(-1);
    assert_eq!(found(&mut counts_itself.clone(), b"\x03ab"), Some(&b"ab"[..]));
    assert_eq!(counts_itself.clone().next(b"\x00"), Err(FrameError::NegativeLength { length: -1 }));
    let has_a_trailer = LengthDelimited::new(Width::U8, Endian::Big, 9).adjusted_by(2);
    assert_eq!(found(&mut has_a_trailer.clone(), b"\x01abc"), Some(&b"abc"[..]));
    assert_eq!(has_a_trailer.encode(b"a", &mut Vec::new()), Err(FrameError::NegativeLength { length: -1 }));
}

#[test]
fn no_adjustment_overflows() {
    for (adjustment, of_a_field, of_a_payload) in [
        (i64::MAX, FrameError::TooLong { limit: 9 }, FrameError::NegativeLength { length: 2 - i64::MAX }),
        (i64::MIN, FrameError::NegativeLength { length: i64::MIN + 255 }, FrameError::TooLong { limit: 0 }),
    ] {
        let frames = LengthDelimited::new(Width::U8, Endian::Big, 9).adjusted_by(adjustment);
        assert_eq!(frames.clone().next(b"\xff"), Err(of_a_field));
        assert_eq!(frames.encode(b"ab", &mut Vec::new()), Err(of_a_payload));
    }
}

// ---- the cost ----

/// How many bytes are looked at when the input comes one byte at a time.
fn examined(framing: &mut impl Framing, stream: &[u8]) -> usize {
    EXAMINED.set(0);
    let every: Vec<_> = (0..stream.len()).collect();
    let (_, end) = frames_of(framing, stream, &every);
    assert!(end.is_ok());
    EXAMINED.get()
}

#[test]
fn single_bytes_cost_no_more_than_all_at_once() {
    let line = [&[b'a'; 20_000][..], b"\n"].concat();
    assert_eq!(examined(&mut Lines::new(20_000), &line), line.len());
    assert_eq!(examined(&mut Delimiter::new(b"\n", 20_000), &line), line.len());
    // Of a delimiter of two bytes the last byte that came may be the first.
    assert!(examined(&mut Delimiter::new(b"\r\n", 30_000), &line) <= 2 * line.len());
}

#[test]
fn a_line_that_follows_a_long_one_is_searched_from_its_beginning() {
    let mut lines = Lines::new(9);
    assert_eq!(lines.next(b"abcdef"), Ok(None));
    assert_eq!(lines.next(b"abcdefg\n"), Ok(Some(Frame::new(b"abcdefg", 8))));
    assert_eq!(lines.next(b"a\nb\n"), Ok(Some(Frame::new(b"a", 2))));
}
