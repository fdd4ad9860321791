//! One client: what it sends, what it must get back, and how it ends.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use socket2::SockRef;

use crate::{
    IDLE_TIMEOUT,
    kinds::pause,
    util::{connect, reset},
    workers::{PERIOD, Soak},
};

/// What is owed comes sooner. A server that forgets something remembers it only at the next deadline.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The most that is handed to one write, and taken by one read.
pub(crate) const CHUNK: usize = 64 << 10;

/// How a connection must have ended as the server counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Peer,
    Reset,
    PeerOrReset,
    Idle,
    LingerTimeout,
    WriteStall,
    /// The machine was held up, and a deadline ran out that should not.
    HeldUp,
}

pub(crate) const ENDINGS: usize = 7;

/// One connection, the bytes it has sent and those it got back.
pub(crate) struct Client<'a> {
    soak: &'a Soak,
    pub(crate) stream: TcpStream,
    begin: Instant,
    /// Where its stream begins in that of all.
    start: usize,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    counted: bool,
}

impl<'a> Client<'a> {
    /// Some with small buffers.
    pub(crate) fn connect(soak: &'a Soak, rng: &mut Rng) -> Self {
        let begin = Instant::now();
        let stream = connect(soak.address);
        soak.connections.fetch_add(1, SeqCst);
        soak.open.fetch_add(1, SeqCst);
        if rng.u32(0..4) == 0 {
            let socket = SockRef::from(&stream);
            socket.set_send_buffer_size(16 << 10).unwrap();
            socket.set_recv_buffer_size(16 << 10).unwrap();
        }
        let start = rng.usize(0..PERIOD);
        Self { soak, stream, begin, start, sent: 0, received: 0, counted: false }
    }

    /// Its system keeps little for it that it does not read.
    pub(crate) fn take_little(&self) {
        SockRef::from(&self.stream).set_recv_buffer_size(16 << 10).unwrap();
    }

    /// For the thread that sends while another reads. It is not counted.
    pub(crate) fn writer(&self) -> Self {
        let stream = self.stream.try_clone().unwrap();
        self.soak.open.fetch_add(1, SeqCst);
        Self {
            soak: self.soak,
            stream,
            begin: self.begin,
            start: self.start,
            sent: 0,
            received: 0,
            counted: true,
        }
    }

