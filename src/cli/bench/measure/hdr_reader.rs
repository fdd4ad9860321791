//! Reads logs in the format of HdrHistogram, line by line, and merges them.
//!
//! Memory is bounded, however long a log is and whatever it claims: one histogram for each tag, and a series with a
//! bounded number of cells.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    hdr_decoder,
    hdr_line::{Line, LogInterval},
    hdr_writer::{CONNECT, UNANSWERED, UNCORRECTED},
    interval::{self, Interval},
    latencies::{self, LATENCY_MAX_NANOS, Latencies},
    log_times::{self, LogTimes, Window},
    series::Series,
};
use crate::cli::{bench::units, failure::Failure};

/// The longest line. The largest histogram with every count in use has about 8 MB.
const LINE_MAX_BYTES: u64 = 16 << 20;

/// The most tags that have a histogram of their own, besides those of our own logs.
const TAGS_MAX: usize = 32;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The figures of several logs together.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) logs: usize,
    /// Of all messages: of those that nobody answered, how long they were waited for.
    pub(crate) latency: Latencies,
    /// Of those that nobody answered.
    pub(crate) unanswered: Latencies,
    pub(crate) uncorrected: Option<Latencies>,
    pub(crate) connect: Latencies,
    /// Latencies with other tags, such as those of other programs.
    pub(crate) tags: BTreeMap<String, Latencies>,
    /// How many connections failed; `None` if a log does not say.
    pub(crate) failures: Option<u64>,
    /// Messages per second, added up over the logs.
    pub(crate) rate: f64,
    /// The time that the longest log covers.
    pub(crate) elapsed: Duration,
    /// When the first log begins, and the last one ends, by the time of day, if the logs say so.
    pub(crate) window: Option<(SystemTime, SystemTime)>,
    pub(crate) series: Vec<Interval>,
    /// What is doubtful about the logs or about merging them.
    pub(crate) warnings: Vec<String>,
}

impl Merged {
    /// How many messages came back.
    pub(crate) fn messages(&self) -> u64 {
        self.latency.len() - self.unanswered.len()
    }
}

/// Reads logs and merges them.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Merged, Failure> {
    let mut merger = Merger::new();
    for path in paths {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| error.to_string());
        let read = file.and_then(|file| merger.add_log(&name, BufReader::new(file)));
        read.map_err(|why| cannot_read(path, &why))?;
    }
    Ok(merger.finish())
}

/// Adds up logs.
#[derive(Debug)]
struct Merger {
    merged: Merged,
    series: Series,
    /// The logs that have been read.
    logs: Vec<LogSummary>,
    /// Tags that have no histogram.
    tags_left_out: usize,
    /// Whether there are latencies that are longer than can be shown.
    has_too_long: bool,
}

/// What is remembered of one log.
#[derive(Debug)]
struct LogSummary {
    name: String,
    /// Messages, without those that have a tag.
    messages: u64,
    /// The time that its intervals of messages cover.
    covered: Duration,
    times: LogTimes,
    /// Whether `bench` wrote it.
    is_ours: bool,
    /// Whether it has latencies from when messages were sent, as those of an open loop have.
    has_uncorrected: bool,
    /// How many connections failed, if the log says so.
    failures: Option<u64>,
    intervals: u64,
}

impl Merger {
    fn new() -> Self {
        Self {
            merged: Merged {
                logs: 0,
                latency: latencies::empty(),
                unanswered: latencies::empty(),
                uncorrected: None,
                connect: latencies::empty(),
                tags: BTreeMap::new(),
                failures: None,
                rate: 0.0,
                elapsed: Duration::ZERO,
                window: None,
                series: Vec::new(),
                warnings: Vec::new(),
            },
            series: Series::new(),
            logs: Vec::new(),
            tags_left_out: 0,
            has_too_long: false,
        }
    }

