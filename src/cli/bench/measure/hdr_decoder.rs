//! Decodes histograms as HdrHistogram and its kin encode them: versions 0, 1 and 2, compressed or not.
//!
//! A histogram is decoded as a stream of counts. Nothing is allocated for the range and the precision that its header
//! claims, nor for its counts.

use std::io::{self, BufReader, Read};

use flate2::read::ZlibDecoder;

/// The first four bytes, without the word size.
const V0: u32 = 0x1c84_9308;
const V0_COMPRESSED: u32 = 0x1c84_9309;
const V1: u32 = 0x1c84_9301;
const V1_COMPRESSED: u32 = 0x1c84_9302;
const V2: u32 = 0x1c84_9303;
const V2_COMPRESSED: u32 = 0x1c84_9304;

/// Where the first four bytes have the size of a count: 2, 4 or 8 bytes; in version 2 it means nothing.
const WORD_SIZE: u32 = 0xf0;

/// The most digits that HdrHistogram can keep.
const DIGITS_MAX: u32 = 5;

/// The largest value is less than 2 to the power of this.
const VALUE_BITS: u32 = 63;

const CUT_OFF: &str = "it is cut off";

/// Calls `record` with each value that was recorded, and how often. Of the values that a histogram cannot tell apart,
/// that is the lowest, as when HdrHistogram itself adds up histograms of different precision.
///
/// When it fails, some values may have been recorded.
pub(super) fn decode(mut encoded: &[u8], record: impl FnMut(u64, u64)) -> Result<(), String> {
    let cookie = u32::from_be_bytes(array(&mut encoded)?);
    match cookie & !WORD_SIZE {
        V0_COMPRESSED | V1_COMPRESSED | V2_COMPRESSED => {
            let length = u32::from_be_bytes(array(&mut encoded)?);
            let compressed = usize::try_from(length).ok().and_then(|length| encoded.get(..length));
            let mut inside = BufReader::new(ZlibDecoder::new(compressed.ok_or(CUT_OFF)?));
            let cookie = u32::from_be_bytes(array(&mut inside)?);
            decode_plain(cookie, &mut inside, record)?;
            // The checksum is at the end.
            inside.read(&mut [0]).map(|_| ()).map_err(|error| damaged(&error))
        }
        _ => decode_plain(cookie, encoded, record),
    }
}

/// Decodes what follows the first four bytes of a histogram that is not compressed.
fn decode_plain(cookie: u32, mut bytes: impl Read, record: impl FnMut(u64, u64)) -> Result<(), String> {
    let word_bytes = (cookie & WORD_SIZE) >> 4;
    let version = cookie & !WORD_SIZE;
    match version {
        V0 => {
            let layout = Layout::read(&mut bytes)?;
            let _total = array::<8>(&mut bytes)?;
            // The counts go on to the end.
            Counts { layout, index: 0, bytes, record }.decode_words(word_bytes)
        }
        V1 | V2 => {
            let length = u64::from(u32::from_be_bytes(array(&mut bytes)?));
            let offset = u32::from_be_bytes(array(&mut bytes)?);
            let layout = Layout::read(&mut bytes)?;
            let ratio = f64::from_be_bytes(array(&mut bytes)?);
            if offset != 0 || ratio.to_bits() != 1.0_f64.to_bits() {
                return Err("histograms of fractions are not supported".to_owned());
            }
            let mut counts = Counts { layout, index: 0, bytes: bytes.take(length), record };
            if version == V1 {
                counts.decode_words(word_bytes)?
            } else {
                counts.decode_varints()?
            }
            if counts.bytes.limit() == 0 { Ok(()) } else { Err(CUT_OFF.to_owned()) }
        }
        _ => Err("it is no histogram of HdrHistogram".to_owned()),
    }
}

/// Which value each count is of.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Values are multiples of 2 to the power of this.
    unit_bits: u32,
    /// In the upper half of each power of two there are 2 to the power of this many counts.
    half_bits: u32,
}

impl Layout {
    /// Reads the number of digits, and the lowest and the highest value.
    fn read(bytes: &mut impl Read) -> Result<Self, String> {
        let digits = u32::from_be_bytes(array(bytes)?);
        let lowest = u64::from_be_bytes(array(bytes)?);
        // The counts themselves say how far they go.
        let _highest = array::<8>(bytes)?;
        if digits > DIGITS_MAX || lowest == 0 {
            return Err("its precision is impossible".to_owned());
        }
        let units = 2 * 10_u64.pow(digits);
        let layout =
            Self { unit_bits: lowest.ilog2(), half_bits: units.next_power_of_two().ilog2().max(1) - 1 };
        if layout.unit_bits + layout.half_bits + 1 < VALUE_BITS {
            Ok(layout)
        } else {
            Err("its precision is impossible".to_owned())
        }
    }

