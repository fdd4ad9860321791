//! Numbers with units, as people read them.

use std::time::Duration;

use indicatif::HumanCount;

use super::clock;

/// A number: whole from 100, otherwise with two decimals at most.
pub(crate) fn number(number: f64) -> String {
    if number >= 100.0 {
        // Parsed again, because formatting rounds and a cast would not.
        let rounded = format!("{number:.0}");
        return rounded.parse().map_or(rounded, |number| HumanCount(number).to_string());
    }
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A latency, with three digits in the unit that suits it.
pub(crate) fn latency(nanos: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let nanos = nanos as f64;
    // What would be written as 1000 of a unit is 1 of the next.
    let (unit, size) = UNITS.into_iter().rev().find(|&(_, size)| nanos >= size * 0.9995).unwrap_or(UNITS[0]);
    format!("{} {unit}", three_digits(nanos / size))
}

/// Bytes, with three digits in the decimal unit that suits them.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9)];
    let (unit, size) = UNITS.into_iter().rev().find(|&(_, size)| bytes >= size * 0.9995).unwrap_or(UNITS[0]);
    format!("{} {unit}", three_digits(bytes / size))
}

/// The size of a message, in the largest binary unit of which it is a whole number.
pub(crate) fn size(bytes: usize) -> String {
    const UNITS: [(&str, usize); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let fits = |&(_, size): &(&str, usize)| bytes >= size && bytes.is_multiple_of(size);
    let (unit, size) = UNITS.into_iter().find(fits).unwrap_or(("B", 1));
    format!("{} {unit}", bytes / size)
}

/// A duration, in the unit that suits it.
pub(crate) fn duration(duration: Duration) -> String {
    latency(clock::nanos(duration))
}

fn three_digits(number: f64) -> String {
    if number < 9.995 {
        let text = format!("{number:.2}");
        return text.strip_suffix(".00").unwrap_or(&text).to_owned();
    }
    if number < 99.95 { format!("{number:.1}") } else { format!("{number:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (12_345, "12.3 µs"),
            (999_400, "999 µs"),
            (999_600, "1 ms"),
            (1_234_567, "1.23 ms"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(latency(nanos), text);
        }
        assert_eq!(bytes(78_000_000.0), "78.0 MB");
        assert_eq!(bytes(5.0), "5 B");
        assert_eq!(duration(Duration::from_millis(1_500)), "1.50 s");
        assert_eq!([512, 4096, 4 << 20, 1025].map(size), ["512 B", "4 KiB", "4 MiB", "1025 B"]);
    }

    #[test]
    fn numbers_have_no_needless_digits() {
        for (value, text) in [
            (1_234_567.0, "1,234,567"),
            (12_345.6, "12,346"),
            (1_000.0, "1,000"),
            (999.0, "999"),
            (10.0, "10"),
            (0.5, "0.5"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
