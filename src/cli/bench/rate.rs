//! Rates as they are written on the command line.

use std::{fmt, str::FromStr};

use super::units;
use crate::cli::values;

/// A number of events per second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Rate(f64);

impl Rate {
    pub(crate) const fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    /// As `500`, `10k`, `10k/s` or `1.5M/s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix("/s").unwrap_or(text.trim());
        match values::scaled(number) {
            Some(rate) if (1e-3..=1e9).contains(&rate) => Ok(Self(rate)),
            Some(_) => Err("it must be from 0.001 to 1G in a second".to_owned()),
            None => Err("write it like 500, 10k/s or 1.5M/s".to_owned()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", units::number(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units_and_bounds() {
        for (text, rate) in
            [("1", 1.0), ("10k", 10_000.0), ("10k/s", 10_000.0), ("1.5M/s", 1.5e6), ("0.5", 0.5)]
        {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for bad in ["", "0", "-1", "x", "10k/h", "/s", "nan", "inf", "2G", "1e3"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!("10k/s".parse::<Rate>().unwrap().to_string(), "10,000/s");
    }
}
