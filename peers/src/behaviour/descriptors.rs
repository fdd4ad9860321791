//! Test C: 150 clients of a server that may have 64 descriptors.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{behaviour::end::PATIENCE, effort::Effort, measure::cpu_time, process::Process};

/// `ulimit -n` of the server.
pub(super) const LIMIT: u64 = 64;

pub(crate) const CLIENTS: usize = 150;

/// The share of a processor above which a server that has nothing to do spins.
const SPINS: f64 = 0.2;

const MESSAGE: &[u8] = b"is there anybody";

/// How often is looked whether something has come.
const LOOK: Duration = Duration::from_millis(5);

/// How they fared.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Clients that were served while all stayed.
    pub(crate) at_once: usize,
    /// Those that were served in the end, as others left.
    pub(crate) served: usize,
    /// Those that were sent away without an echo.
    pub(crate) dropped: usize,
    /// The share of a processor that the server used while it could accept nobody.
    pub(crate) cpu: f64,
    /// The server ended.
    pub(crate) died: bool,
}

impl Descriptors {
    pub(super) fn observe(server: &mut Process, effort: Effort) -> Result<Self, String> {
        let mut crowd = Crowd::come(server).map_err(|error| format!("connecting: {error}"))?;
        crowd.wait(effort.settled);
        let at_once = crowd.served;
        let before = cpu_time(server.id());
        let begin = Instant::now();
        thread::sleep(effort.watch);
        let used = cpu_time(server.id()).unwrap_or_default().saturating_sub(before.unwrap_or_default());
        let cpu = used.as_secs_f64() / begin.elapsed().as_secs_f64();
        // Those that are served make room, until that is of no use to the others.
        while crowd.leave() && !crowd.waiting.is_empty() {
            crowd.wait(effort.settled);
        }
        let died = server.ended().is_some();
        Ok(Self { at_once, served: crowd.served, dropped: crowd.dropped, cpu, died })
    }

    pub(crate) fn passed(&self) -> bool {
        self.served == CLIENTS && !self.spins() && !self.died
    }

    pub(crate) fn spins(&self) -> bool {
        self.cpu > SPINS
    }
}

/// The clients. Those that are sent away are in no list.
struct Crowd {
    waiting: Vec<TcpStream>,
    staying: Vec<TcpStream>,
    served: usize,
    dropped: usize,
}

impl Crowd {
    fn come(server: &Process) -> std::io::Result<Self> {
        let mut waiting = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = TcpStream::connect(server.address())?;
            // One that was sent away at once finds out when it reads.
            let _ = client.write_all(MESSAGE);
            client.set_nonblocking(true)?;
            waiting.push(client);
        }
        Ok(Self { waiting, staying: Vec::new(), served: 0, dropped: 0 })
    }

    /// Receives until nothing has come for a while.
    fn wait(&mut self, settled: Duration) {
        let (begin, mut moved) = (Instant::now(), Instant::now());
        while !self.waiting.is_empty() && moved.elapsed() < settled && begin.elapsed() < PATIENCE {
            let waiting = self.waiting.len();
            self.look();
            if self.waiting.len() < waiting {
                moved = Instant::now();
            }
            thread::sleep(LOOK);
        }
    }

    fn look(&mut self) {
        let mut buffer = [0; MESSAGE.len()];
        for mut client in std::mem::take(&mut self.waiting) {
            match client.read(&mut buffer) {
                // So little is one segment.
                Ok(n) if buffer[..n] == *MESSAGE => {
                    self.served += 1;
                    self.staying.push(client);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.waiting.push(client),
                Ok(_) | Err(_) => self.dropped += 1,
            }
        }
    }

    /// Those that are served end the proper way. True if there were any.
    fn leave(&mut self) -> bool {
        let leaving = !self.staying.is_empty();
        for mut client in self.staying.drain(..) {
            let _ = client.set_nonblocking(false);
            let _ = client.set_read_timeout(Some(PATIENCE));
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.read(&mut [0]);
        }
        leaving
    }
}
