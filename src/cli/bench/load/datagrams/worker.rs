//! One thread of a load of datagrams: sends what is due, and checks what comes back.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use super::{
    flights::{Arrival, Flights},
    payload::Payload,
    share::{Share, WorkerStage},
    sockets::Sockets,
};
use crate::cli::{
    bench::{
        clock,
        load::{event::LoadEvent, timetable::Timetable},
        measure::{ends::End, tally::Start},
        plan::Plan,
    },
    udp,
};

/// The most datagrams of an open loop that are sent before answers are received.
const BATCH: usize = 64;

/// Room for the largest datagram.
const BUFFER_BYTES: usize = 64 << 10;

/// A thread's part of the load.
#[derive(Debug)]
pub(super) struct DatagramWorker {
    plan: Arc<Plan>,
    share: Arc<Share>,
    load_events: Sender<LoadEvent>,
    poll: Poll,
    sockets: Sockets,
    payload: Payload,
    flights: Flights,
    /// When datagrams are due; `None` in a closed loop.
    timetable: Option<Timetable>,
    /// How many datagrams a closed loop may still begin; `None` is without end.
    budget: Option<u64>,
    buffer: Box<[u8]>,
}

impl DatagramWorker {
    /// The worker of this number.
    pub(super) fn new(
        plan: Arc<Plan>,
        number: u64,
        (poll, sockets): (Poll, Sockets),
        share: Arc<Share>,
        load_events: Sender<LoadEvent>,
        timetable: Option<Timetable>,
    ) -> Self {
        Self {
            payload: Payload::new(plan.seed, number, plan.size),
            flights: Flights::new(plan.timeout),
            budget: plan.messages_of(number),
            buffer: vec![0; BUFFER_BYTES].into(),
            plan,
            share,
            load_events,
            poll,
            sockets,
            timetable,
        }
    }

    /// Runs to the end of its part, or until its poller fails.
    pub(super) fn run(mut self) -> io::Result<()> {
        let result = self.send_and_receive();
        self.give_up(clock::now());
        result
    }

    fn send_and_receive(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        if self.timetable.is_none() {
            for place in 0..self.sockets.len() {
                (0..self.plan.pipeline).for_each(|_| self.begin_next(place));
            }
        }
        loop {
            let now = clock::now();
            let stage = self.stage(now);
            self.note_lost(now);
            self.send_due(now);
            if stage == WorkerStage::GivingUp || self.is_done(stage) {
                return Ok(());
            }
            match self.poll.poll(&mut events, self.wait(now)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                self.receive(event.token().0);
            }
        }
    }

    /// How far the load is.
    fn stage(&mut self, now: Instant) -> WorkerStage {
        let figures = self.share.lock();
        if let (Some(timetable), WorkerStage::Stopping | WorkerStage::GivingUp) =
            (&mut self.timetable, figures.stage)
        {
            timetable.end_at(figures.measured_time.until().unwrap_or(now));
        }
        figures.stage
    }

    /// Whether nothing is in flight and nothing more is to be sent.
    fn is_done(&self, stage: WorkerStage) -> bool {
        let has_sent_all = match &self.timetable {
            Some(timetable) => timetable.next().is_none(),
            None => stage != WorkerStage::Running || self.budget == Some(0),
        };
        self.flights.is_empty() && (has_sent_all || self.sockets.open() == 0)
    }

    /// Waits for nothing more: what is in flight, or was due and not sent, is lost.
    fn give_up(&mut self, now: Instant) {
        let mut figures = self.share.lock();
        while let Some(flight) = self.flights.give_up() {
            figures.lost(flight.start.due, 1, now);
        }
        if let Some(mut timetable) = self.timetable.take() {
            timetable.end_at(figures.measured_time.until().unwrap_or(now));
            timetable.left().for_each(|group| figures.lost(group.due, group.count, now));
        }
        figures.stage = WorkerStage::Done;
        drop(figures);
        // Nobody listens when the program is about to end.
        let _ = self.load_events.send(LoadEvent::Idle);
    }

    /// Gives up those whose time is over. In a closed loop others take their places.
    fn note_lost(&mut self, now: Instant) {
        while let Some(flight) = self.flights.take_lost(now) {
            self.share.lock().lost(flight.start.due, 1, now);
            self.follow(flight.socket);
        }
    }

    /// In a closed loop the next datagram follows on a socket.
    fn follow(&mut self, place: usize) {
        if self.timetable.is_none() && self.share.lock().stage == WorkerStage::Running {
            self.begin_next(place);
        }
    }

    /// Sends the next datagram of a closed loop, if there is one and its socket has not failed.
    fn begin_next(&mut self, place: usize) {
        if !self.sockets.is_open(place) {
            return;
        }
        match &mut self.budget {
            Some(0) => return,
            Some(left) => *left -= 1,
            None => {}
        }
        self.send(place, Start::at(clock::now()));
    }

    /// Sends what is due in an open loop.
    fn send_due(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Some(due) = self.timetable.as_mut().and_then(|timetable| timetable.take(now)) else { return };
            match self.sockets.next_in_turn() {
                Some(place) => self.send(place, Start { due, sent: clock::now() }),
                None => self.share.lock().lost(due, 1, now),
            }
        }
    }

    /// One that cannot be sent is waited for like one that the network loses.
    fn send(&mut self, place: usize, start: Start) {
        let number = self.flights.begin(place, start);
        let datagram = self.payload.write(number, &mut self.buffer);
        match self.sockets.send(place, datagram) {
            Err(error) if is_passing(&error) => {}
            Err(error) => self.close(place, &error),
            Ok(()) => {}
        }
    }

    /// Receives all that has come on a socket.
    fn receive(&mut self, place: usize) {
        while let Some(received) = self.sockets.receive(place, &mut self.buffer) {
            match received {
                Ok(length) => self.check(place, length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.close(place, &error),
            }
        }
    }

    /// What has come is one that was sent, or not.
    fn check(&mut self, place: usize, length: usize) {
        let now = clock::now();
        self.sockets.note_answer(place);
        let number = self.payload.number(&self.buffer[..length]);
        let arrival = number.map_or(Arrival::Stray, |number| self.flights.arrived(number, place));
        {
            let mut figures = self.share.lock();
            match arrival {
                Arrival::Answer(start) => figures.answered(start, length, now),
                Arrival::Late => figures.datagrams.late += 1,
                Arrival::Duplicate => figures.datagrams.duplicate += 1,
                Arrival::Stray => figures.datagrams.corrupt += 1,
            }
        }
        if matches!(arrival, Arrival::Answer(_)) {
            self.follow(place);
        }
    }

    fn close(&mut self, place: usize, error: &io::Error) {
        let Some(has_answered) = self.sockets.close(place) else { return };
        let end = if udp::is_refusal(error) { End::Refused } else { End::ConnectFailed(error.kind()) };
        log::debug!("socket {place} failed: {error}");
        self.share.lock().socket_failed(end, has_answered);
    }

    /// How long to wait for answers, until something is due or given up.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = |at: Instant| at.saturating_duration_since(now);
        // Pollers round up to milliseconds, and what is due is to be sent in time: the rest is not slept.
        let whole_millis =
            |left: Duration| Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let due = self.timetable.as_ref().and_then(Timetable::next).filter(|_| self.sockets.open() > 0);
        let until_due = due.map(|due| whole_millis(left(due)));
        let until_lost = self.flights.next_timeout().map(left);
        [until_due, until_lost].into_iter().flatten().min()
    }
}

/// Whether sending failed for now only: there is no room, or no memory.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::OutOfMemory)
}
