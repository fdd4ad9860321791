//! Lines on stdout or stderr that never block the program, even if nobody reads them.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use log::Level;

use super::{log_format::LogFormat, stdio::Waiting};

/// The most lines that wait to be written. Further ones are dropped and counted.
const LINES_WAITING_MAX: usize = 1024;

/// It does little, and memory may be scarce.
const STACK_BYTES: usize = 256 << 10;

/// How long the program waits at its end for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Passes lines to a thread that writes them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    lines: SyncSender<Item>,
    format: LogFormat,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread for stderr.
    pub(crate) fn to_stderr(format: LogFormat) -> Self {
        // If stderr fails, there is nobody left to tell.
        Self::start("stderr", format, || Waiting(io::stderr()), |_| {})
    }

    /// Starts the thread for stdout.
    pub(crate) fn to_stdout() -> Self {
        let complain = |error| log::warn!("cannot write to stdout: {error}");
        Self::start("stdout", LogFormat::Text, || Waiting(io::stdout()), complain)
    }

    /// The thread runs as long as the program.
    fn start<W: Write>(
        name: &'static str,
        format: LogFormat,
        open: impl FnOnce() -> W + Send + 'static,
        complain: impl Fn(io::Error) + Send + 'static,
    ) -> Self {
        let (lines, items) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let work = move || {
            let mut sink = open();
            for item in items {
                write_item(&mut sink, item, (name, format), &counter).unwrap_or_else(&complain);
            }
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work) {
            let line = format.line(Level::Error, &format!("cannot start the thread for {name}: {error}"));
            let _ = io::stderr().write_all(line.as_bytes());
        }
        Self { lines, format, dropped }
    }

    /// Writes a line, or drops it if too many wait already.
    pub(crate) fn line(&self, line: &str) {
        self.push(self.format.line(Level::Info, line).into_bytes());
    }

    /// The same for what went wrong.
    pub(crate) fn error(&self, line: &str) {
        self.push(self.format.line(Level::Error, line).into_bytes());
    }

    /// Waits until everything is written, but not for long if nobody reads it.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn push(&self, line: Vec<u8>) {
        if self.lines.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_item(
    sink: &mut impl Write,
    item: Item,
    (name, format): (&str, LogFormat),
    dropped: &AtomicU64,
) -> io::Result<()> {
    match item {
        Item::Line(line) => {
            sink.write_all(&line)?;
            let lost = dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let lost = format!("[{lost} lines lost: {name} was not read fast enough]");
                sink.write_all(format.line(Level::Warn, &lost).as_bytes())?;
            }
            sink.flush()
        }
        Item::Flush(done) => {
            let _ = done.send(());
            Ok(())
        }
    }
}

/// For the logger, which writes whole lines.
impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_lines_were_lost_is_said_in_the_format_of_the_others() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let (mut sink, dropped) = (Vec::new(), AtomicU64::new(3));
            let item = Item::Line(format.line(Level::Info, "first").into_bytes());
            write_item(&mut sink, item, ("stderr", format), &dropped).unwrap();
            let text = String::from_utf8(sink).unwrap();
            let lost = "[3 lines lost: stderr was not read fast enough]";
            match format {
                LogFormat::Text => assert_eq!(text, format!("first\n{lost}\n")),
                LogFormat::Json => {
                    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    let messages: Vec<String> = lines
                        .map(|line: serde_json::Value| line["message"].as_str().unwrap().to_owned())
                        .collect();
                    assert_eq!(messages, ["first", lost]);
                }
            }
        }
    }
}
