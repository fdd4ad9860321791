//! Dates as HTTP writes them.

use std::time::Duration;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

const DAY: u64 = 86_400;

/// An IMF-fixdate (RFC 9110, section 5.6.7), of a time since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn http_date(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let days = seconds / DAY;
    let (year, mut day) = year_of(days);
    let mut month = 0;
    while day >= length(year, month) {
        day -= length(year, month);
        month += 1;
    }
    let weekday = DAYS.into_iter().cycle().nth(usize::try_from(days % 7).unwrap_or(0)).unwrap_or("");
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    let name = MONTHS[month].0;
    format!("{weekday}, {:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

/// The year of a day since 1970, and which of its days that is, from 0.
fn year_of(mut days: u64) -> (u64, u64) {
    // The calendar repeats itself after 400 years.
    let mut year = 1970 + 400 * (days / 146_097);
    days %= 146_097;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            return (year, days);
        }
        days -= length;
        year += 1;
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn length(year: u64, month: usize) -> u64 {
    MONTHS[month].1 + u64::from(month == 1 && is_leap(year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_that_date_1_says() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(http_date(Duration::from_secs(seconds)), date);
        }
    }

    #[test]
    fn no_time_is_too_late() {
        assert!(http_date(Duration::from_secs(u64::MAX / 2)).ends_with(" GMT"));
    }
}
