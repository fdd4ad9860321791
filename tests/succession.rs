//! A server takes the sockets of another one over: nobody who comes meanwhile is refused, reset or forgotten.
#![cfg(unix)]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use echoloop::{Address, Config, Echo, Error, Handle, Inherited, Server, Sockets, Stats};
use util::{DEADLINE, eventually, expect_bytes};

/// A server that runs, and what another one needs to take its place.
struct Generation {
    addresses: Vec<Address>,
    sockets: Sockets,
    handle: Handle<()>,
    thread: thread::JoinHandle<Stats>,
}

impl Generation {
    fn start(workers: usize, addresses: &[Address], before: Option<&Self>) -> Self {
        let inherited = before.map_or_else(Vec::new, |before| before.descriptors());
        let server =
            Server::builder().workers(workers).inherit(inherited).bind(addresses.iter().cloned()).unwrap();
        let (addresses, sockets, handle) = (server.local_addrs().to_vec(), server.sockets(), server.handle());
        let thread = thread::spawn(move || server.run(|_| Some(Echo)).unwrap());
        Self { addresses, sockets, handle, thread }
    }

    fn descriptors(&self) -> Vec<Inherited> {
        let duplicates = self.sockets.duplicate().unwrap();
        duplicates
            .into_iter()
            .map(|(address, descriptor)| {
                let inherited = Inherited::try_from(descriptor).unwrap();
                assert_eq!(inherited.address(), &address);
                inherited
            })
            .collect()
    }

    /// Another one goes on in its place.
    fn succeed(&mut self, workers: usize) -> thread::JoinHandle<Stats> {
        let next = Self::start(workers, &self.addresses, Some(self));
        self.sockets.leave();
        self.handle.drain_now();
        next.sockets.own();
        assert_eq!(next.addresses, self.addresses);
        std::mem::replace(self, next).thread
    }
}

/// One client: connects, says something, ends, and gets it back to a clean end.
fn visit(mut stream: impl Read + Write, finish: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
    stream.write_all(b"Hello")?;
    finish()?;
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo)?;
    assert_eq!(echo, b"Hello");
    Ok(())
}

