//! Test A: the client sends 8 MiB, shuts down its writing side, and begins to read late.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    behaviour::end::{End, PATIENCE},
    process::Process,
};

/// What the client sends.
const SENT: usize = 8 << 20;

/// What it got back.
#[derive(Debug)]
pub(crate) struct LateReader {
    pub(crate) returned: usize,
    pub(crate) end: End,
}

impl LateReader {
    pub(super) fn observe(server: &Process, late: Duration) -> io::Result<Self> {
        let client = TcpStream::connect(server.address())?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(late + PATIENCE))?;
        let mut sent = vec![0; SENT];
        fastrand::Rng::with_seed(2).fill(&mut sent);
        thread::scope(|scope| {
            // A server that reads no further while its echo is not taken makes the sender wait for the reader.
            let sending =
                scope.spawn(|| (&client).write_all(&sent).and_then(|()| client.shutdown(Shutdown::Write)));
            thread::sleep(late);
            let observed = Self::read(&mut (&client), &sent);
            // A server that ended too early may have made sending fail; what came back tells it better.
            let _ = sending.join();
            observed
        })
    }

    fn read(client: &mut impl Read, sent: &[u8]) -> io::Result<Self> {
        let mut buffer = vec![0; 64 << 10];
        let mut returned = 0;
        loop {
            match client.read(&mut buffer) {
                Ok(0) => return Ok(Self { returned, end: End::Clean }),
                Ok(n) if sent[returned..].starts_with(&buffer[..n]) => returned += n,
                Ok(_) => return Err(io::Error::other("a wrong byte came back")),
                Err(error) => return Ok(Self { returned, end: End::of(error.kind()) }),
            }
        }
    }

    /// The share that came back.
    pub(crate) fn share(&self) -> f64 {
        self.returned as f64 / SENT as f64
    }

    pub(crate) fn passed(&self) -> bool {
        self.returned == SENT && self.end == End::Clean
    }
}