    /// The lowest value that the count at this index is of; `None` if there is no such value.
    fn lowest_value(self, index: u64) -> Option<u64> {
        let half = 1_u64 << self.half_bits;
        let (units, doublings) = match index >> self.half_bits {
            0 => (index, 0),
            bucket => (half + (index & (half - 1)), u32::try_from(bucket - 1).ok()?),
        };
        let shift = self.unit_bits.checked_add(doublings)?;
        let fits = shift.checked_add(self.half_bits + 1)? <= VALUE_BITS;
        fits.then(|| units << shift)
    }
}

/// The counts of a histogram, and where they go.
struct Counts<R, F> {
    layout: Layout,
    /// Of the next count.
    index: u64,
    bytes: R,
    record: F,
}

impl<R: Read, F: FnMut(u64, u64)> Counts<R, F> {
    /// Versions 0 and 1: every count has this many bytes.
    fn decode_words(&mut self, word_bytes: u32) -> Result<(), String> {
        if !matches!(word_bytes, 2 | 4 | 8) {
            return Err("its counts have an impossible size".to_owned());
        }
        while let Some(first) = self.first_byte()? {
            let mut count = u64::from(first);
            for _ in 1..word_bytes {
                count = count << 8 | u64::from(self.byte()?);
            }
            if first >= 0x80 {
                return Err("a count is negative".to_owned());
            }
            self.add(count)?;
        }
        Ok(())
    }