#[test]
fn generations_with_any_number_of_workers_take_over_and_no_client_notices() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let asked: Vec<Address> =
        vec!["127.0.0.1:0".parse().unwrap(), Address::Unix(path.clone()), "udp:127.0.0.1:0".parse().unwrap()];
    let mut now = Generation::start(2, &asked, None);
    let Address::Ip(tcp) = now.addresses[0] else { panic!("it is TCP") };
    let Address::Udp(udp) = now.addresses[2] else { panic!("it is UDP") };

    // One that stays from the first generation to the end.
    let old = util::connect(tcp);
    util::ping(&old, b"first");

    let (is_over, visits) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut ended = Vec::new();
    thread::scope(|scope| {
        let visitors: Vec<_> = (0..3)
            .map(|visitor| {
                let (is_over, visits, path) = (&is_over, &visits, &path);
                scope.spawn(move || {
                    while !is_over.load(Ordering::SeqCst) {
                        let visited = if visitor == 0 {
                            let stream = UnixStream::connect(path).unwrap();
                            stream.set_read_timeout(Some(DEADLINE)).unwrap();
                            visit(&stream, || stream.shutdown(Shutdown::Write))
                        } else {
                            let stream = TcpStream::connect(tcp).unwrap();
                            stream.set_read_timeout(Some(DEADLINE)).unwrap();
                            visit(&stream, || stream.shutdown(Shutdown::Write))
                        };
                        visited.unwrap();
                        visits.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        // More, fewer, and one for each that there was.
        for workers in [3, 1, 4, 2, 2, 1] {
            let before = visits.load(Ordering::SeqCst);
            eventually("clients come", || visits.load(Ordering::SeqCst) > before + 20);
            ended.push(now.succeed(workers));
        }
        // A datagram is not promised to come back; one of several does.
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(udp).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        eventually("a datagram comes back", || {
            client.send(b"datagram").unwrap();
            client.recv(&mut [0; 99]).is_ok()
        });
        is_over.store(true, Ordering::SeqCst);
        visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
    });
    assert!(path.exists());

    // The first generation still has its client, which is served to its end by what drains.
    old.shutdown(Shutdown::Write).unwrap();
    assert!(util::read_to_end(&old).is_empty());
    let served: u64 =
        ended.into_iter().map(|thread| thread.join().unwrap()).map(|stats| stats.accepted).sum();
    let last = now.handle.stats().accepted;
    assert_eq!(served + last, visits.load(Ordering::SeqCst) + 1);
    now.handle.drain();
    now.thread.join().unwrap();
    assert!(!path.exists(), "the last one's file is its own");
}

#[test]
fn who_waits_in_the_backlog_of_one_that_ends_is_served_by_the_next() {
    let mut config = Config::default();
    config.max_connections = Some(1);
    let old = Server::builder().config(config).bind(["127.0.0.1:0"]).unwrap();
    let Address::Ip(address) = old.local_addrs()[0] else { panic!("it is TCP") };
    let (sockets, handle) = (old.sockets(), old.handle());
    let old = thread::spawn(move || old.run(|_| Some(Echo)).unwrap());
    let first = util::connect(address);
    util::ping(&first, b"first");
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| util::connect(address)).collect();
    waiting.iter_mut().for_each(|client| client.write_all(b"Hello").unwrap());

    let duplicates = sockets.duplicate().unwrap();
    sockets.leave();
    handle.drain_now();
    assert_eq!(util::finish(&first), b"");
    assert_eq!(old.join().unwrap().accepted, 1);
    // It comes late. They waited.
    let inherited = duplicates.into_iter().map(|(_, descriptor)| Inherited::try_from(descriptor).unwrap());
    let new = Server::builder().inherit(inherited).bind([Address::Ip(address)]).unwrap();
    let handle = new.handle();
    let new = thread::spawn(move || new.run(|_| Some(Echo)).unwrap());
    for client in waiting {
        expect_bytes(&client, b"Hello");
        assert_eq!(util::finish(&client), b"");
    }
    handle.drain();
    assert_eq!(new.join().unwrap().accepted, 5);
}

#[test]
fn one_that_could_not_begin_takes_nothing_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let asked = [Address::Unix(path.clone())];
    let now = Generation::start(1, &asked, None);
    // It has taken the socket, and ends before it serves.
    let failed = Server::<Echo>::builder().inherit(now.descriptors()).bind(asked).unwrap();
    drop(failed);
    let stream = UnixStream::connect(path).unwrap();
    visit(&stream, || stream.shutdown(Shutdown::Write)).unwrap();
    now.handle.drain();
    now.thread.join().unwrap();
}

#[test]
fn what_nobody_asked_for_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let inherited = Inherited::try_from(OwnedFd::from(listener)).unwrap();
    let error = Server::<Echo>::builder().inherit([inherited]).bind(["udp:127.0.0.1:0"]).unwrap_err();
    assert!(matches!(&error, Error::Unclaimed(one) if *one == address.into()), "{error}");
    assert_eq!(
        error.to_string(),
        format!("a socket was passed on that listens on {address}, and nobody asked for that address")
    );
}

#[test]
fn any_port_is_none_that_another_address_names() {
    let [one, other] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let named = |listener: &std::net::TcpListener| Address::from(listener.local_addr().unwrap());
    let (one_address, other_address) = (named(&one), named(&other));
    let inherited = [one, other].map(|listener| Inherited::try_from(OwnedFd::from(listener)).unwrap());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::<Echo>::builder().inherit(inherited).bind([any, one_address.clone()]).unwrap();
    assert_eq!(server.local_addrs(), [other_address, one_address]);
}