    /// Counts the bytes that were sent also where it fails.
    pub(crate) fn send(&mut self, count: usize) -> io::Result<()> {
        let end = self.sent + count;
        while self.sent < end {
            let bytes = self.soak.bytes(self.start + self.sent, (end - self.sent).min(CHUNK));
            match self.stream.write(bytes) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn send_urgent(&mut self) -> io::Result<()> {
        let byte = self.soak.bytes(self.start + self.sent, 1);
        self.sent += SockRef::from(&self.stream).send_out_of_band(byte)?;
        Ok(())
    }

    pub(crate) fn fin(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads once and checks what came, whatever the client has deserved.
    fn read(&mut self, max: usize) -> io::Result<usize> {
        let mut buffer = [0; CHUNK];
        let asked = Instant::now();
        let n = self.stream.read(&mut buffer[..max.min(CHUNK)])?;
        let waited = asked.elapsed();
        let in_time = waited < PATIENCE || self.sent == 0 || self.soak.pulse.missed_since(asked);
        assert!(in_time, "after {} bytes the next {n} came only after {waited:?}", self.received);
        let (at, expected) = (self.received, self.soak.bytes(self.start + self.received, n));
        assert!(buffer[..n] == *expected, "other bytes came than were sent, from {at} to {}", at + n);
        self.received += n;
        self.soak.verified.fetch_add(n as u64, SeqCst);
        Ok(n)
    }

    /// Reads until so many bytes have come.
    pub(crate) fn read_to(&mut self, received: usize) -> io::Result<()> {
        self.read_to_at(received, |_| {})
    }

    /// The same, and tells `between` after each read how much came.
    pub(crate) fn read_to_at(&mut self, received: usize, mut between: impl FnMut(usize)) -> io::Result<()> {
        while self.received < received {
            match self.read(received - self.received)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => between(n),
            }
        }
        Ok(())
    }

    /// Tells `between` after each read how much came.
    pub(crate) fn read_to_end(&mut self, mut between: impl FnMut(usize)) -> io::Result<()> {
        loop {
            match self.read(CHUNK)? {
                0 => return Ok(()),
                n => between(n),
            }
        }
    }

    /// Of a client that is cut off or cuts off: what comes is right as far as it goes.
    pub(crate) fn read_what_came(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        match self.read_to_end(|_| {}) {
            Ok(()) => {}
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock || is_reset(&error), "{error}"),
        }
        assert!(self.received <= self.sent, "{} bytes came, and {} were sent", self.received, self.sent);
    }

    pub(crate) fn ping(&mut self, count: usize) -> io::Result<()> {
        self.send(count)?;
        self.read_to(self.sent)
    }

    /// Sends all, then FIN, on a thread of its own, and reads to the end: all of it.
    pub(crate) fn transfer(mut self, size: usize, before: impl FnOnce(), between: impl FnMut(usize)) {
        let mut writer = self.writer();
        self.sent = size;
        let mut end = Ok(());
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| writer.send(size).and_then(|()| writer.fin()));
            before();
            end = self.read_to_end(between);
            sender.join().expect("the sender does not panic")
        });
        self.expect_whole(size, sent.and(end));
    }

    /// Sends until so much is sent or the time is over, and reads nothing.
    pub(crate) fn send_unread(&mut self, count: usize, time: Duration) {
        self.stream.set_nonblocking(true).unwrap();
        let begin = Instant::now();
        while self.sent < count && begin.elapsed() < time {
            match self.send(count - self.sent) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause(Duration::from_millis(1)),
                Err(error) => return self.held_up("send", &error),
            }
        }
    }

    /// The server's FIN, when it is due and not before.
    pub(crate) fn see_idle_timeout(&mut self) {
        self.read_to_end(|_| {})
            .unwrap_or_else(|error| panic!("no clean end of an idle connection: {error}"));
        assert_eq!(self.received, 0, "bytes came that were never sent");
        let took = self.begin.elapsed();
        assert!(took >= IDLE_TIMEOUT - Duration::from_millis(100), "idle after {took:?}");
        assert!(took < 2 * IDLE_TIMEOUT || self.was_held_up(), "idle only after {took:?}");
    }

    /// FIN, then receive to the end: all that was sent.
    pub(crate) fn finish(mut self, so_far: io::Result<()>) {
        let end = so_far.and_then(|()| self.fin()).and_then(|()| self.read_to_end(|_| {}));
        let sent = self.sent;
        self.expect_whole(sent, end);
    }

    /// A well-behaved client gets everything, and a clean end.
    pub(crate) fn expect_whole(self, sent: usize, end: io::Result<()>) {
        if end.is_ok() && self.received == sent {
            return self.close(Ending::Peer);
        }
        let (received, took) = (self.received, self.begin.elapsed());
        assert!(self.was_held_up(), "{received} of {sent} bytes came back, then {end:?}, after {took:?}");
        self.close(Ending::HeldUp);
    }

    /// What a client that has done nothing wrong yet may see only if the machine was held up.
    pub(crate) fn held_up(&mut self, what: &str, error: &io::Error) {
        assert!(self.was_held_up(), "{what}: {error}, after {:?}", self.begin.elapsed());
        self.count(Ending::HeldUp);
    }

    pub(crate) fn was_held_up(&self) -> bool {
        self.soak.pulse.missed_since(self.begin)
    }

    pub(crate) fn close(mut self, ending: Ending) {
        self.count(ending);
    }

    pub(crate) fn reset(mut self) {
        self.count(Ending::Reset);
        reset(self.stream.try_clone().unwrap());
    }

    pub(crate) fn count(&mut self, ending: Ending) {
        if !self.counted {
            self.counted = true;
            self.soak.endings[ending as usize].fetch_add(1, SeqCst);
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.soak.open.fetch_sub(1, SeqCst);
    }
}

pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
