//! Writes latencies to a log in the format of HdrHistogram: one histogram for each interval.

use std::{
    fmt::Display,
    fs::File,
    io::LineWriter,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag},
};

use super::{latencies::Latencies, tally::Tally};
use crate::cli::{bench::clock, failure::Failure};

/// The tag of latencies that count from when messages were sent, in an open loop.
pub(super) const UNCORRECTED: &str = "uncorrected";

/// The tag of messages that never came back: how long they were waited for.
const UNANSWERED: &str = "unanswered";

/// The tag of connect latencies.
pub(super) const CONNECT: &str = "connect";

/// The column of maxima, which people read, is in milliseconds.
const NANOS_PER_MILLISECOND: f64 = 1e6;

/// The file of a log whose header is not written yet.
pub(crate) struct LatencyLogFile {
    path: PathBuf,
    /// Each line is written at once, so that it stays even if the program is killed later.
    file: LineWriter<File>,
    serializer: V2DeflateSerializer,
}

/// A log that is written interval by interval.
pub(crate) struct LatencyLog<'a> {
    path: &'a Path,
    /// When times in the log count from.
    pub(super) start: Instant,
    writer: IntervalLogWriter<'a, 'a, LineWriter<File>, V2DeflateSerializer>,
}

impl LatencyLogFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file: LineWriter::new(file),
            serializer: V2DeflateSerializer::new(),
        })
    }

    /// Writes the header. Times in the log count from now.
    pub(crate) fn begin(&mut self, title: &str) -> Result<LatencyLog<'_>, Failure> {
        let (path, now) = (&self.path, clock::time_of_day());
        let writer = IntervalLogWriterBuilder::new()
            .add_comment(title)
            .with_base_time(now)
            .with_start_time(now)
            .with_max_value_divisor(NANOS_PER_MILLISECOND)
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map_err(|error| cannot_write(path, &error))?;
        Ok(LatencyLog { path, start: clock::now(), writer })
    }
}

impl LatencyLog<'_> {
    /// Appends an interval that has this length and has just ended.
    pub(crate) fn write(&mut self, tally: &Tally, length: Duration) -> Result<(), Failure> {
        self.write_tagged(None, &tally.latency, length)?;
        if let Some(uncorrected) = &tally.uncorrected {
            self.write_tagged(Some(UNCORRECTED), uncorrected, length)?;
        }
        if !tally.unanswered.is_empty() {
            self.write_tagged(Some(UNANSWERED), &tally.unanswered, length)?;
        }
        self.write_connects_of(&tally.connect, length)
    }

    /// Appends the latencies of the connections that were made before the load began.
    pub(crate) fn write_connects(&mut self, connects: &Latencies) -> Result<(), Failure> {
        self.write_connects_of(connects, self.start.elapsed())
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
        let start = self.start.elapsed().saturating_sub(length);
        let written = self.writer.write_histogram(histogram, start, length, tag.and_then(Tag::new));
        written.map_err(|error| cannot_write(self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &impl Display) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
}
