//! The layer on a socket that does what a test says, with a peer that speaks the toy's TLS.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    rc::Rc,
};

use super::layer::Layer;
use crate::{
    address::Address,
    pipes::NoPipe,
    system::transport::{Addresses, Transport},
    tls::{
        scratch::Scratch,
        session::{Plaintext, Session},
        toy::{ToySession, ToyTls},
    },
};

/// A socket whose peer is a session.
struct Wire {
    peer: ToySession,
    /// What the peer has sent, and whether FIN is behind it.
    inbound: VecDeque<u8>,
    has_ended: bool,
    /// Bytes that the next writes take.
    room: usize,
    /// What was written, and not looked at by the peer.
    outbound: Vec<u8>,
    written: usize,
    acknowledged: usize,
    is_shut: bool,
    /// Writes fail with this.
    fault: Option<ErrorKind>,
    /// What the peer has opened.
    opened: Vec<u8>,
}

impl Wire {
    fn new() -> Self {
        Self {
            peer: ToySession::client(ToyTls::new()),
            inbound: VecDeque::new(),
            has_ended: false,
            room: usize::MAX,
            outbound: Vec::new(),
            written: 0,
            acknowledged: 0,
            is_shut: false,
            fault: None,
            opened: Vec::new(),
        }
    }

    /// The peer takes what has come, and answers.
    fn peer_acts(&mut self) {
        let mut answer = Vec::new();
        let mut plaintext = Plaintext::new(&mut [], &mut self.opened);
        let used = self.peer.receive(&mut self.outbound, &mut plaintext, &mut answer).expect("it is TLS");
        self.outbound.drain(..used);
        self.inbound.extend(answer);
    }

    fn peer_sends(&mut self, plaintext: &[u8]) {
        let mut records = Vec::new();
        self.peer.seal(&mut [], plaintext, &mut records).expect("it can");
        self.inbound.extend(records);
    }

    fn peer_updates_key(&mut self) {
        let mut records = Vec::new();
        self.peer.update_key(true, &mut records);
        self.inbound.extend(records);
    }

