//! Logs of HdrHistogram, written and read: one histogram of latencies for each interval.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::LineWriter,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::serialization::{
    Deserializer, V2DeflateSerializer,
    interval_log::{IntervalLogIterator, IntervalLogWriter, IntervalLogWriterBuilder, LogEntry, Tag},
};

use super::{
    clock,
    samples::Point,
    tally::{Latencies, Tally, latencies, merge},
};
use crate::cli::failure::Failure;

/// The tag of latencies from when messages were sent, in an open loop.
const UNCORRECTED: &str = "uncorrected";

/// The tag of how long connections took to make.
const CONNECT: &str = "connect";

/// In the human-readable column of a log maxima are in milliseconds.
const NANOS_PER_MILLISECOND: f64 = 1e6;

/// The file of a log, before the log begins.
pub(crate) struct LogFile {
    path: PathBuf,
    /// Every line is written at once, so that it is there whatever happens later.
    file: LineWriter<File>,
    serializer: V2DeflateSerializer,
}

/// A log that is written interval by interval.
pub(crate) struct Log<'a> {
    path: &'a Path,
    begin: Instant,
    writer: IntervalLogWriter<'a, 'a, LineWriter<File>, V2DeflateSerializer>,
}

impl LogFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| cannot("write", path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file: LineWriter::new(file),
            serializer: V2DeflateSerializer::new(),
        })
    }

    /// Writes the header. Intervals are counted from now.
    pub(crate) fn begin(&mut self, title: &str) -> Result<Log<'_>, Failure> {
        let (path, now) = (&self.path, clock::time_of_day());
        let writer = IntervalLogWriterBuilder::new()
            .add_comment(title)
            .with_base_time(now)
            .with_start_time(now)
            .with_max_value_divisor(NANOS_PER_MILLISECOND)
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map_err(|error| cannot("write", path, &error))?;
        Ok(Log { path, begin: clock::now(), writer })
    }
}

impl Log<'_> {
    /// Appends an interval of this length, which has just ended.
    pub(crate) fn write(&mut self, tally: &Tally, length: Duration) -> Result<(), Failure> {
        self.write_tagged(None, &tally.latency, length)?;
        if let Some(uncorrected) = &tally.uncorrected {
            self.write_tagged(Some(UNCORRECTED), uncorrected, length)?;
        }
        self.write_connects_of(&tally.connect, length)
    }

    /// Appends how long the connections took that were made before the load began.
    pub(crate) fn write_connects(&mut self, connects: &Latencies) -> Result<(), Failure> {
        self.write_connects_of(connects, self.begin.elapsed())
    }

    fn write_connects_of(&mut self, connects: &Latencies, length: Duration) -> Result<(), Failure> {
        if connects.is_empty() { Ok(()) } else { self.write_tagged(Some(CONNECT), connects, length) }
    }

    fn write_tagged(
        &mut self,
        tag: Option<&str>,
        histogram: &Latencies,
        length: Duration,
    ) -> Result<(), Failure> {
        let start = self.begin.elapsed().saturating_sub(length);
        let written = self.writer.write_histogram(histogram, start, length, tag.and_then(Tag::new));
        written.map_err(|error| Failure::new(format!("cannot write {}: {error}", self.path.display())))
    }
}

/// What logs come to together.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) latency: Latencies,
    pub(crate) uncorrected: Option<Latencies>,
    pub(crate) connect: Latencies,
    /// Messages in a second, added up over the logs.
    pub(crate) rate: f64,
    /// The time that the longest log covers.
    pub(crate) elapsed: Duration,
    pub(crate) series: Vec<Point>,
}

/// Reads logs and puts them together.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Merged, Failure> {
    let mut merged = Merged {
        latency: latencies(),
        uncorrected: None,
        connect: latencies(),
        rate: 0.0,
        elapsed: Duration::ZERO,
        series: Vec::new(),
    };
    let mut seconds = BTreeMap::new();
    for path in paths {
        let bytes = fs::read(path).map_err(|error| cannot("read", path, &error))?;
        let intervals =
            parse(&bytes).map_err(|why| Failure::new(format!("cannot read {}: {why}", path.display())))?;
        merged.add(&intervals, &mut seconds);
    }
    merged.series = seconds.into_iter().map(|(second, part)| part.point(second)).collect();
    Ok(merged)
}

/// One line of a log.
#[derive(Debug)]
struct Interval {
    tag: Option<String>,
    /// From the beginning of the log.
    start: Duration,
    length: Duration,
    histogram: Latencies,
}

/// The intervals of all logs that begin within the same second.
struct Second {
    length: Duration,
    histogram: Latencies,
}

