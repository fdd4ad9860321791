//! Clients that send datagrams, to a server that has a datagram socket and nothing else.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use echoloop::Echo;

use super::{
    choices::Choices,
    kernel::{
        Kernel, SharedKernel,
        datagrams::{DatagramQueue, PORT},
    },
    stage::{Failure, Stage},
    world::{limits, nature},
};

struct World {
    choices: Choices,
    kernel: SharedKernel,
    stage: Stage<Echo>,
    /// Datagrams that were sent while the socket was open, and those of them that must not be answered.
    sent: u64,
    refused: u64,
    is_draining: bool,
    is_aborted: bool,
}

/// Runs one schedule; how many datagrams were answered.
pub fn run_seed(seed: u64) -> Result<u64, Failure> {
    let mut world = World::new(Choices::seeded(seed));
    for _ in 0..world.choices.usize(20..300) {
        world.step()?;
    }
    world.calm_down()?;
    Ok(world.queue(|queue| queue.answered))
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn new(choices: Choices) -> Self {
        let limits = limits(false, &choices);
        let kernel = Kernel::new(&choices, nature(&limits, &choices), Instant::now(), 0);
        let fails = || choices.of(&[0, 0, 10, 50, 100]).expect("there are some");
        kernel.borrow_mut().datagrams = Some(DatagramQueue::new(fails(), fails()));
        let stage = Stage::new(&kernel, limits, 16, Box::new(|_| Some(Echo)));
        Self { choices, kernel, stage, sent: 0, refused: 0, is_draining: false, is_aborted: false }
    }

    fn queue<R>(&self, f: impl FnOnce(&mut DatagramQueue) -> R) -> R {
        f(self.kernel.borrow_mut().datagrams.as_mut().expect("there is one"))
    }

    fn step(&mut self) -> Result<(), Failure> {
        match self.choices.u8(..100) {
            0..50 => self.some_come(),
            50..85 => self.turn()?,
            85..90 => self.queue(DatagramQueue::stray_event),
            90..99 => self.stage.advance(Duration::from_millis(self.choices.u64(..200))),
            _ => match self.choices.u8(..8) {
                0 => self.abort(),
                1..3 => self.drain(),
                _ => {}
            },
        }
        Ok(())
    }

    /// From one client, or from somebody who must not be answered.
    fn some_come(&mut self) {
        // More than a turn takes on, sometimes.
        let most = if self.choices.u8(..16) == 0 { 200 } else { 3 };
        for _ in 0..self.choices.u8(1..=most) {
            let is_refused = self.choices.u8(..8) == 0;
            let port = if is_refused { self.choices.of(&[0, 7, 19, PORT]) } else { Some(40_000) };
            let from = SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("there are some")));
            let length = self.choices.usize(..40);
            let bytes = self.sent.to_be_bytes().into_iter().cycle().take(length).collect();
            if !self.queue(|queue| queue.is_closed) {
                self.sent += 1;
                self.refused += u64::from(is_refused);
            }
            let rearm = self.kernel.borrow().nature.rearm;
            self.queue(|queue| queue.arrive((from, bytes), rearm));
        }
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.stage.turn()?;
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        let stats = self.stage.counters.snapshot();
        let counted = (stats.datagrams_received, stats.datagrams_sent, stats.datagrams_unsent);
        let was = self.queue(|queue| (queue.received, queue.answered, queue.unsent));
        if counted != was {
            return Err(format!("{was:?} were received, answered and not sent, but {stats:?}"));
        }
        if counted.0 != counted.1 + counted.2 + stats.datagrams_refused
            || self.refused < stats.datagrams_refused
        {
            return Err(format!("the fate of some is not counted, or too many were refused: {stats:?}"));
        }
        let may_end = self.is_draining || self.is_aborted || self.stage.has_failed;
        if !may_end && (self.stage.is_finished() || self.queue(|queue| queue.is_closed)) {
            return Err("nobody has told it to end".to_owned());
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.is_draining = true;
        self.kernel.borrow_mut().note_drain();
        self.stage.handle.drain();
    }

    fn abort(&mut self) {
        self.is_aborted = true;
        self.kernel.borrow_mut().forgive_backlogs();
        self.stage.handle.abort();
    }

    /// Nothing fails any more: everything that came is answered. Then it ends when it is told to.
    fn calm_down(&mut self) -> Result<(), Failure> {
        let some_come_before_the_end = self.choices.bool();
        self.kernel.borrow_mut().calm_down();
        self.settle()?;
        if !self.queue(|queue| queue.is_closed) && self.queue(|queue| queue.waiting()) > 0 {
            return Err("it has gone deaf".to_owned());
        }
        if !self.is_aborted && !self.is_draining && !self.stage.has_failed {
            let stats = self.stage.counters.snapshot();
            if (stats.datagrams_received, stats.datagrams_refused) != (self.sent, self.refused) {
                return Err(format!("{} came, {} to refuse, but {stats:?}", self.sent, self.refused));
            }
        }
        if some_come_before_the_end {
            self.some_come();
        }
        self.drain();
        self.settle()?;
        if !self.stage.is_finished() || !self.queue(|queue| queue.is_closed) {
            return Err("the drain does not end".to_owned());
        }
        Ok(())
    }

    /// Until it waits for datagrams, or has ended.
    fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..10 {
            self.stage.settle(|| Ok(false))?;
            self.check()?;
            let Some(left) = self.stage.left_until_deadline() else { break };
            self.stage.advance(left);
        }
        Ok(())
    }
}
