//! The lines of a log in the format of HdrHistogram.

/// One line of a log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line<'a> {
    Interval(LogInterval<'a>),
    /// When the log begins, in seconds since the epoch.
    StartTime(f64),
    /// What the times in the log count from, in seconds since the epoch.
    BaseTime(f64),
    /// A comment of `echoloop bench`, which wrote this log.
    OurTitle,
    /// The last line of such a log: how many connections failed.
    OurFailures(u64),
    /// Another comment, the legend, or nothing.
    Other,
}

/// The line of one interval. Its fields are divided by commas, or spaces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogInterval<'a> {
    pub(super) tag: Option<&'a str>,
    /// In seconds, as all times in a log.
    pub(super) start: f64,
    pub(super) length: f64,
    /// In base64.
    pub(super) histogram: &'a str,
}

/// How the title begins that `bench` gives its logs.
pub(super) const OUR_TITLE: &str = "[echoloop bench ";

/// How the comment begins that says how many connections failed.
pub(super) const OUR_FAILURES: &str = "[echoloop failures: ";

/// The longest time that a log can sensibly have, in seconds.
const TIME_MAX: f64 = 1e12;

impl<'a> Line<'a> {
    /// The line without its end. Fails if no program would write such a line into a log.
    pub(super) fn parse(line: &'a str) -> Result<Self, String> {
        if let Some(comment) = line.strip_prefix('#') {
            return Ok(Self::of_comment(comment));
        }
        let is_legend = ["\"StartTimestamp\"", "StartTimestamp", "Timestamp"];
        if line.trim().is_empty() || is_legend.iter().any(|legend| line.starts_with(legend)) {
            return Ok(Self::Other);
        }
        let mut fields = line.split([',', ' ', '\t']).filter(|field| !field.is_empty()).peekable();
        let tag = fields.next_if(|field| field.starts_with("Tag=")).map(|field| &field["Tag=".len()..]);
        let (start, length) = (time(fields.next()), time(fields.next()));
        let (maximum, histogram, end) = (number(fields.next()), fields.next(), fields.next());
        match (start, length, maximum, histogram, end) {
            (Some(start), Some(length), Some(_), Some(histogram), None) => {
                Ok(Self::Interval(LogInterval { tag, start, length, histogram }))
            }
            _ => Err("that is no line of a log of HdrHistogram".to_owned()),
        }
    }

    fn of_comment(comment: &str) -> Self {
        let value = |name| {
            let value = comment.strip_prefix('[')?.strip_prefix(name)?.trim_start();
            time(value.split([' ', ',', ']']).next())
        };
        if let Some(time) = value("StartTime:") {
            Self::StartTime(time)
        } else if let Some(time) = value("BaseTime:") {
            Self::BaseTime(time)
        } else if comment.starts_with(OUR_TITLE) {
            Self::OurTitle
        } else {
            let failures = comment.strip_prefix(OUR_FAILURES).and_then(|rest| rest.strip_suffix(']'));
            failures.and_then(|failures| failures.parse().ok()).map_or(Self::Other, Self::OurFailures)
        }
    }
}

fn time(field: Option<&str>) -> Option<f64> {
    number(field).filter(|time| (0.0..TIME_MAX).contains(time))
}

fn number(field: Option<&str>) -> Option<f64> {
    field?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_four_fields_and_perhaps_a_tag() {
        let interval =
            |tag| Line::Interval(LogInterval { tag, start: 0.127, length: 1.007, histogram: "HIST==" });
        assert_eq!(Line::parse("0.127,1.007,2.769,HIST=="), Ok(interval(None)));
        assert_eq!(Line::parse("0.127, 1.007, 2.769, HIST=="), Ok(interval(None)));
        assert_eq!(Line::parse("Tag=read,0.127,1.007,2.769,HIST=="), Ok(interval(Some("read"))));
        for wrong in [
            "hello",
            "1,2,3",
            "1,2,3,HIST,5",
            "-1,2,3,HIST",
            "1,-2,3,HIST",
            "1e99,2,3,HIST",
            "nan,2,3,HIST",
            "1,inf,3,HIST",
            "Tag=x",
        ] {
            assert!(Line::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn comments_and_legends_say_no_more_than_times() {
        let start = "#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 08:24:39 PDT 2015]";
        assert_eq!(Line::parse(start), Ok(Line::StartTime(1_441_812_279.474)));
        assert_eq!(Line::parse("#[BaseTime: 0.000 (seconds since epoch)]"), Ok(Line::BaseTime(0.0)));
        assert_eq!(Line::parse("#[echoloop bench 127.0.0.1:7]"), Ok(Line::OurTitle));
        assert_eq!(Line::parse("#[echoloop failures: 3]"), Ok(Line::OurFailures(3)));
        for other in [
            "#[echoloop failures: some]",
            "#[echoloop failures: 3",
            "",
            "  ",
            "#",
            "# StartTime",
            "#[StartTime: soon]",
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"",
        ] {
            assert_eq!(Line::parse(other), Ok(Line::Other), "{other}");
        }
    }
}
