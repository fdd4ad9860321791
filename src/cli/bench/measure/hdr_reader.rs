//! Reads logs in the format of HdrHistogram, and merges them.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::serialization::{
    Deserializer,
    interval_log::{IntervalLogIterator, LogEntry},
};

use super::{
    hdr_writer::{CONNECT, UNCORRECTED},
    interval::{self, Interval},
    latencies::{self, Latencies},
};
use crate::cli::failure::Failure;

/// The figures of several logs together.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) latency: Latencies,
    pub(crate) uncorrected: Option<Latencies>,
    pub(crate) connect: Latencies,
    /// Messages per second, added up over the logs.
    pub(crate) rate: f64,
    /// The time that the longest log covers.
    pub(crate) elapsed: Duration,
    pub(crate) series: Vec<Interval>,
}

/// Reads logs and merges them.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Merged, Failure> {
    let mut merged = Merged {
        latency: latencies::empty(),
        uncorrected: None,
        connect: latencies::empty(),
        rate: 0.0,
        elapsed: Duration::ZERO,
        series: Vec::new(),
    };
    let mut seconds = BTreeMap::new();
    for path in paths {
        let bytes = fs::read(path).map_err(|error| cannot_read(path, error))?;
        let intervals = parse(&bytes).map_err(|why| cannot_read(path, why))?;
        merged.add(&intervals, &mut seconds);
    }
    merged.series = seconds.into_iter().map(|(second, part)| part.interval(second)).collect();
    Ok(merged)
}

/// One line of a log.
#[derive(Debug)]
struct LogInterval {
    tag: Option<String>,
    /// Counted from the first interval of messages in the log.
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
    fn add(&mut self, intervals: &[LogInterval], seconds: &mut BTreeMap<u64, Second>) {
        let (mut messages, mut covered) = (0, Duration::ZERO);
        for interval in intervals {
            match interval.tag.as_deref() {
                None => {
                    latencies::merge(&mut self.latency, &interval.histogram);
                    messages += interval.histogram.len();
                    covered += interval.length;
                    let second = seconds
                        .entry(interval.start.as_secs())
                        .or_insert_with(|| Second { length: Duration::ZERO, histogram: latencies::empty() });
                    latencies::merge(&mut second.histogram, &interval.histogram);
                }
                Some(UNCORRECTED) => {
                    latencies::merge(
                        self.uncorrected.get_or_insert_with(latencies::empty),
                        &interval.histogram,
                    );
                }
                Some(CONNECT) => latencies::merge(&mut self.connect, &interval.histogram),
                // Another program wrote it, with a meaning of its own.
                Some(_) => {}
            }
        }
        // How much of each second this log covers; the logs are of the same time, so the longest counts.
        let mut own: BTreeMap<u64, Duration> = BTreeMap::new();
        for interval in intervals.iter().filter(|interval| interval.tag.is_none()) {
            *own.entry(interval.start.as_secs()).or_default() += interval.length;
        }
        for (second, length) in own {
            if let Some(second) = seconds.get_mut(&second) {
                second.length = second.length.max(length);
            }
        }
        self.rate += interval::per_second(messages, covered);
        self.elapsed = self.elapsed.max(covered);
    }
}

impl Second {
    fn interval(&self, second: u64) -> Interval {
        Interval {
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

/// The intervals of a log. Their times count from the first interval of messages.
fn parse(bytes: &[u8]) -> Result<Vec<LogInterval>, String> {
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
        intervals.push(LogInterval {
            tag: interval.tag().map(|tag| tag.as_str().to_owned()),
            start: interval.start_timestamp(),
            length: interval.duration(),
            histogram,
        });
    }
    // Intervals of connections may be earlier.
    let untagged = intervals.iter().filter(|interval| interval.tag.is_none());
    let first = untagged.map(|interval| interval.start).min().ok_or("there is no histogram in it")?;
    for interval in &mut intervals {
        interval.start = interval.start.saturating_sub(first);
    }
    Ok(intervals)
}

fn cannot_read(path: &Path, why: impl Display) -> Failure {
    Failure::new(format!("cannot read {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            hdr_writer::LatencyLogFile,
            tally::{Start, Tally},
        },
        *,
    };
    use crate::cli::bench::clock;

    /// A log of so many intervals of a second, each with a message of each of these latencies.
    fn log(intervals: u64, micros: &[u64]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log_file = LatencyLogFile::create(file.path()).unwrap();
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
            log.start = clock::now().checked_sub(Duration::from_secs(second + 1)).unwrap();
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
