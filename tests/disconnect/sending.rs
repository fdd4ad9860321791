//! Clients that send on a thread of their own.

use std::{
    io::Write,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::Socket;

use crate::{KIB, util::eventually};

/// How long a sender makes no progress before it is taken to be blocked.
const STUCK: Duration = Duration::from_millis(200);

/// Sends on a thread of its own.
pub(crate) struct Sending {
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Shutdown,
    StayOpen,
}

impl Sending {
    pub(crate) fn start(socket: &Socket, bytes: &Arc<Vec<u8>>, then: Then) -> Self {
        let mut socket = socket.try_clone().unwrap();
        let bytes = Arc::clone(bytes);
        let sent = Arc::new(AtomicUsize::new(0));
        let progress = Arc::clone(&sent);
        let thread = thread::spawn(move || {
            for piece in bytes.chunks(16 * KIB) {
                socket.write_all(piece).expect("sending goes on whatever happens");
                progress.fetch_add(piece.len(), SeqCst);
            }
            if then == Then::Shutdown {
                socket.shutdown(Shutdown::Write).unwrap();
            }
        });
        Self { sent, thread }
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.load(SeqCst)
    }

    pub(crate) fn join(self) {
        self.thread.join().expect("everything was sent");
    }
}

/// Waits until each sender has finished, or none has made progress for a while.
pub(crate) fn wait_until_done_or_stuck(senders: &[Sending]) {
    let sent = || senders.iter().map(Sending::sent).sum::<usize>();
    let (mut last, mut since) = (sent(), Instant::now());
    eventually("the senders are done or stuck", || {
        if sent() != last {
            (last, since) = (sent(), Instant::now());
        }
        senders.iter().all(|sender| sender.thread.is_finished()) || since.elapsed() > STUCK
    });
}