    /// Reads a log to its end. Of a log that cannot be read to the end, nothing can be used.
    fn add_log(&mut self, name: &str, mut log: impl BufRead) -> Result<(), String> {
        let mut summary = LogSummary::new(name);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            log.by_ref()
                .take(LINE_MAX_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|error| error.to_string())?;
            if line.is_empty() {
                break;
            }
            if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            let has_end = line.ends_with(b"\n");
            if !has_end && line.len() as u64 >= LINE_MAX_BYTES {
                return Err(format!("line {number} is too long for a log of HdrHistogram"));
            }
            let added = self.add_line(&mut summary, &line, has_end);
            if let Err(why) = added {
                if has_end {
                    return Err(format!("line {number}: {why}"));
                }
                self.merged.warnings.push(format!("{name}: line {number} is incomplete, and ignored"));
            }
        }
        if summary.intervals == 0 {
            return Err("there is no histogram in it".to_owned());
        }
        self.series.end_log();
        self.merged.rate += interval::per_second(summary.messages, summary.covered);
        self.merged.elapsed = self.merged.elapsed.max(summary.covered);
        self.logs.push(summary);
        Ok(())
    }

    /// Adds a line. One that has no end may be cut off: then it is an error, and nothing of it is added.
    fn add_line(&mut self, summary: &mut LogSummary, line: &[u8], has_end: bool) -> Result<(), String> {
        let line = String::from_utf8_lossy(line);
        match Line::parse(line.trim_end_matches(['\r', '\n']))? {
            Line::Interval(interval) => self.add_interval(summary, &interval, has_end),
            Line::StartTime(time) => {
                summary.times.start_time(time);
                Ok(())
            }
            Line::BaseTime(time) => {
                summary.times.base_time(time);
                Ok(())
            }
            Line::OurTitle => {
                summary.is_ours = true;
                Ok(())
            }
            Line::OurFailures(failures) => {
                summary.failures = Some(failures);
                Ok(())
            }
            Line::Other => Ok(()),
        }
    }

    fn add_interval(
        &mut self,
        summary: &mut LogSummary,
        interval: &LogInterval<'_>,
        has_end: bool,
    ) -> Result<(), String> {
        let encoded = BASE64.decode(interval.histogram).map_err(|error| damaged(&error.to_string()))?;
        if !has_end {
            hdr_decoder::decode(&encoded, |_, _| {}).map_err(|why| damaged(&why))?;
        }
        summary.intervals += 1;
        let length = Duration::from_secs_f64(interval.length);
        let mut too_long = false;
        let decoded = match interval.tag {
            None => {
                let start = summary.times.begin_interval(interval.start, length);
                let (total, cell) = (&mut self.merged.latency, self.series.cell(start, length));
                let messages = total.len();
                let decoded = hdr_decoder::decode(&encoded, |value, count| {
                    total.saturating_record_n(value, count);
                    // Its quantiles and its maximum are those of the highest values, as everywhere.
                    cell.record(total.highest_equivalent(value), count);
                    too_long |= value > LATENCY_MAX_NANOS;
                });
                let messages = total.len() - messages;
                self.series.add_interval(start, length, messages);
                summary.messages = summary.messages.saturating_add(messages);
                summary.covered = summary.covered.saturating_add(length);
                decoded
            }
            Some(tag) => {
                summary.has_uncorrected |= tag == UNCORRECTED;
                let Some(total) = self.of_tag(tag) else {
                    self.tags_left_out += 1;
                    return Ok(());
                };
                hdr_decoder::decode(&encoded, |value, count| {
                    total.saturating_record_n(value, count);
                    too_long |= value > LATENCY_MAX_NANOS;
                })
            }
        };
        self.has_too_long |= too_long;
        decoded.map_err(|why| damaged(&why))
    }

    /// The histogram for a tag, unless there are too many.
    fn of_tag(&mut self, tag: &str) -> Option<&mut Latencies> {
        let tags = &mut self.merged.tags;
        match tag {
            UNCORRECTED => Some(self.merged.uncorrected.get_or_insert_with(latencies::empty)),
            UNANSWERED => Some(&mut self.merged.unanswered),
            CONNECT => Some(&mut self.merged.connect),
            _ if tags.contains_key(tag) || tags.len() < TAGS_MAX => {
                Some(tags.entry(tag.to_owned()).or_insert_with(latencies::empty))
            }
            _ => None,
        }
    }

    fn finish(mut self) -> Merged {
        let windows: Vec<(&str, Window)> =
            self.logs.iter().filter_map(|log| Some((&*log.name, log.times.window()?))).collect();
        self.merged.window = log_times::whole(&windows);
        let doubts = [
            self.left_out(),
            self.too_long(),
            log_times::overlap_warning(&windows),
            loops_warning(&self.logs),
        ];
        self.merged.warnings.extend(doubts.into_iter().flatten());
        self.merged.failures = self.logs.iter().map(|log| log.failures).sum();
        latencies::merge(&mut self.merged.latency, &self.merged.unanswered);
        self.merged.logs = self.logs.len();
        self.merged.series = self.series.intervals();
        self.merged
    }

    fn left_out(&self) -> Option<String> {
        let left_out = self.tags_left_out;
        (left_out > 0).then(|| {
            format!("there are more than {TAGS_MAX} tags: {left_out} intervals with further tags are ignored")
        })
    }

    fn too_long(&self) -> Option<String> {
        let limit = units::latency(LATENCY_MAX_NANOS);
        self.has_too_long
            .then(|| format!("latencies above {limit} are counted as {limit}: are they in nanoseconds?"))
    }
}