impl Merged {
    fn add(&mut self, intervals: &[Interval], seconds: &mut BTreeMap<u64, Second>) {
        let (mut messages, mut covered) = (0, Duration::ZERO);
        for interval in intervals {
            match interval.tag.as_deref() {
                None => {
                    merge(&mut self.latency, &interval.histogram);
                    messages += interval.histogram.len();
                    covered += interval.length;
                    let second = seconds
                        .entry(interval.start.as_secs())
                        .or_insert_with(|| Second { length: Duration::ZERO, histogram: latencies() });
                    merge(&mut second.histogram, &interval.histogram);
                }
                Some(UNCORRECTED) => {
                    merge(self.uncorrected.get_or_insert_with(latencies), &interval.histogram);
                }
                Some(CONNECT) => merge(&mut self.connect, &interval.histogram),
                // Of other programs: not ours to judge.
                Some(_) => {}
            }
        }
        // What one log covers of each second; the logs are of the same time.
        let mut own: BTreeMap<u64, Duration> = BTreeMap::new();
        for interval in intervals.iter().filter(|interval| interval.tag.is_none()) {
            *own.entry(interval.start.as_secs()).or_default() += interval.length;
        }
        for (second, length) in own {
            if let Some(second) = seconds.get_mut(&second) {
                second.length = second.length.max(length);
            }
        }
        self.rate += super::samples::per_second(messages, covered);
        self.elapsed = self.elapsed.max(covered);
    }
}

impl Second {
    fn point(&self, second: u64) -> Point {
        Point {
            start: Duration::from_secs(second),
            length: self.length,
            messages: self.histogram.len(),
            bytes: None,
            p50: self.histogram.value_at_quantile(0.5),
            p99: self.histogram.value_at_quantile(0.99),
            max: self.histogram.max(),
        }
    }
}

/// The intervals of a log, with their times counted from the first of messages.
fn parse(bytes: &[u8]) -> Result<Vec<Interval>, String> {
    let mut deserializer = Deserializer::new();
    let mut intervals = Vec::new();
    for entry in IntervalLogIterator::new(bytes) {
        let entry = entry.map_err(|_| "it is not a log of HdrHistogram".to_owned())?;
        let interval = match entry {
            LogEntry::Interval(interval) => interval,
            LogEntry::StartTime(_) | LogEntry::BaseTime(_) => continue,
        };
        let encoded = BASE64_STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|error| format!("a histogram in it is damaged: {error}"))?;
        let histogram = deserializer
            .deserialize(&mut &encoded[..])
            .map_err(|error| format!("a histogram in it is damaged: {error}"))?;
        intervals.push(Interval {
            tag: interval.tag().map(|tag| tag.as_str().to_owned()),
            start: interval.start_timestamp(),
            length: interval.duration(),
            histogram,
        });
    }
    // Connections may have been made before.
    let untagged = intervals.iter().filter(|interval| interval.tag.is_none());
    let first = untagged.map(|interval| interval.start).min().ok_or("there is no histogram in it")?;
    for interval in &mut intervals {
        interval.start = interval.start.saturating_sub(first);
    }
    Ok(intervals)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{super::tally::Start, *};

    /// A log of so many intervals of a second, each with a message of each of these latencies.
    fn log(intervals: u64, micros: &[u64]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log_file = LogFile::create(file.path()).unwrap();
        let mut log = log_file.begin("a test").unwrap();
        let mut tally = Tally::new(true);
        let due = clock::now();
        for &micros in micros {
            let sent = due + Duration::from_micros(1);
            tally.record(Start { due, sent }, due + Duration::from_micros(micros));
        }
        tally.record_connect(Duration::from_micros(20));
        for second in 0..intervals {
            // The clock of the test does not run that fast.
            log.begin = clock::now().checked_sub(Duration::from_secs(second + 1)).unwrap();
            log.write(&tally, Duration::from_secs(1)).unwrap();
        }
        file
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = log(3, &[10, 20]);
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.matches("StartTime").count(), 1, "{text}");
        let merged = read(&[file.path().to_owned()]).unwrap();
        assert_eq!(merged.latency.len(), 6);
        assert_eq!(merged.uncorrected.unwrap().len(), 6);
        assert_eq!(merged.connect.len(), 3);
        assert!((merged.rate - 2.0).abs() < 1e-9);
        assert_eq!(merged.elapsed, Duration::from_secs(3));
        assert_eq!(merged.series.iter().map(|point| point.messages).collect::<Vec<_>>(), [2, 2, 2]);
    }

    #[test]
    fn logs_of_the_same_time_add_up() {
        let (a, b) = (log(2, &[10]), log(3, &[10, 30, 1_000]));
        let merged = read(&[a.path().to_owned(), b.path().to_owned()]).unwrap();
        assert_eq!(merged.latency.len(), 2 + 9);
        assert!((merged.rate - 4.0).abs() < 1e-9);
        assert_eq!(merged.elapsed, Duration::from_secs(3));
        let messages: Vec<_> = merged.series.iter().map(|point| point.messages).collect();
        assert_eq!(messages, [4, 4, 3]);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        for text in ["", "#only a comment\n", "hello\n", "0.1,1.0,2.0,!!!!\n", "0.1,1.0,2.0,AAAA\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
