//! Figures as people read them.

use std::time::Duration;

/// `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three digits of it, unless it is whole: `0.12`, `5`, `12.3`, `123`, `1,234`.
pub(super) fn number(x: f64) -> String {
    if x >= 99.95 || (x >= 1.0 && (x - x.round()).abs() < 1e-9) {
        // More than there are integers is shown as the largest of them.
        format!("{x:.0}").parse().map_or_else(|_| format!("{x:.0}"), count)
    } else if x >= 9.995 {
        format!("{x:.1}")
    } else if x > 0.0 {
        format!("{x:.2}")
    } else {
        "0".to_owned()
    }
}

/// `512 B`, `1.50 MiB`.
pub(super) fn bytes(n: f64) -> String {
    let (mut n, mut unit) = (n, "B");
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if n < 1024.0 {
            break;
        }
        (n, unit) = (n / 1024.0, next);
    }
    format!("{} {unit}", number(n))
}

/// `250 µs`, `12.3 ms`, `7.50 s`, `3 h 5 min`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time < Duration::from_millis(1) => format!("{} µs", number(time.as_secs_f64() * 1e6)),
        0 => format!("{} ms", number(time.as_secs_f64() * 1e3)),
        1..60 => format!("{} s", number(time.as_secs_f64())),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Text between tags and in attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let counts = [0, 7, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "7", "999", "1,000", "1,234,567"]);
        let numbers = [0.0, 0.123, 5.0, 9.99, 9.999, 12.34, 99.94, 99.96, 1_234.5, 1e30].map(number);
        assert_eq!(
            numbers,
            [
                "0",
                "0.12",
                "5",
                "9.99",
                "10.0",
                "12.3",
                "99.9",
                "100",
                "1,234",
                "1000000000000000019884624838656"
            ]
        );
        assert_eq!([0.0, 1_023.0, 1_536.0, 3.3e9].map(bytes), ["0 B", "1,023 B", "1.50 KiB", "3.07 GiB"]);
        let times = [0, 250, 12_345, 7_500_000, 90_000_000, 11_100_000_000, 180_000_000_000];
        assert_eq!(
            times.map(|micros| duration(Duration::from_micros(micros))),
            ["0 µs", "250 µs", "12.3 ms", "7.50 s", "1 min 30 s", "3 h 5 min", "2 d 2 h"]
        );
    }

    #[test]
    fn text_cannot_leave_its_place_in_a_page() {
        assert_eq!(escaped("unix:/tmp/<a href='x'>&\""), "unix:/tmp/&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
