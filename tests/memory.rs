//! Memory is bounded, small, and given back.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use util::{
    DEADLINE, Program, connect, finish,
    holder::{self, Holder},
    holds_within, ping,
    procfs::{descriptors_for_connections, resident_bytes, wait_until_asleep},
    reset, skip, wait_for_events,
};

/// Peers that send for ever and never read. With poll(2) each wait costs as much as there are connections.
const STALLED: usize = if cfg!(mio_unsupported_force_poll_poll) { 400 } else { 2000 };

/// Idle connections.
const IDLE: usize = if cfg!(mio_unsupported_force_poll_poll) { 3000 } else { 15_000 };

/// The default of `--high-water`.
const HIGH_WATER_BYTES: u64 = 64 << 10;

/// User-space memory of an idle connection. The goal is 128. With poll(2) mio keeps tables of its own.
const IDLE_BYTES_MAX: u64 = if cfg!(mio_unsupported_force_poll_poll) { 512 } else { 256 };

/// The server's memory after it started and has served one client.
fn base(server: &Program, address: SocketAddr) -> u64 {
    let client = connect(address);
    ping(&client, b"the first");
    finish(&client);
    // It has ended for the server too when the next one is served.
    ping(&connect(address), b"the second");
    resident_bytes(server.child.id())
}

#[test]
fn peers_that_never_read_take_the_high_water_mark_each_and_give_it_back() {
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    let address = server.listening();
    let pid = server.child.id();
    let base = base(&server, address);
    let slack = base / 10;
    for round in 1..=2 {
        let mut peers = Hogs::connect(address, STALLED);
        peers.send_until_stalled(pid);
        let stalled = resident_bytes(pid);
        let limit = STALLED as u64 * HIGH_WATER_BYTES;
        println!(
            "round {round}: base {} KiB, stalled base + {} KiB, which is {:.1} % of the high-water marks",
            base >> 10,
            (stalled - base) >> 10,
            (stalled - base) as f64 * 100.0 / limit as f64,
        );
        assert!(stalled <= base + limit + limit / 10, "stalled, it takes {stalled} bytes; base {base}");
        peers.leave();
        let given_back = holds_within(DEADLINE, || resident_bytes(pid) <= base + slack);
        let left = resident_bytes(pid);
        println!("round {round}: after all left base + {} KiB", left.saturating_sub(base) >> 10);
        assert!(given_back, "after all left, it takes {left} bytes; base {base}");
    }
}

/// Peers that send for ever and never read.
struct Hogs {
    poll: Poll,
    peers: Vec<mio::net::TcpStream>,
    sent: Vec<usize>,
}

impl Hogs {
    fn connect(address: SocketAddr, count: usize) -> Self {
        let poll = Poll::new().unwrap();
        let connect = |n| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.set_send_buffer_size(4096).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&address.into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut peer = mio::net::TcpStream::from_std(socket.into());
            poll.registry().register(&mut peer, Token(n), Interest::WRITABLE).unwrap();
            peer
        };
        let peers = (0..count).map(connect).collect();
        Self { poll, peers, sent: vec![0; count] }
    }

    /// Sends until the server sleeps and nobody can send a byte any more.
    fn send_until_stalled(&mut self, pid: u32) {
        let begin = Instant::now();
        while self.send_all_they_take(begin) > 0 {
            wait_until_asleep(pid);
        }
        let least = *self.sent.iter().min().unwrap();
        assert!(least as u64 > HIGH_WATER_BYTES, "a peer sent only {least} bytes");
    }

    /// Sends until there are no more events, and returns how much.
    fn send_all_they_take(&mut self, begin: Instant) -> usize {
        let mut events = Events::with_capacity(1024);
        let mut sent = 0;
        loop {
            wait_for_events(&mut self.poll, &mut events, Duration::ZERO);
            if events.is_empty() {
                return sent;
            }
            for event in &events {
                let Token(n) = event.token();
                let bytes = send_all_it_takes(&mut self.peers[n]);
                self.sent[n] += bytes;
                sent += bytes;
            }
            assert!(begin.elapsed() < 3 * DEADLINE, "they can send on and on");
        }
    }

    /// Some close with bytes unread, which resets; some reset at once.
    fn leave(self) {
        for (n, peer) in self.peers.into_iter().enumerate() {
            if n % 2 == 0 { drop(peer) } else { reset(TcpStream::from(OwnedFd::from(peer))) }
        }
    }
}

fn send_all_it_takes(peer: &mut impl Write) -> usize {
    let mut sent = 0;
    loop {
        match peer.write(&[7; 16 << 10]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
}

#[test]
fn idle_connections_that_echoed_take_little_memory() {
    let count = IDLE.min(descriptors_for_connections());
    if count < IDLE {
        skip(&format!("all but {count} of {IDLE} idle connections: the limit on open files is too low"));
    }
    let server = Program::start(&["serve", "0.0.0.0:0"]);
    let port = server.listening().port();
    let base = base(&server, SocketAddr::from(([127, 0, 0, 1], port)));
    let holders = Holder::start_several(2, count, port);
    holders.iter().for_each(|holder| holder.wait_for(holder::CONNECTED));
    let taken = resident_bytes(server.child.id()).saturating_sub(base);
    let each = taken / count as u64;
    println!("{count} idle connections: base {} KiB + {} KiB, {each} bytes each", base >> 10, taken >> 10);
    assert!(each <= IDLE_BYTES_MAX, "an idle connection takes {each} bytes");
}

/// See `util::holder`.
#[test]
fn hold_connections() {
    holder::hold_connections();
}