    /// Version 2: ZigZag LEB128, in which a negative number is that many counts of 0.
    fn decode_varints(&mut self) -> Result<(), String> {
        while let Some(first) = self.first_byte()? {
            let mut number = u64::from(first & 0x7f);
            let (mut more, mut shift) = (first >= 0x80, 7);
            while more {
                let byte = self.byte()?;
                // The ninth byte, if there is one, has eight bits.
                let is_last = shift == 56;
                number |= u64::from(if is_last { byte } else { byte & 0x7f }) << shift;
                (more, shift) = (byte >= 0x80 && !is_last, shift + 7);
            }
            let magnitude = number >> 1;
            if number & 1 == 0 {
                self.add(magnitude)?;
            } else {
                self.skip(magnitude.saturating_add(1))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, count: u64) -> Result<(), String> {
        let Some(value) = self.layout.lowest_value(self.index) else {
            return Err("it has more counts than there are values".to_owned());
        };
        if count > 0 {
            (self.record)(value, count);
        }
        self.index += 1;
        Ok(())
    }

    fn skip(&mut self, counts: u64) -> Result<(), String> {
        self.index = self.index.saturating_add(counts);
        // The last one skipped must have a value, too.
        match self.layout.lowest_value(self.index - 1) {
            Some(_) => Ok(()),
            None => Err("it has more counts than there are values".to_owned()),
        }
    }

    /// The next byte; `None` at the end.
    fn first_byte(&mut self) -> Result<Option<u8>, String> {
        let mut byte = [0];
        match self.bytes.read(&mut byte) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            Err(error) => Err(damaged(&error)),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.first_byte()?.ok_or_else(|| CUT_OFF.to_owned())
    }
}

fn array<const N: usize>(bytes: &mut impl Read) -> Result<[u8; N], String> {
    let mut array = [0; N];
    bytes.read_exact(&mut array).map_err(|error| damaged(&error))?;
    Ok(array)
}

fn damaged(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof { CUT_OFF.to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};
    use hdrhistogram::{
        Histogram,
        serialization::{Serializer, V2DeflateSerializer, V2Serializer},
    };
    use proptest::prelude::*;

    use super::*;

    /// The header of version 1 and 2, and then these bytes.
    fn plain(cookie: u32, digits: u32, lowest: u64, highest: u64, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let mut bytes = Vec::new();
        for number in [cookie, length, 0, digits] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(lowest.to_be_bytes());
        bytes.extend(highest.to_be_bytes());
        bytes.extend(1.0_f64.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The header of version 0, and then these bytes.
    fn plain_v0(cookie: u32, digits: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(digits.to_be_bytes());
        for number in [1_u64, 3_600_000_000, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    fn compressed(cookie: u32, plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        let inside = encoder.finish().unwrap();
        let length = u32::try_from(inside.len()).unwrap();
        [&cookie.to_be_bytes()[..], &length.to_be_bytes(), &inside].concat()
    }

    /// The counts of a histogram with three digits: none of 0, two of 1, none of 2, three of 3.
    fn words(bytes: usize) -> Vec<u8> {
        [0_u64, 2, 0, 3].iter().flat_map(|count| count.to_be_bytes()[8 - bytes..].to_vec()).collect()
    }

    fn values(encoded: &[u8]) -> Result<Vec<(u64, u64)>, String> {
        let mut values = Vec::new();
        decode(encoded, |value, count| values.push((value, count)))?;
        Ok(values)
    }

    #[test]
    fn versions_0_and_1_are_read_with_counts_of_any_size() {
        for bytes in [2, 4, 8] {
            let word_size = u32::try_from(bytes).unwrap() << 4;
            let v0 = plain_v0(V0 | word_size, 3, &words(bytes));
            let v1 = plain(V1 | word_size, 3, 1, 3_600_000_000, &words(bytes));
            for encoded in [
                compressed(V0_COMPRESSED | word_size, &v0),
                compressed(V1_COMPRESSED | word_size, &v1),
                v0,
                v1,
            ] {
                assert_eq!(values(&encoded), Ok(vec![(1, 2), (3, 3)]), "{bytes}: {encoded:02x?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What another implementation writes, with its own idea of which values a histogram cannot tell apart.
        #[test]
        fn version_2_is_read_as_the_crate_writes_it(
            digits in 0_u8..=4,
            lowest in prop_oneof![Just(1_u64), 1_u64..5_000],
            recorded in prop::collection::vec((0_u64..1 << 30, 1_u64..1 << 40), 0..20),
        ) {
            let mut histogram = Histogram::<u64>::new_with_bounds(lowest, 1 << 30, digits).unwrap();
            for &(value, count) in &recorded {
                histogram.record_n(value, count).unwrap();
            }
            let expected: Vec<_> = histogram
                .iter_recorded()
                .map(|bucket| {
                    (histogram.lowest_equivalent(bucket.value_iterated_to()), bucket.count_at_value())
                })
                .collect();
            let (mut plain, mut compressed) = (Vec::new(), Vec::new());
            V2Serializer::new().serialize(&histogram, &mut plain).unwrap();
            V2DeflateSerializer::new().serialize(&histogram, &mut compressed).unwrap();
            prop_assert_eq!(values(&plain), Ok(expected.clone()));
            prop_assert_eq!(values(&compressed), Ok(expected));
        }

        #[test]
        fn no_bytes_are_too_strange(
            cookie in prop::sample::select(&[V0, V1, V2, V0_COMPRESSED, V1_COMPRESSED, V2_COMPRESSED][..]),
            word_size in 0_u32..16,
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let encoded = [&(cookie | word_size << 4).to_be_bytes()[..], &rest].concat();
            let _ = decode(&encoded, |_, _| {});
        }
    }

    #[test]
    fn a_header_that_claims_too_much_costs_nothing_or_is_refused() {
        // The largest range with the best precision: 50 MB of counts, if they were allocated. One is there.
        let vast = plain(V2 | 0x10, 5, 1, i64::MAX as u64, &[2]);
        assert_eq!(values(&vast), Ok(vec![(0, 1)]));
        for (digits, lowest) in [(6, 1), (u32::MAX, 1), (3, 0), (3, 1 << 60), (5, 1 << 45)] {
            let wrong = plain(V2 | 0x10, digits, lowest, i64::MAX as u64, &[2]);
            assert_eq!(values(&wrong), Err("its precision is impossible".to_owned()), "{digits} {lowest}");
        }
        // Four zeros that stand for more counts than there are values.
        let long = plain(V2 | 0x10, 3, 1, 1_000, &[0xff, 0xff, 0xff, 0xff, 0x0f, 2]);
        assert_eq!(values(&long), Err("it has more counts than there are values".to_owned()));
        // A small line that inflates to very much ends at the last value there is.
        let zeros = compressed(V0_COMPRESSED | 0x20, &plain_v0(V0 | 0x20, 3, &vec![0; 1 << 18]));
        assert!(zeros.len() < 1 << 10);
        assert_eq!(values(&zeros), Err("it has more counts than there are values".to_owned()));
    }

    #[test]
    fn what_is_cut_off_is_an_error_wherever_it_is_cut() {
        let whole = compressed(V2_COMPRESSED | 0x10, &plain(V2 | 0x10, 3, 1, 1_000, &[1, 4, 1, 6]));
        assert_eq!(values(&whole).unwrap(), [(1, 2), (3, 3)]);
        for length in 0..whole.len() {
            assert!(values(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn what_is_something_else_is_an_error() {
        for other in [0_u32, 0x0c72_124e, 0x0c72_124f, u32::MAX] {
            let encoded = [&other.to_be_bytes()[..], &[0; 40]].concat();
            assert_eq!(values(&encoded), Err("it is no histogram of HdrHistogram".to_owned()));
        }
        assert!(values(&plain(V1 | 0x30, 3, 1, 1_000, &[0; 8])).unwrap_err().contains("size"));
        assert!(values(&plain(V1 | 0x20, 3, 1, 1_000, &[0x80, 0])).unwrap_err().contains("negative"));
    }
}
