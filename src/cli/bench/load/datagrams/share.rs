//! What a worker and the thread that runs the load share.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use mio::Waker;

use crate::cli::bench::measure::{
    datagram_counts::DatagramCounts,
    ends::{End, Ends},
    measured_time::MeasuredTime,
    outcome::ConnectionCounts,
    tally::{Start, Tally},
};

/// What both see. Each locks it for a moment only.
#[derive(Debug)]
pub(super) struct Share {
    figures: Mutex<Figures>,
    waker: Waker,
}

/// How far the load is, as a worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerStage {
    Running,
    /// Nothing more becomes due; what is in flight is waited for.
    Stopping,
    /// What is in flight is waited for no longer.
    GivingUp,
    /// Nothing is left to do.
    Done,
}

/// What was measured, and what is to be done.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) stage: WorkerStage,
    pub(super) measured_time: MeasuredTime,
    pub(super) tally: Tally,
    pub(super) datagrams: DatagramCounts,
    pub(super) ends: Ends,
    pub(super) connections: ConnectionCounts,
    /// Sockets that have not failed.
    pub(super) open: u64,
}

impl Share {
    /// Of a worker with so many sockets.
    pub(super) fn new(waker: Waker, open_loop: bool, measured_time: MeasuredTime, sockets: u64) -> Self {
        let figures = Figures {
            stage: WorkerStage::Running,
            measured_time,
            tally: Tally::new(open_loop),
            datagrams: DatagramCounts::default(),
            ends: Ends::default(),
            connections: ConnectionCounts { made: sockets, open_max: sockets },
            open: sockets,
        };
        Self { figures: Mutex::new(figures), waker }
    }

    /// A panic while it was locked costs no figures.
    pub(super) fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the worker how far the load is, unless it is done.
    pub(super) fn advance(&self, stage: WorkerStage) -> io::Result<()> {
        let mut figures = self.lock();
        if figures.stage != WorkerStage::Done {
            figures.stage = stage;
        }
        drop(figures);
        self.waker.wake()
    }
}

impl Figures {
    /// A datagram of so many bytes has come back unchanged.
    pub(super) fn answered(&mut self, start: Start, bytes: usize, now: Instant) {
        if self.measured_time.contains(now) {
            self.tally.returned += 1;
            self.tally.bytes += bytes as u64;
        }
        if self.measured_time.contains(start.due) {
            self.tally.record(start, now);
        }
    }

    /// Datagrams that were due at about this time are not waited for any more.
    pub(super) fn lost(&mut self, due: Instant, count: u64, now: Instant) {
        self.datagrams.lost += count;
        if self.measured_time.contains(due) {
            self.tally.record_unanswered(due, count, now);
        }
    }

    /// A socket is of no more use. If nothing has ever come back on it, it counts as never connected.
    pub(super) fn socket_failed(&mut self, end: End, has_answered: bool) {
        self.ends.count(end);
        self.open -= 1;
        if !has_answered {
            self.connections.made -= 1;
        }
    }
}
