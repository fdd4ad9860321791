//! Values as they are written on the command line: numbers, sizes, durations.

use std::time::Duration;

/// The port of the tutorial's sample.
pub(crate) const DEFAULT_PORT: u16 = 27015;

/// The largest size that is accepted. No connection needs more memory than this.
const SIZE_MAX: usize = 1 << 30;

/// A timeout that can be turned off: `None` if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionalTimeout(pub(crate) Option<Duration>);

/// A duration such as `10m` or `1s 500ms`; `0` or `off` turns the timeout off.
pub(crate) fn timeout(text: &str) -> Result<OptionalTimeout, String> {
    if text == "0" || text.eq_ignore_ascii_case("off") {
        return Ok(OptionalTimeout(None));
    }
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(OptionalTimeout(None)),
        Ok(duration) => Ok(OptionalTimeout(Some(duration))),
        Err(error) => Err(format!("{error}; write it like 500ms, 30s or 10m, or off")),
    }
}

/// A duration that is longer than 0.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    timeout(text)?.0.ok_or_else(|| "it must be longer than 0".to_owned())
}

/// A size in bytes such as `4096`, `64KiB` or `1MB`, from 1 byte to 1 GiB.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize = text.parse().map_err(|_| "write it like 4096, 64KiB or 1MB".to_owned())?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(size) if size <= SIZE_MAX => Ok(size),
        Ok(_) | Err(_) => Err("it must be at most 1GiB".to_owned()),
    }
}

/// A whole number from 1, without a unit.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// A whole number from 1, such as `1000`, `10k` or `1M`.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    if let Ok(number) = at_least_one(text) {
        return u64::try_from(number).map_err(|error| error.to_string());
    }
    match scaled(text) {
        // The fraction is shown if there is one, and then the text is no whole number.
        Some(number) if (1.0..=1e15).contains(&number) => {
            number.to_string().parse().map_err(|_| "it must be a whole number".to_owned())
        }
        Some(_) => Err("it must be at least 1".to_owned()),
        None => Err("write it like 1000, 10k or 1M".to_owned()),
    }
}

/// A positive number with an optional `k`, `M` or `G`: thousands, millions, billions. `None` if it is not one.
pub(crate) fn scaled(text: &str) -> Option<f64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1e3),
        b'm' | b'M' => (&text[..text.len() - 1], 1e6),
        b'g' | b'G' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !digits.is_empty();
    digits.parse::<f64>().ok().filter(|_| is_plain).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,30}|-?[0-9]{0,25} ?[a-zA-Z]{0,4}") {
            if let Err(error) = timeout(&text) {
                prop_assert!(!error.is_empty());
            }
            if let Ok(size) = size(&text) {
                prop_assert!((1..=SIZE_MAX).contains(&size));
            }
            if let Ok(number) = at_least_one(&text) {
                prop_assert!(number >= 1);
            }
            if let Ok(number) = count(&text) {
                prop_assert!(number >= 1);
            }
        }
    }

    #[test]
    fn durations_and_sizes_have_units_and_bounds() {
        assert_eq!(timeout("off"), Ok(OptionalTimeout(None)));
        assert_eq!(timeout("0"), Ok(OptionalTimeout(None)));
        assert_eq!(timeout("0s"), Ok(OptionalTimeout(None)));
        assert_eq!(timeout("1m 30s"), Ok(OptionalTimeout(Some(Duration::from_secs(90)))));
        for bad in ["", "5", "-5s", "5 parsecs", "99999999999999999999s"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1000"), Ok(1000));
        for bad in ["", "0", "-1", "x", "2GiB", "99999999999999999999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_read_with_units() {
        for (text, number) in [("1", 1.0), ("10k", 1e4), ("2.5M", 2.5e6), ("1G", 1e9), ("7K", 7e3)] {
            assert_eq!(scaled(text), Some(number), "{text}");
        }
        for bad in ["", "k", "-1", "+1", "1e3", "inf", "1.2.3", "1 k", "1kk", "µ"] {
            assert_eq!(scaled(bad), None, "{bad}");
        }
    }
}
