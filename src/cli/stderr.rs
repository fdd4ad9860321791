//! Stderr that never blocks the program, even if nobody reads it.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// The most lines that wait to be written. Further ones are dropped and counted.
const LINES_WAITING_MAX: usize = 1024;

/// How long the program waits at its end for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Passes lines to a thread that writes them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stderr {
    lines: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Stderr {
    /// Starts the thread. It runs as long as the program.
    pub(crate) fn start() -> Self {
        let (lines, items) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let spawned =
            thread::Builder::new().name("stderr".to_owned()).spawn(move || write_all(&items, &counter));
        if let Err(error) = spawned {
            let _ = writeln!(io::stderr(), "error: cannot start the log writer: {error}");
        }
        Self { lines, dropped }
    }

    /// Writes a line, or drops it if too many wait already.
    pub(crate) fn line(&self, line: &str) {
        self.push(format!("{line}\n").into_bytes());
    }

    /// Waits until everything is written, but not for long if stderr is not read.
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

fn write_all(items: &Receiver<Item>, dropped: &AtomicU64) {
    let mut stderr = io::stderr();
    for item in items {
        match item {
            // If stderr fails, there is nobody left to tell.
            Item::Line(line) => {
                let _ = stderr.write_all(&line);
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(stderr, "[{lost} lines were lost: stderr was not read]");
                }
            }
            Item::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// For the logger, which writes whole lines.
impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