impl LogSummary {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            messages: 0,
            covered: Duration::ZERO,
            times: LogTimes::default(),
            is_ours: false,
            has_uncorrected: false,
            failures: None,
            intervals: 0,
        }
    }
}

/// Says when latencies count from different moments. Only our own logs are known to be of an open or a closed loop.
fn loops_warning(logs: &[LogSummary]) -> Option<String> {
    let first = |open: bool| logs.iter().find(|log| log.is_ours && log.has_uncorrected == open);
    let (open, closed) = (first(true)?, first(false)?);
    Some(format!(
        "open and closed loops are mixed: latencies count from when messages were due in {}, and from when they were \
         sent in {}",
        open.name, closed.name
    ))
}

fn damaged(why: &str) -> String {
    format!("its histogram is damaged: {why}")
}

fn cannot_read(path: &Path, why: &str) -> Failure {
    Failure::new(format!("cannot read {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{
            hdr_writer::LatencyLogFile,
            tally::{Start, Tally},
        },
        *,
    };
    use crate::cli::bench::clock;

    /// A log of so many intervals of a second, each with a message of each of these latencies. Nobody has it open: on
    /// Windows it could not be replaced.
    fn log(open: bool, intervals: u64, micros: &[u64]) -> tempfile::TempPath {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut log_file = LatencyLogFile::create(&file).unwrap();
        let mut log = log_file.begin(&"127.0.0.1:7".parse().unwrap()).unwrap();
        let mut tally = Tally::new(open);
        let due = clock::now();
        for &micros in micros {
            let sent = due + Duration::from_micros(1);
            tally.record(Start { due, sent }, due + Duration::from_micros(micros));
        }
        tally.record_connect(Duration::from_micros(20));
        for second in 0..intervals {
            // The clock of the test does not run that fast.
            log.start = clock::now().checked_sub(Duration::from_secs(second + 1)).unwrap();
            log.write(&tally, Duration::from_secs(1)).unwrap();
        }
        log_file.finish(0).unwrap();
        move_to(&file, 1_700_000_000);
        file
    }

    /// Makes the log one that began at this time, in seconds since the epoch.
    fn move_to(log: &tempfile::TempPath, seconds: u64) {
        let moved = |line: &str| match line.split_once("Time: ") {
            Some((name, _)) => format!("{name}Time: {seconds}.0 (seconds since epoch)]\n"),
            None => format!("{line}\n"),
        };
        fs::write(log, text(log).lines().map(moved).collect::<String>()).unwrap();
    }

    /// What such a log has in it.
    fn text(log: &tempfile::TempPath) -> String {
        fs::read_to_string(log).unwrap()
    }

    fn read_text(text: impl AsRef<[u8]>) -> Result<Merged, String> {
        let mut merger = Merger::new();
        merger.add_log("x.hlog", text.as_ref())?;
        Ok(merger.finish())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = log(true, 3, &[10, 20]);
        let text = text(&file);
        assert_eq!(text.matches("StartTime").count(), 1, "{text}");
        let merged = read(&[file.to_path_buf()]).unwrap();
        assert_eq!(merged.latency.len(), 6);
        assert_eq!(merged.uncorrected.unwrap().len(), 6);
        assert_eq!(merged.connect.len(), 3);
        assert!((merged.rate - 2.0).abs() < 1e-9);
        assert_eq!(merged.elapsed, Duration::from_secs(3));
        assert_eq!(merged.series.iter().map(|point| point.messages).collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(merged.warnings, [""; 0]);
    }

    #[test]
    fn logs_of_the_same_time_add_up() {
        let (a, b) = (log(true, 2, &[10]), log(true, 3, &[10, 30, 1_000]));
        let merged = read(&[a.to_path_buf(), b.to_path_buf()]).unwrap();
        assert_eq!((merged.logs, merged.latency.len()), (2, 2 + 9));
        assert!((merged.rate - 4.0).abs() < 1e-9);
        assert_eq!(merged.elapsed, Duration::from_secs(3));
        let messages: Vec<_> = merged.series.iter().map(|point| point.messages).collect();
        assert_eq!(messages, [4, 4, 3]);
        assert_eq!(merged.warnings, [""; 0]);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        for (text, why) in [
            ("", "there is no histogram in it"),
            ("#only a comment\n", "there is no histogram in it"),
            ("hello\n", "line 1: that is no line of a log of HdrHistogram"),
            ("\n0.1,1.0,2.0,!!!!\n", "line 2: its histogram is damaged: "),
            ("0.1,1.0,2.0,AAAA\n", "line 1: its histogram is damaged: "),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_line_without_end_costs_a_bounded_amount_of_memory() {
        let mut merger = Merger::new();
        let error = merger.add_log("zeros", BufReader::new(std::io::repeat(b'0'))).unwrap_err();
        assert_eq!(error, "line 1 is too long for a log of HdrHistogram");
    }

    #[test]
    fn a_byte_order_mark_blank_lines_and_crlf_make_no_difference() {
        let text = text(&log(false, 3, &[10, 20]));
        let legend =
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";
        let windows = format!("\u{feff}{legend}\r\n\r\n{}\r\n", text.replace('\n', "\r\n"));
        let merged = read_text(windows).unwrap();
        assert_eq!((merged.latency.len(), merged.connect.len()), (6, 3));
        assert_eq!(merged.warnings, [""; 0]);
    }

    #[test]
    fn a_last_line_that_is_cut_off_is_left_out_and_said() {
        let text = text(&log(false, 3, &[10, 20]));
        // A log that is cut off has not come to the line about failures.
        let text = &text[..text.find("#[echoloop failures").unwrap()];
        let lines = text.lines().count();
        let last = text.trim_end().rfind('\n').unwrap() + 1;
        // The last line is of connects. It ends with `==`, without which it is whole, and the end of the line.
        for length in last + 1..text.len() - 3 {
            let merged = read_text(&text[..length]).unwrap();
            assert_eq!(merged.connect.len(), 2, "{}", &text[..length]);
            assert_eq!(merged.warnings, [format!("x.hlog: line {lines} is incomplete, and ignored")]);
        }
        let merged = read_text(text.trim_end()).unwrap();
        assert_eq!((merged.connect.len(), merged.warnings.len()), (3, 0), "only its end is missing");
        let error = read_text(text.replacen(",HIST", ",XIST", 1)).unwrap_err();
        assert!(error.starts_with("line "), "within the log it is an error: {error}");
    }

    #[test]
    fn tags_of_others_are_counted_apart_and_not_without_limit() {
        let log = text(&log(false, 1, &[10, 20]));
        let interval = log.lines().find(|line| !line.starts_with(['#', 'T'])).unwrap();
        let mut tagged = log.clone();
        for tag in 0..2 * TAGS_MAX {
            tagged.push_str(&format!("Tag=tag-{tag},{interval}\n"));
        }
        let merged = read_text(&tagged).unwrap();
        assert_eq!((merged.latency.len(), merged.tags.len()), (2, TAGS_MAX));
        assert!(merged.tags.values().all(|latencies| latencies.len() == 2));
        assert!(
            merged.warnings[0].contains("32 intervals with further tags are ignored"),
            "{:?}",
            merged.warnings
        );

        let only_tags = read_text(format!("Tag=a,{interval}\n")).unwrap();
        assert_eq!((only_tags.latency.len(), only_tags.tags["a"].len()), (0, 2));
    }

    /// The reader has one histogram for each tag and a bounded number of cells, whatever it reads.
    #[test]
    fn a_long_log_needs_no_more_memory_than_a_short_one() {
        let log = text(&log(true, 1, &[10, 20]));
        let mut lines = log.lines().filter(|line| !line.starts_with('#'));
        let (plain, rest): (_, Vec<&str>) = (lines.next().unwrap(), lines.collect());
        let (_, histogram) = plain.rsplit_once(',').unwrap();
        let mut merger = Merger::new();
        let hours: String = (0..20_000).map(|second| format!("{second}.000,1.000,0,{histogram}\n")).collect();
        merger.add_log("hours", (hours + &rest.join("\n")).as_bytes()).unwrap();
        let intervals = merger.series.intervals().len();
        assert!((100..=512).contains(&intervals), "{intervals}");
        let merged = merger.finish();
        assert_eq!(merged.latency.len(), 2 * 20_000);
        assert_eq!((merged.tags.len(), merged.uncorrected.unwrap().len()), (0, 2));
        assert!((merged.rate - 2.0).abs() < 1e-9);
    }

    #[test]
    fn logs_of_open_and_closed_loops_are_not_mixed_in_silence() {
        let (open, closed) = (log(true, 2, &[10]), log(false, 2, &[10]));
        let paths = |logs: [&tempfile::TempPath; 2]| logs.map(|log| log.to_path_buf());
        let warnings = read(&paths([&open, &closed])).unwrap().warnings;
        assert!(warnings[0].starts_with("open and closed loops are mixed: "), "{warnings:?}");
        // Of logs of others nobody knows.
        fs::write(&closed, text(&closed).replace("echoloop bench", "other")).unwrap();
        assert_eq!(read(&paths([&open, &closed])).unwrap().warnings, [""; 0]);
    }

    #[test]
    fn logs_of_different_times_are_not_added_up_in_silence() {
        let (early, late) = (log(false, 2, &[10]), log(false, 2, &[10]));
        move_to(&late, 1_900_000_000);
        let merged = read(&[late.to_path_buf(), early.to_path_buf()]).unwrap();
        assert!(merged.warnings[0].starts_with("the logs do not overlap in time: "), "{:?}", merged.warnings);
        let (begin, end) = merged.window.unwrap();
        assert!(end.duration_since(begin).unwrap() > Duration::from_secs(1_000_000));
    }

    #[test]
    fn latencies_that_cannot_be_in_nanoseconds_are_doubted() {
        let interval = |nanos: u64| {
            let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 2).unwrap();
            histogram.record(nanos).unwrap();
            let mut bytes = Vec::new();
            let mut serializer = hdrhistogram::serialization::V2Serializer::new();
            hdrhistogram::serialization::Serializer::serialize(&mut serializer, &histogram, &mut bytes)
                .unwrap();
            format!("0.0,1.0,0,{}\n", BASE64.encode(bytes))
        };
        assert_eq!(read_text(interval(LATENCY_MAX_NANOS / 2)).unwrap().warnings, [""; 0]);
        let merged = read_text(interval(LATENCY_MAX_NANOS * 10)).unwrap();
        assert!(merged.latency.max() >= LATENCY_MAX_NANOS);
        assert!(merged.warnings[0].contains("nanoseconds"), "{:?}", merged.warnings);
    }
}
