//! What the loop's own code costs: the state machine and the connection table over a transport that is a few
//! counters and copies, without a system call. On a real socket the kernel's work comes on top.
//!
//! `echo` is one message: an event, a turn, the bytes back. `disconnect` is a whole connection: accepted, one
//! message, the peer's FIN and ours, closed, its slot freed. Each is also measured among many others that rest.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::disallowed_methods, reason = "the core is told the time, once")]

mod fake;

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use echoloop::{
    Address, Config, ConnectionId, Echo,
    internals::{Addresses, Connections, Counters, NoPipe, Places, Readiness, State, Transport, channel},
};
use fake::FakePoller;

/// A peer without a network: what it has sent, and how much came back.
#[derive(Debug, Default)]
struct Peer {
    /// Bytes that wait to be read.
    sent: Cell<usize>,
    /// FIN follows them.
    ended: Cell<bool>,
    echoed: Cell<usize>,
    saw_end: Cell<bool>,
}

/// Our end of a connection with a `Peer`. Bytes are copied as the kernel copies them.
#[derive(Debug)]
struct FakeTransport {
    peer: Rc<Peer>,
    wire: Rc<RefCell<Vec<u8>>>,
}

impl Read for FakeTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let sent = self.peer.sent.get();
        if sent == 0 && !self.peer.ended.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = sent.min(buffer.len());
        buffer[..n].copy_from_slice(&self.wire.borrow()[..n]);
        self.peer.sent.set(sent - n);
        Ok(n)
    }
}

impl Write for FakeTransport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.borrow_mut()[..bytes.len()].copy_from_slice(bytes);
        self.peer.echoed.set(self.peer.echoed.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for FakeTransport {
    type Pipe = NoPipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.peer.saw_end.set(true);
        Ok(())
    }

    fn unacknowledged(&self) -> Option<usize> {
        None
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn reset_on_close(&mut self) {}
}

impl Addresses for FakeTransport {
    fn peer_addr(&self) -> io::Result<Address> {
        Ok(Address::Ip(([127, 0, 0, 1], 1).into()))
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Ip(([127, 0, 0, 1], 2).into()))
    }
}

/// A loop's connections, `resting` of which have nothing to do.
struct Core {
    connections: Connections<Echo, FakeTransport>,
    wire: Rc<RefCell<Vec<u8>>>,
}

impl Core {
    fn new(resting: usize) -> Self {
        let (handle, _) = channel(1, vec![(Arc::new(()), Arc::default())]);
        let counters = Arc::new(Counters::default());
        let connections = Connections::new(
            0,
            Places::alone(resting + 1),
            Instant::now(),
            Config::default(),
            counters,
            handle,
            Arc::new(()),
        );
        let mut core = Self { connections, wire: Rc::new(RefCell::new(vec![7; 64 << 10])) };
        for _ in 0..resting {
            core.accept();
        }
        core
    }

    fn accept(&mut self) -> (ConnectionId, Rc<Peer>) {
        let peer = Rc::new(Peer::default());
        let transport = FakeTransport { peer: Rc::clone(&peer), wire: Rc::clone(&self.wire) };
        assert!(self.connections.take_place());
        let id = self.connections.next_id();
        let limits = Rc::clone(self.connections.limits());
        let added = self.connections.add(id, State::Reading, transport, Echo, &limits, &mut FakePoller);
        added.expect("registered");
        (id, peer)
    }

    /// An event, and turns until there is no work.
    fn readable(&mut self, id: ConnectionId) {
        self.connections.notice(id.token(), Readiness::READ);
        while self.connections.has_work() {
            self.connections.run_ready(&mut FakePoller);
        }
    }

    fn echo(&mut self, id: ConnectionId, peer: &Peer, size: usize) {
        peer.sent.set(size);
        peer.echoed.set(0);
        self.readable(id);
        assert_eq!(peer.echoed.get(), size);
    }

    fn disconnect(&mut self, id: ConnectionId, peer: &Peer) {
        peer.ended.set(true);
        self.readable(id);
        assert!(peer.saw_end.get() && self.connections.reap(|_, _| {}));
    }
}

fn name(size: usize) -> String {
    if size < 1024 { format!("{size} B") } else { format!("{} KiB", size >> 10) }
}

fn echo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo");
    for (resting, size) in [(0, 64), (0, 4 << 10), (0, 64 << 10), (100_000, 64)] {
        let mut core = Core::new(resting);
        let (id, peer) = core.accept();
        group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: size as u64 });
        group.bench_function(BenchmarkId::new(name(size), format!("{resting} resting")), |bencher| {
            bencher.iter(|| core.echo(id, &peer, size));
        });
    }
}

fn disconnect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("disconnect");
    group.throughput(Throughput::Elements(1));
    for resting in [0, 100_000] {
        let mut core = Core::new(resting);
        group.bench_function(format!("{resting} resting"), |bencher| {
            bencher.iter(|| {
                let (id, peer) = core.accept();
                core.echo(id, &peer, 64);
                core.disconnect(id, &peer);
            });
        });
    }
}

criterion_group!(benches, echo, disconnect);
criterion_main!(benches);
