//! Values as they are written on the command line: numbers, sizes, durations.

use std::{net::SocketAddr, time::Duration};

use echoloop::{Address, AddressError};

/// The port of the tutorial's sample.
pub(crate) const DEFAULT_PORT: u16 = 27015;

/// The largest size that is accepted. No connection needs more memory than this.
const SIZE_MAX: usize = 1 << 30;

/// Where to listen: an address whose port may be left out. Without a host, as in `:7000`, it is every interface.
pub(crate) fn listen_address(text: &str) -> Result<Address, AddressError> {
    match text.strip_prefix("udp:") {
        Some(text) => format!("udp:{}", with_port(text)).parse(),
        None => with_port(text).parse(),
    }
}

/// The same with the default port, if it has none.
fn with_port(text: &str) -> String {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = unbracketed.parse() {
        return SocketAddr::new(ip, DEFAULT_PORT).to_string();
    }
    let has_port = text.contains(':') && !text.ends_with(']');
    if text.is_empty() || has_port { text.to_owned() } else { format!("{text}:{DEFAULT_PORT}") }
}

/// Where a server is: an address whose port may be left out, and its host if that is this machine.
pub(crate) fn server_address(text: &str) -> Result<Address, AddressError> {
    let mut address = listen_address(text)?;
    if let Address::Host { name, .. } | Address::UdpHost { name, .. } = &mut address
        && name.is_empty()
    {
        "localhost".clone_into(name);
    }
    Ok(address)
}

/// A timeout that can be turned off: `None` if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionalTimeout(pub(crate) Option<Duration>);

/// A duration such as `10m` or `1s 500ms`; `0` or `off` turns the timeout off.
pub(crate) fn timeout(text: &str) -> Result<OptionalTimeout, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(OptionalTimeout(None));
    }
    let duration = parse_duration(text, "write it like 500ms, 30s, 10m or off")?;
    Ok(OptionalTimeout(Some(duration).filter(|duration| !duration.is_zero())))
}

/// A duration that is longer than 0.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text, "write it like 500ms, 30s or 10m")? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration, which may be `0`. `forms` is the error if it is not one.
fn parse_duration(text: &str, forms: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| {
        let is_too_long = matches!(error, humantime::DurationError::NumberOverflow);
        if is_too_long { format!("it is too long; {forms}") } else { forms.to_owned() }
    })
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

/// More than anybody counts, and exact as a fraction.
pub(crate) const COUNT_MAX: u64 = 1_000_000_000_000_000;

/// A whole number from 1, such as `1000`, `10k` or `1M`.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    count_up_to::<u64, COUNT_MAX>(text)
}

/// A whole number from 1 to `MAX`, such as `1000`, `10k` or `1M`.
pub(crate) fn count_up_to<T: TryFrom<u64>, const MAX: u64>(text: &str) -> Result<T, String> {
    let number = scaled(text).ok_or("write it like 1000, 10k or 1M")?;
    if number < 1.0 {
        return Err("it must be at least 1".to_owned());
    }
    if number > MAX as f64 {
        return Err(format!("it must be at most {MAX}"));
    }
    // The fraction is shown if there is one, and then the text is no whole number.
    let whole: u64 = number.to_string().parse().map_err(|_| "it must be a whole number")?;
    T::try_from(whole).map_err(|_| "it is too large for this system".to_owned())
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
            if let Ok(number) = count(&text) {
                prop_assert!((1..=COUNT_MAX).contains(&number));
            }
            let _ = (listen_address(&text), server_address(&text));
        }
    }

    #[test]
    fn durations_and_sizes_have_units_and_bounds() {
        assert_eq!(timeout("off"), Ok(OptionalTimeout(None)));
        assert_eq!(timeout("0"), Ok(OptionalTimeout(None)));
        assert_eq!(timeout("0s"), Ok(OptionalTimeout(None)));
        assert_eq!(timeout("1m 30s"), Ok(OptionalTimeout(Some(Duration::from_secs(90)))));
        for bad in ["", "5", "-5s", "5 parsecs", "99999999999999999999s"] {
            assert!(timeout(bad).is_err() && duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for (bad, why) in
            [("0", "longer than 0"), ("0s", "longer than 0"), ("off", "write it like 500ms, 30s or 10m")]
        {
            assert!(duration(bad).unwrap_err().ends_with(why), "{bad}");
        }
        assert!(timeout("99999999999999999999s").unwrap_err().starts_with("it is too long; "));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1000"), Ok(1000));
        for bad in ["", "0", "-1", "x", "2GiB", "99999999999999999999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_or_a_port_may_be_left_out() {
        for (text, address) in [
            ("localhost", "localhost:27015"),
            ("localhost:7", "localhost:7"),
            ("127.0.0.1", "127.0.0.1:27015"),
            ("::1", "[::1]:27015"),
            ("[::1]", "[::1]:27015"),
            ("[::1]:7", "[::1]:7"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:27015"),
            ("[fe80::1%eth0]:7", "[fe80::1%eth0]:7"),
            ("[fe80::1%2]", "[fe80::1%2]:27015"),
            ("unix:/tmp/x", "unix:/tmp/x"),
            ("udp:localhost", "udp:localhost:27015"),
            ("udp:127.0.0.1", "udp:127.0.0.1:27015"),
            ("udp:::1", "udp:[::1]:27015"),
            ("udp:[::1]:7", "udp:[::1]:7"),
        ] {
            assert_eq!(listen_address(text).unwrap().to_string(), address);
            assert_eq!(server_address(text).unwrap().to_string(), address);
        }
        assert_eq!(listen_address(":7").unwrap().to_string(), ":7");
        assert_eq!(server_address(":7").unwrap().to_string(), "localhost:7");
        assert_eq!(listen_address("udp::7").unwrap().to_string(), "udp::7");
        assert_eq!(server_address("udp::7").unwrap().to_string(), "udp:localhost:7");
        for bad in ["", ":", "localhost:", "a b", "[::1", "::1]", "[[::1]]", "unix:", "udp:", "udp:a b"] {
            assert!(listen_address(bad).is_err() && server_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_whole_and_have_units_and_bounds() {
        for (text, number) in
            [("1", 1), ("10k", 10_000), ("2.5k", 2_500), ("1M", 1_000_000), ("65536", 65_536)]
        {
            assert_eq!(count(text), Ok(number), "{text}");
        }
        assert_eq!(count_up_to::<u16, 1024>("1k"), Ok(1000));
        for (bad, why) in [
            ("", "10k"),
            ("x", "10k"),
            ("-1", "10k"),
            ("0", "at least 1"),
            ("0.5", "at least 1"),
            ("1.5", "whole"),
            ("1025", "at most 1024"),
            ("2k", "at most 1024"),
            ("99999999999999999999999", "at most 1024"),
        ] {
            let error = count_up_to::<u32, 1024>(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
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
