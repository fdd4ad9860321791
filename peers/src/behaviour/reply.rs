//! Test B: the server sends its reply and ends while the client still sends. The client reads all the time, which
//! makes it easy for the server.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use crate::{
    behaviour::end::{End, PATIENCE},
    measure::median,
    process::Process,
    servers::mode::{REPLY_BYTE, REPLY_BYTES},
};

/// What each client sends.
const REQUEST_BYTES: usize = 8 << 20;

/// What became of the replies.
#[derive(Debug)]
pub(crate) struct Replies {
    pub(crate) clients: usize,
    /// Replies that came whole, with a clean end.
    pub(crate) complete: usize,
    /// The median share of a reply that came.
    pub(crate) share: f64,
}

impl Replies {
    pub(super) fn observe(server: &Process, clients: usize) -> io::Result<Self> {
        let request = vec![b'q'; REQUEST_BYTES];
        let replies: Vec<(usize, End)> =
            (0..clients).map(|_| fetch(server.address(), &request)).collect::<io::Result<_>>()?;
        Ok(Self {
            clients,
            complete: replies.iter().filter(|&&reply| reply == (REPLY_BYTES, End::Clean)).count(),
            share: median(replies.iter().map(|&(length, _)| length as f64 / REPLY_BYTES as f64)),
        })
    }

    pub(crate) const fn passed(&self) -> bool {
        self.complete == self.clients
    }
}

/// The length of a reply, and how it ended.
fn fetch(address: SocketAddr, request: &[u8]) -> io::Result<(usize, End)> {
    let client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    thread::scope(|scope| {
        let sending =
            scope.spawn(|| (&client).write_all(request).and_then(|()| client.shutdown(Shutdown::Write)));
        let reply = read(&mut (&client));
        // A server that does not take it makes it fail, as it may.
        let _ = sending.join();
        reply
    })
}

fn read(client: &mut impl Read) -> io::Result<(usize, End)> {
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0;
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return Ok((length, End::Clean)),
            Ok(n) if buffer[..n].iter().all(|&byte| byte == REPLY_BYTE) => length += n,
            Ok(_) => return Err(io::Error::other("a wrong byte in the reply")),
            Err(error) => return Ok((length, End::of(error.kind()))),
        }
    }
}
