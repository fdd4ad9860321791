//! A client that sends without reading, and reads slowly but steadily.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use echoloop::Address;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::util::{DEADLINE, eventually, pattern, unless_interrupted};

/// The length after which the stream repeats: a prime, so that no buffer's size is a multiple of it.
const PERIOD: usize = 65_521;

/// Steady reading takes so much at once.
const PIECE: usize = 8 << 10;

/// The receive buffer that clients ask for, unless a test says otherwise.
pub(crate) const RECEIVE_BUFFER: usize = 64 << 10;

/// One connection, how much it has sent, and how much of that came back.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    /// Two periods of the stream.
    stream: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) received: usize,
}

impl Client {
    /// A client for which little is received that it does not read.
    pub(crate) fn connect(address: &Address) -> Self {
        Self::connect_with(address, RECEIVE_BUFFER)
    }

    pub(crate) fn connect_with(address: &Address, receive_buffer: usize) -> Self {
        let address: SockAddr = match address {
            Address::Ip(address) => (*address).into(),
            Address::Unix(path) => SockAddr::unix(path).unwrap(),
            other => panic!("cannot connect to {other}"),
        };
        let domain = address.as_socket().map_or(Domain::UNIX, Domain::for_address);
        let socket = Socket::new(domain, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(receive_buffer).unwrap();
        socket.connect(&address).expect("connect");
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { socket, stream: pattern(1, PERIOD).repeat(2), sent: 0, received: 0 }
    }

    pub(crate) fn send(&mut self, count: usize) {
        let end = self.sent + count;
        while self.sent < end {
            self.sent += self.send_some(end - self.sent).expect("send");
        }
    }

    /// Sends until neither side takes any more.
    pub(crate) fn send_until_blocked(&mut self) {
        self.send_until_blocked_or(usize::MAX);
    }

    /// The same, or until so much is sent.
    pub(crate) fn send_until_blocked_or(&mut self, most: usize) {
        self.socket.set_nonblocking(true).unwrap();
        let mut looks_in_vain = 0;
        eventually("the client can send no more", || {
            match self.send_some(PERIOD) {
                Ok(n) => (self.sent, looks_in_vain) = (self.sent + n, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => looks_in_vain += 1,
                Err(error) => panic!("{error} after {} bytes", self.sent),
            }
            // The server takes more as long as it can.
            looks_in_vain > 100 || self.sent >= most
        });
        self.socket.set_nonblocking(false).unwrap();
    }

    fn send_some(&self, most: usize) -> io::Result<usize> {
        let at = self.sent % PERIOD;
        unless_interrupted(|| (&self.socket).write(&self.stream[at..at + most.min(PERIOD)]))
    }

    /// No more is sent: FIN.
    pub(crate) fn end(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads once, and checks what came.
    fn read(&mut self, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most.min(PERIOD)];
        let n = unless_interrupted(|| (&self.socket).read(&mut bytes))?;
        let at = self.received % PERIOD;
        assert!(bytes[..n] == self.stream[at..at + n], "different within {n} bytes from {}", self.received);
        self.received += n;
        assert!(self.received <= self.sent, "{} bytes came, and {} were sent", self.received, self.sent);
        Ok(n)
    }

    /// Reads until so many bytes have come in all, at once.
    #[track_caller]
    pub(crate) fn read_to(&mut self, received: usize) {
        while self.received < received {
            let n = self.read(received - self.received).expect("more");
            assert_ne!(n, 0, "an end after {} bytes", self.received);
        }
    }

    /// Reads without a pause, so many bytes a second, until so many have come in all, or to the end.
    pub(crate) fn read_steadily(&mut self, bytes_per_second: f64, received: usize) -> io::Result<()> {
        let (begin, before) = (Instant::now(), self.received);
        while self.received < received {
            let due = Duration::from_secs_f64((self.received - before) as f64 / bytes_per_second);
            while let Some(rest) = due.checked_sub(begin.elapsed()).filter(|rest| !rest.is_zero()) {
                thread::park_timeout(rest);
            }
            if self.read(PIECE.min(received - self.received))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Reads to the end. An error, such as a reset, comes after `received` bytes.
    pub(crate) fn read_to_end(&mut self) -> io::Result<()> {
        while self.read(PERIOD)? > 0 {}
        Ok(())
    }

    /// All that was sent comes back, and then a clean end.
    #[track_caller]
    pub(crate) fn expect_rest_and_end(&mut self) {
        let end = self.read_to_end();
        assert!(
            end.is_ok() && self.received == self.sent,
            "{} of {} bytes, then {end:?}",
            self.received,
            self.sent
        );
    }

    /// What comes is right as far as it goes, and then a reset.
    #[track_caller]
    pub(crate) fn expect_reset(&mut self) {
        let error = self.read_to_end().expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(self.received < self.sent, "all came, and yet it was reset");
    }
}
