//! Writes latencies to a log in the format of HdrHistogram: one histogram for each interval.
//!
//! The log is written while the load runs, beside its path (see [`OutputFile`]), and takes its name when the load is
//! over. Each line is written at once and as a whole, so that the log can be read wherever it ends: when the disk is
//! full, or when the program is killed.

use std::{
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use echoloop::Address;
use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag},
};

use super::{
    hdr_line::{OUR_FAILURES, OUR_TITLE},
    latencies::Latencies,
    tally::Tally,
};
use crate::cli::{
    bench::clock,
    failure::Failure,
    output_file::{OutputFile, cannot_write},
};

/// The tag of latencies that count from when messages were sent, in an open loop.
pub(super) const UNCORRECTED: &str = "uncorrected";

/// The tag of messages that never came back: how long they were waited for.
pub(super) const UNANSWERED: &str = "unanswered";

/// The tag of connect latencies.
pub(super) const CONNECT: &str = "connect";

/// The column of maxima, which people read, is in milliseconds.
const NANOS_PER_MILLISECOND: f64 = 1e6;

/// The file of a log whose header is not written yet.
pub(crate) struct LatencyLogFile {
    lines: Lines,
    serializer: V2DeflateSerializer,
}

/// A log that is written interval by interval.
pub(crate) struct LatencyLog<'a> {
    /// When times in the log count from.
    pub(super) start: Instant,
    writer: IntervalLogWriter<'a, 'a, Lines, V2DeflateSerializer>,
}

/// The lines of a log.
///
/// After an error nothing more is written, and only the end of the log tells: the figures of the load are worth more.
struct Lines {
    file: OutputFile,
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The length of the lines that are in the file.
    length: u64,
    error: Option<io::Error>,
}

impl LatencyLogFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let lines = Lines { file: OutputFile::create(path)?, line: Vec::new(), length: 0, error: None };
        Ok(Self { lines, serializer: V2DeflateSerializer::new() })
    }

    /// Writes the header. Times in the log count from now.
    pub(crate) fn begin(&mut self, server: &Address) -> Result<LatencyLog<'_>, Failure> {
        let (start, now) = (clock::now(), clock::time_of_day());
        let writer = IntervalLogWriterBuilder::new()
            .add_comment(&format!("{OUR_TITLE}{server}]"))
            .with_base_time(now)
            .with_start_time(now)
            .with_max_value_divisor(NANOS_PER_MILLISECOND)
            .begin_log_with(&mut self.lines, &mut self.serializer)
            .map_err(|error| cannot_log(&error))?;
        Ok(LatencyLog { start, writer })
    }

    /// The load is over, and the log takes its name. So many connections failed. Fails if the log is not whole.
    pub(crate) fn finish(mut self, failures: u64) -> Result<(), Failure> {
        let line = format!("#{OUR_FAILURES}{failures}]\n");
        self.lines.write_all(line.as_bytes()).map_err(|error| cannot_log(&error))?;
        let Lines { file, error, .. } = self.lines;
        let Some(error) = error else { return file.finish() };
        let path = file.path().to_owned();
        let why = match file.keep() {
            None => error.to_string(),
            Some(part) => format!("{error}; the log up to there is {}", part.display()),
        };
        Err(cannot_write(&path, &why))
    }

    /// The load did not come to its end: the log so far is kept, but replaces no older one.
    pub(crate) fn keep(self) {
        if let Some(part) = self.lines.file.keep() {
            log::warn!("the incomplete latency log is {}", part.display());
        }
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
        written.map_err(|error| cannot_log(&error))
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') {
            self.write_lines(end + 1);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Writes so many bytes, which end with a line.
    fn write_lines(&mut self, bytes: usize) {
        if self.error.is_none() {
            match self.file.write_all(&self.line[..bytes]) {
                Ok(()) => self.length += bytes as u64,
                Err(error) => {
                    // A part of a line may be in the file.
                    self.file.truncate(self.length);
                    self.error = Some(error);
                }
            }
        }
        self.line.drain(..bytes);
    }
}

fn cannot_log(error: &impl ToString) -> Failure {
    Failure::new(format!("cannot write latencies: {}", error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_written_whole_and_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = LatencyLogFile::create(&path).unwrap();
        let part = directory.path().join("log.part");
        file.lines.write_all(b"on").unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "");
        file.lines.write_all(b"e\ntwo").unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "one\n");
        file.lines.write_all(b"\nthr").unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "one\ntwo\n");
        file.lines.write_all(b"ee\n").unwrap();
        file.finish(2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n#[echoloop failures: 2]\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_at_the_end_only() {
        let mut file = LatencyLogFile::create(Path::new("/dev/full")).unwrap();
        let mut log = file.begin(&"127.0.0.1:7".parse().unwrap()).unwrap();
        log.write(&Tally::new(false), Duration::from_secs(1)).unwrap();
        let failure = file.finish(0).unwrap_err();
        assert!(failure.to_string().starts_with("cannot write /dev/full: No space left"), "{failure}");
    }
}
