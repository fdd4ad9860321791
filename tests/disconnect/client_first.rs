//! The client ends first: it sends everything, shuts down, and only then begins to read.

use std::{
    cell::Cell,
    io::Write,
    net::{Shutdown, TcpListener},
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use echoloop::{Config, Context, Echo, Input, Protocol};
use socket2::Socket;

use crate::{
    KIB, MIB, connect, expect_all_ended_by_their_peers, expect_and_end,
    sending::{Sending, Then, wait_until_done_or_stuck},
    util::{DEADLINE, Running, eventually, finish, holds_within, pattern, ping, skip},
};

/// One thread: what is sent has to fit into the buffers on the way.
fn sends_then_reads(server: Running<Echo>, length: usize) {
    let mut client = connect(&server.addresses[0]);
    let sent = pattern(length as u64, length);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    expect_and_end(&client, &sent);
    expect_all_ended_by_their_peers(server, 1, length);
}

/// More than fits into the buffers on the way: the client reads once it can send no more.
fn sends_much_then_reads(server: Running<Echo>, length: usize) {
    let client = connect(&server.addresses[0]);
    let sent = Arc::new(pattern(length as u64, length));
    let sending = [Sending::start(&client, &sent, Then::Shutdown)];
    wait_until_done_or_stuck(&sending);
    expect_and_end(&client, &sent);
    sending.into_iter().for_each(Sending::join);
    expect_all_ended_by_their_peers(server, 1, length);
}

fn ipv4() -> Running<Echo> {
    Running::echo(Config::default())
}

/// `None` on a machine without IPv6.
fn ipv6() -> Option<Running<Echo>> {
    if TcpListener::bind("[::1]:0").is_err() {
        skip("no IPv6 on this machine");
        return None;
    }
    Some(Running::start(Config::default(), &["[::1]:0"], |_| Some(Echo)))
}

/// A server on a Unix socket, and the directory in which it is.
#[cfg(unix)]
fn unix() -> (Running<Echo>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("echo.sock").display());
    (Running::start(Config::default(), &[&address], |_| Some(Echo)), directory)
}

#[test]
fn nothing_at_all_is_echoed_and_ended() {
    sends_then_reads(ipv4(), 0);
}

#[test]
fn one_byte_is_echoed_and_ended() {
    sends_then_reads(ipv4(), 1);
}

#[test]
fn fourteen_bytes_are_echoed_and_ended() {
    sends_then_reads(ipv4(), 14);
}

#[test]
fn eight_mebibytes_are_echoed_and_ended() {
    sends_much_then_reads(ipv4(), 8 * MIB);
}

#[test]
fn a_hundred_mebibytes_are_echoed_and_ended() {
    sends_much_then_reads(ipv4(), 100 * MIB);
}

#[test]
fn the_ending_is_the_same_over_ipv6() {
    for length in [0, 1, 14] {
        let Some(server) = ipv6() else { return };
        sends_then_reads(server, length);
    }
    let Some(server) = ipv6() else { return };
    sends_much_then_reads(server, 8 * MIB);
}

#[cfg(unix)]
#[test]
fn the_ending_is_the_same_over_unix_sockets() {
    for length in [0, 1, 14] {
        let (server, _directory) = unix();
        sends_then_reads(server, length);
    }
    let (server, _directory) = unix();
    sends_much_then_reads(server, 8 * MIB);
}

#[test]
fn two_hundred_clients_at_once_are_echoed_and_ended() {
    const CLIENTS: usize = 200;
    let server = ipv4();
    let clients: Vec<Socket> = (0..CLIENTS).map(|_| connect(&server.addresses[0])).collect();
    let sent: Vec<_> = (0..CLIENTS).map(|n| Arc::new(pattern(n as u64, MIB))).collect();
    let sending: Vec<_> = std::iter::zip(&clients, &sent)
        .map(|(client, bytes)| Sending::start(client, bytes, Then::Shutdown))
        .collect();
    wait_until_done_or_stuck(&sending);
    thread::scope(|scope| {
        for (client, sent) in clients.iter().zip(&sent) {
            scope.spawn(|| expect_and_end(client, sent));
        }
    });
    sending.into_iter().for_each(Sending::join);
    expect_all_ended_by_their_peers(server, CLIENTS as u64, CLIENTS * MIB);
}

/// Echo that tells how much of it is queued when its peer ends.
struct TellsEnd(Sender<usize>);

impl Protocol for TellsEnd {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.send(cx.queued()).unwrap();
        cx.finish();
    }
}

#[test]
fn a_client_that_ends_while_its_echo_is_queued_gets_all_of_it() {
    const PIECE: usize = 16 * KIB;
    let (tell, ended) = channel();
    let server = Running::start(Config::default(), &["127.0.0.1:0"], move |_| Some(TellsEnd(tell.clone())));
    let neighbour = server.connect();
    let pings = Cell::new(0);
    let stays_queued = || {
        // Not only while a busy machine holds the server up: it has served another client many times.
        (0..25).all(|_| {
            ping(&neighbour, b"?");
            pings.set(pings.get() + 1);
            let is_sent = || server.stats().bytes_sent == server.stats().bytes_received;
            !holds_within(Duration::from_millis(10), is_sent)
        })
    };
    let mut client = connect(&server.addresses[0]);
    let bytes = pattern(9, 64 * MIB);
    let mut sent = 0;
    // Piece by piece until the socket takes no more and something stays in the server's queue:
    // less than the high-water mark, so that it still reads.
    loop {
        client.write_all(&bytes[sent..sent + PIECE]).unwrap();
        sent += PIECE;
        eventually("the piece has come", || server.stats().bytes_received == (sent + pings.get()) as u64);
        if stays_queued() {
            break;
        }
    }
    client.shutdown(Shutdown::Write).unwrap();
    let queued = ended.recv_timeout(DEADLINE).expect("the end is noticed while the echo is queued");
    assert!(queued > 0, "this shows nothing");
    expect_and_end(&client, &bytes[..sent]);
    assert!(finish(&neighbour).is_empty());
    expect_all_ended_by_their_peers(server, 2, sent + pings.get());
}
