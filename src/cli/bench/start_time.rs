//! Times of day as they are written on the command line.

use std::time::{Duration, SystemTime};

use super::{clock, units};

const FORMS: &str = "write it like 2026-01-31T12:00:00Z, 2026-01-31 13:00:00+01:00 or @1769860800";

/// A time that has not passed: a date and time with `Z` or an offset from UTC, or `@` and the seconds since 1970.
pub(super) fn start_time(text: &str) -> Result<SystemTime, String> {
    let time = parse(text).ok_or(FORMS)?;
    match clock::time_of_day().duration_since(time) {
        Ok(ago) if !ago.is_zero() => Err(format!("that time has passed, {} ago", units::duration(ago))),
        Ok(_) | Err(_) => Ok(time),
    }
}

fn parse(text: &str) -> Option<SystemTime> {
    if let Some(seconds) = text.strip_prefix('@') {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?);
    }
    // humantime knows UTC only, and takes a time without an offset for UTC. Here that is refused: most who write one
    // mean their own time.
    if let Some(utc) = text.strip_suffix(['Z', 'z']) {
        return humantime::parse_rfc3339_weak(utc).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let [hours, minutes] = [(hours, 23), (minutes, 59)].map(|(digits, max)| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|&number| is_number && number <= max)
    });
    let offset_seconds = Duration::from_secs(hours? * 3_600 + minutes? * 60);
    let local = humantime::parse_rfc3339_weak(local).ok()?;
    match offset.as_bytes()[0] {
        b'+' => local.checked_sub(offset_seconds),
        b'-' => local.checked_add(offset_seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_time_can_be_written_in_several_ways() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800);
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00:00.000Z",
            "2026-01-31T13:00:00+01:00",
            "2026-01-31 12:00:00+00:00",
            "2026-01-31T06:30:00-05:30",
            "@1769860800",
            "@1769860800.0",
        ] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_could_be_any() {
        for text in [
            "",
            "Z",
            "@",
            "@-1",
            "@nan",
            "12:00:00",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-30T12:00:00Z",
            "2026-01-31T12:00:00+1:00",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00 01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,30}|[0-9-]{10}T[0-9:]{8}.{0,8}|@.{0,20}") {
            let _ = parse(&text);
        }
    }
}