    fn peer_closes(&mut self) {
        let mut records = Vec::new();
        self.peer.close(&mut [], &mut records);
        self.inbound.extend(records);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() && !self.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.inbound.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.is_shut, "a write behind FIN");
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        let n = bytes.len().min(self.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= n;
        self.written += n;
        self.outbound.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Addresses for Wire {
    fn peer_addr(&self) -> io::Result<Address> {
        Err(ErrorKind::NotConnected.into())
    }

    fn local_addr(&self) -> io::Result<Address> {
        Err(ErrorKind::NotConnected.into())
    }
}

impl Transport for Wire {
    type Pipe = NoPipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.is_shut = true;
        Ok(())
    }

    fn unacknowledged(&self) -> Option<usize> {
        Some(self.written - self.acknowledged)
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn reset_on_close(&mut self) {}
}

/// A server's end that has agreed with its peer, with records of so many bytes.
fn agreed_with(toy: ToyTls) -> (Layer, Wire) {
    let mut layer =
        Layer::new(Box::new(ToySession::server(toy)), &Rc::<Scratch>::default()).expect("it begins");
    let mut wire = Wire::new();
    while !layer.handshake(&mut wire).expect("nothing is wrong") {
        wire.peer_acts();
    }
    layer.flush(&mut wire).expect("there is room");
    wire.peer_acts();
    wire.acknowledged = wire.written;
    (layer, wire)
}

fn agreed() -> (Layer, Wire) {
    agreed_with(ToyTls::new())
}

fn write(layer: &mut Layer, wire: &mut Wire, bytes: &[u8]) -> io::Result<usize> {
    layer.write(wire, &[IoSlice::new(bytes)])
}

fn read(layer: &mut Layer, wire: &mut Wire, most: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; most];
    let n = layer.read(wire, &mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}

#[track_caller]
fn blocks<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.expect_err("it blocks").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_write_that_blocks_at_any_byte_goes_on_where_it_was() {
    // A record of 5 bytes has 9.
    for room in 0..9 {
        let (mut layer, mut wire) = agreed();
        wire.room = room;
        blocks(write(&mut layer, &mut wire, b"hello"));
        assert!(layer.has_output());
        wire.room = usize::MAX;
        assert_eq!(write(&mut layer, &mut wire, b"hello").unwrap(), 5);
        assert!(!layer.has_output());
        wire.peer_acts();
        assert_eq!(wire.opened, b"hello", "after {room}");
    }
}

#[test]
fn what_a_write_had_sealed_is_told_in_the_pieces_that_later_writes_offer() {
    let (mut layer, mut wire) = agreed();
    wire.room = 3;
    blocks(write(&mut layer, &mut wire, b"hello"));
    wire.room = usize::MAX;
    assert_eq!(write(&mut layer, &mut wire, b"he").unwrap(), 2);
    assert_eq!(write(&mut layer, &mut wire, b"llo, all").unwrap(), 3);
    assert_eq!(write(&mut layer, &mut wire, b", all").unwrap(), 5);
    wire.peer_acts();
    assert_eq!(wire.opened, b"hello, all");
}

#[test]
fn what_is_left_inside_is_more_though_the_socket_is_empty() {
    let (mut layer, mut wire) = agreed();
    wire.peer_sends(b"hello");
    assert_eq!(read(&mut layer, &mut wire, 1).unwrap(), b"h");
    assert!(!layer.short_read_drains(), "there is plaintext, and no event for it");
    let (mut layer, mut wire) = agreed();
    wire.peer_sends(b"hello");
    wire.peer_closes();
    assert_eq!(read(&mut layer, &mut wire, 99).unwrap(), b"hello");
    assert!(!layer.short_read_drains(), "there is the end, and no event for it");
}

#[test]
fn plaintext_comes_in_pieces_as_small_as_the_reader_likes() {
    let (mut layer, mut wire) = agreed();
    wire.peer_sends(b"hello");
    wire.peer_closes();
    for byte in b"hello" {
        assert_eq!(read(&mut layer, &mut wire, 1).unwrap(), [*byte]);
        assert!(!layer.short_read_drains(), "there is more, and no event for it");
    }
    assert_eq!(read(&mut layer, &mut wire, 1).unwrap(), b"");
    assert!(!layer.is_truncated() && layer.is_open_below());
    wire.has_ended = true;
    assert_eq!(read(&mut layer, &mut wire, 1).unwrap(), b"");
    assert!(!layer.is_open_below());
}

#[test]
fn a_record_that_comes_in_single_bytes_is_one() {
    let (mut layer, mut wire) = agreed();
    wire.peer_sends(b"hello");
    let mut records = std::mem::take(&mut wire.inbound);
    let last = records.pop_back().unwrap();
    for byte in records {
        wire.inbound.push_back(byte);
        blocks(read(&mut layer, &mut wire, 100));
        assert!(layer.take_stirred().received);
    }
    wire.inbound.push_back(last);
    assert_eq!(read(&mut layer, &mut wire, 100).unwrap(), b"hello");
}

#[test]
fn what_comes_before_a_fault_is_good_and_there_is_no_clean_end_behind_it() {
    let (mut layer, mut wire) = agreed();
    wire.peer_sends(b"good");
    wire.inbound.extend(b"bad");
    assert_eq!(read(&mut layer, &mut wire, 2).unwrap(), b"go");
    let written = wire.written;
    assert_eq!(layer.shutdown_write(&mut wire).unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(!wire.is_shut && wire.written == written, "no close_notify");
    assert_eq!(read(&mut layer, &mut wire, 9).unwrap(), b"od");
    assert_eq!(read(&mut layer, &mut wire, 9).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(write(&mut layer, &mut wire, b"?").unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn answers_to_key_updates_wait_for_room_and_are_bounded() {
    let (mut layer, mut wire) = agreed();
    wire.room = 0;
    for _ in 0..32 {
        wire.peer_updates_key();
    }
    blocks(read(&mut layer, &mut wire, 9));
    assert_eq!(layer.unsent(), 32 * 5);
    wire.peer_updates_key();
    assert_eq!(read(&mut layer, &mut wire, 9).unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(layer.unsent() < 33 * 5 + 5, "and the alert");
}

#[test]
fn key_updates_in_both_directions_lose_nothing() {
    let (mut layer, mut wire) = agreed();
    for round in 0..100_u8 {
        wire.peer_updates_key();
        wire.peer_sends(&[round]);
        assert_eq!(read(&mut layer, &mut wire, 9).unwrap(), [round]);
        write(&mut layer, &mut wire, &[round]).unwrap();
        wire.peer_acts();
        assert_eq!(wire.opened.pop(), Some(round));
    }
}

#[test]
fn nothing_follows_close_notify_but_fin() {
    // CloseNotify has 4 bytes.
    for room in 0..4 {
        let (mut layer, mut wire) = agreed();
        wire.room = room;
        blocks(layer.shutdown_write(&mut wire));
        assert!(!wire.is_shut);
        wire.peer_updates_key();
        blocks(read(&mut layer, &mut wire, 9));
        assert_eq!(layer.unsent(), 4 - room);
        wire.room = usize::MAX;
        assert_eq!(write(&mut layer, &mut wire, b"?").unwrap_err().kind(), ErrorKind::BrokenPipe);
        layer.shutdown_write(&mut wire).unwrap();
        assert!(wire.is_shut);
        wire.peer_acts();
        assert!(wire.peer.has_peer_closed() && wire.outbound.is_empty());
    }
}

#[test]
fn fin_alone_truncates_and_so_does_fin_in_the_middle_of_a_record() {
    for is_cut in [false, true] {
        let (mut layer, mut wire) = agreed();
        wire.peer_sends(b"whole");
        if is_cut {
            wire.peer_sends(b"cut");
            wire.inbound.pop_back();
        }
        wire.has_ended = true;
        assert_eq!(read(&mut layer, &mut wire, 99).unwrap(), b"whole");
        assert_eq!(read(&mut layer, &mut wire, 99).unwrap(), b"");
        assert!(layer.is_truncated());
    }
}

#[test]
fn who_ends_in_the_handshake_has_not_ended_a_stream() {
    let mut layer = Layer::new(Box::new(ToySession::server(ToyTls::new())), &Rc::<Scratch>::default())
        .expect("it begins");
    let mut wire = Wire::new();
    assert!(!layer.handshake(&mut wire).unwrap());
    wire.has_ended = true;
    assert_eq!(layer.handshake(&mut wire).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_handshake_does_not_wait_for_a_peer_that_cannot_be_told_anything() {
    let mut layer = Layer::new(Box::new(ToySession::server(ToyTls::new())), &Rc::<Scratch>::default())
        .expect("it begins");
    let mut wire = Wire::new();
    wire.peer_acts();
    wire.fault = Some(ErrorKind::OutOfMemory);
    assert_eq!(layer.handshake(&mut wire).unwrap_err().kind(), ErrorKind::OutOfMemory);
}

/// What is said to be lost, when so many of the bytes that were written are not acknowledged.
fn undelivered(layer: &Layer, wire: &mut Wire, unacknowledged: usize) -> usize {
    wire.acknowledged = wire.written - unacknowledged;
    layer.undelivered(layer.unacknowledged(wire).unwrap_or(0))
}

#[test]
fn of_a_record_of_which_a_byte_is_not_acknowledged_all_is_lost() {
    let (mut layer, mut wire) = agreed();
    assert_eq!(write(&mut layer, &mut wire, &[1; 100]).unwrap(), 100);
    assert_eq!(undelivered(&layer, &mut wire, 1), 100);
    assert_eq!(undelivered(&layer, &mut wire, 104), 100);
    assert_eq!(undelivered(&layer, &mut wire, 0), 0);
}

#[test]
fn a_record_that_later_writes_told_of_in_pieces_is_lost_as_a_whole() {
    let (mut layer, mut wire) = agreed();
    wire.room = 3;
    blocks(write(&mut layer, &mut wire, &[1; 100]));
    wire.room = usize::MAX;
    for _ in 0..10 {
        assert_eq!(write(&mut layer, &mut wire, &[1; 10]).unwrap(), 10);
    }
    assert_eq!(undelivered(&layer, &mut wire, 1), 100);
}

#[test]
fn what_waits_behind_a_record_is_not_taken_for_a_part_of_it_twice() {
    let (mut layer, mut wire) = agreed();
    assert_eq!(write(&mut layer, &mut wire, &[1; 3]).unwrap(), 3);
    wire.room = 0;
    wire.peer_updates_key();
    blocks(read(&mut layer, &mut wire, 9));
    assert_eq!(undelivered(&layer, &mut wire, 1), 3);
}

#[test]
fn an_end_behind_an_error_is_not_the_peers() {
    let (mut layer, mut wire) = agreed();
    wire.peer_updates_key();
    wire.fault = Some(ErrorKind::ConnectionReset);
    blocks(read(&mut layer, &mut wire, 9));
    // The system tells of an error once.
    (wire.fault, wire.has_ended) = (None, true);
    assert_eq!(read(&mut layer, &mut wire, 9).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!layer.is_truncated());
    assert_eq!(write(&mut layer, &mut wire, b"?").unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_end_that_came_with_the_last_bytes_is_still_to_be_read() {
    let (mut layer, mut wire) = agreed();
    wire.peer_sends(b"hello");
    wire.peer_closes();
    assert_eq!(read(&mut layer, &mut wire, 99).unwrap(), b"hello");
    assert!(!layer.short_read_drains(), "no event will come for it");
    assert_eq!(read(&mut layer, &mut wire, 99).unwrap(), b"");
}
