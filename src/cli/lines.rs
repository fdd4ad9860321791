//! Lines on stdout or stderr that never block the program, even if nobody reads them.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
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
    lines: SyncSender<Vec<u8>>,
    format: LogFormat,
    progress: Arc<Progress>,
}

/// What became of the lines that were passed on.
#[derive(Debug, Default)]
struct Progress {
    waiting: Mutex<usize>,
    all_written: Condvar,
    dropped: AtomicU64,
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
        let (lines, waiting) = sync_channel::<Vec<u8>>(LINES_WAITING_MAX);
        let progress = Arc::new(Progress::default());
        let of_thread = Arc::clone(&progress);
        let work = move || {
            let mut sink = open();
            for line in waiting {
                write_line(&mut sink, &line, (name, format), &of_thread.dropped).unwrap_or_else(&complain);
                of_thread.note_written();
            }
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work) {
            let line = format.line(Level::Error, &format!("cannot start the thread for {name}: {error}"));
            let _ = io::stderr().write_all(line.as_bytes());
        }
        Self { lines, format, progress }
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
        let waiting = self.progress.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.progress.all_written.wait_timeout_while(waiting, FLUSH_TIMEOUT, |waiting| *waiting > 0));
    }

    fn push(&self, line: Vec<u8>) {
        let mut waiting = self.progress.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match self.lines.try_send(line) {
            Ok(()) => *waiting += 1,
            Err(_) => drop(self.progress.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl Progress {
    fn note_written(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        if *waiting == 0 {
            self.all_written.notify_all();
        }
    }
}

fn write_line(
    sink: &mut impl Write,
    line: &[u8],
    (name, format): (&str, LogFormat),
    dropped: &AtomicU64,
) -> io::Result<()> {
    sink.write_all(line)?;
    let lost = dropped.swap(0, Ordering::Relaxed);
    if lost > 0 {
        let lost = format!("[{lost} lines lost: {name} was not read fast enough]");
        sink.write_all(format.line(Level::Warn, &lost).as_bytes())?;
    }
    sink.flush()
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
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn that_lines_were_lost_is_said_in_the_format_of_the_others() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let (mut sink, dropped) = (Vec::new(), AtomicU64::new(3));
            let line = format.line(Level::Info, "first");
            write_line(&mut sink, line.as_bytes(), ("stderr", format), &dropped).unwrap();
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
    /// Takes a line only when it is allowed to.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flush_waits_for_all_lines_even_if_there_is_no_room_for_more() {
        let (allow, allowed) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let lines =
            Lines::start("slow", LogFormat::Text, || Slow(allowed, sender), |error| panic!("{error}"));
        // One more than have room: the thread has taken one already, or the last is lost, which is said in its place.
        let all = LINES_WAITING_MAX + 1;
        (0..all).for_each(|number| lines.line(&number.to_string()));
        let flushing = thread::spawn(move || {
            lines.flush();
            written.try_iter().count()
        });
        (0..all).for_each(|_| allow.send(()).unwrap());
        assert_eq!(flushing.join().unwrap(), all);
    }
}
