//! Relays on the test kit: no byte, no end and no failure is lost between the two, whatever comes in between.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{cell::Cell, io::ErrorKind, rc::Rc, time::Duration};

use echoloop::{
    CloseReason, Config, ConnectionId, Context, Echo, Input, Origin, Protocol,
    framing::{Framed, FramedProtocol, Lines},
    testing::{Client, Loop},
};

/// Consumes nothing, and does what messages say.
#[derive(Debug, Default)]
struct Side {
    /// With whom it asks to be relayed when input comes.
    with: Option<ConnectionId>,
    /// It does not finish at the end of input.
    stays: bool,
}

#[derive(Debug)]
enum Order {
    Relay(ConnectionId),
    RelaySoon(ConnectionId, Duration),
    Write(usize),
}

impl Protocol for Side {
    type Message = Order;

    fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, Order>) {
        if let Some(with) = self.with {
            cx.relay(with);
        }
    }

    fn on_message(&mut self, order: Order, cx: &mut Context<'_, Order>) {
        match order {
            Order::Relay(with) => cx.relay(with),
            Order::RelaySoon(with, delay) => {
                self.with = Some(with);
                cx.set_timer(0, delay);
            }
            Order::Write(n) => _ = cx.write(&vec![b'w'; n]),
        }
    }

    fn on_timeout(&mut self, which: echoloop::Timeout, cx: &mut Context<'_, Order>) {
        match (which, self.with) {
            (echoloop::Timeout::Timer(_), Some(with)) => cx.relay(with),
            _ => cx.finish(),
        }
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, Order>) {
        if !self.stays {
            cx.finish();
        }
    }
}

fn sides() -> Loop<'static, Side> {
    Loop::new(|_| Some(Side::default()))
}

/// Two that are relayed. The first one does not read, and so many bytes wait for it in its own buffer.
fn pair<'f>(net: &Loop<'f, Side>, buffer: usize) -> (Client<'f, Side>, Client<'f, Side>) {
    let one = net.client().buffer_bytes(buffer).stopped().connect();
    let other = net.connect();
    other.message(Order::Relay(one.id().unwrap()));
    (one, other)
}

#[test]
fn a_relay_with_one_whose_slot_is_no_more_is_broken() {
    let net = sides();
    let many: Vec<_> = (0..300).map(|_| net.connect()).collect();
    let gone = many[299].id().unwrap();
    many.iter().for_each(Client::end);
    let one = net.connect();
    one.message(Order::Relay(gone));
    assert_eq!(one.close_reason(), Some(CloseReason::RelayBroken));
}

#[test]
fn as_much_as_the_input_limit_is_passed_on_when_a_relay_begins() {
    let first: Rc<Cell<Option<ConnectionId>>> = Rc::default();
    let with = Rc::clone(&first);
    let net = Loop::new(move |_| Some(Side { with: with.get(), ..Side::default() }));
    let one = net.connect();
    first.set(one.id());
    let other = net.connect();
    other.send(vec![7; Config::default().input_limit_bytes]);
    assert_eq!((one.received().len(), other.close_reason()), (64 << 10, None));
}

#[test]
fn what_was_left_is_not_charged_to_the_queue_limit() {
    let mut config = Config::default();
    config.queue_limit_bytes = config.high_water_bytes;
    let net = Loop::with_config(config, |_| Some(Side::default()));
    let one = net.client().buffer_bytes(1000).stopped().connect();
    one.message(Order::Write(1010));
    let other = net.connect();
    other.send(vec![b'r'; (64 << 10) - 1]);
    other.message(Order::Relay(one.id().unwrap()));
    assert_eq!((one.close_reason(), other.close_reason()), (None, None));
    one.resume_reading();
    assert_eq!(one.received().len(), 1010 + (64 << 10) - 1);
}

#[test]
fn what_was_left_at_the_end_of_input_is_passed_on_by_a_later_relay() {
    let net = Loop::new(|_| Some(Side { stays: true, ..Side::default() }));
    let other = net.connect();
    other.send("request");
    other.end();
    let one = net.connect();
    one.message(Order::Relay(other.id().unwrap()));
    assert_eq!((one.received_text(), one.has_fin()), ("request".into(), true));
}

#[test]
fn a_pair_is_not_idle_while_one_has_yet_to_receive() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(30));
    let net = Loop::with_config(config, |_| Some(Side::default()));
    let (one, other) = pair(&net, 10);
    other.send(vec![b'q'; 1000]);
    net.advance(Duration::from_secs(31));
    assert!(!other.has_fin());
    one.resume_reading();
    one.send("answer");
    assert_eq!(other.received_text(), "answer");
    net.advance(Duration::from_secs(30));
    assert!(one.has_fin() && other.has_fin());
}

#[test]
fn a_relay_that_begins_with_the_idle_deadline_is_activity() {
    let mut config = Config::default();
    config.idle_timeout = Some(Duration::from_secs(30));
    let net = Loop::with_config(config, |_| Some(Side::default()));
    let (one, other) = (net.connect(), net.connect());
    other.message(Order::RelaySoon(one.id().unwrap(), Duration::from_secs(30)));
    net.advance(Duration::from_secs(29));
    one.message(Order::Write(1));
    net.advance(Duration::from_secs(1));
    other.send("hello");
    assert_eq!(one.received_text(), "whello");
}

#[test]
fn a_drain_waits_for_who_has_yet_to_receive() {
    let net = sides();
    let (one, other) = pair(&net, 10);
    other.send(vec![b'q'; 1000]);
    net.drain();
    net.advance(Duration::from_secs(1));
    assert!(!other.has_fin());
    assert_eq!(one.read(2000).len(), 1000);
    one.send("answer");
    assert_eq!(other.received_text(), "answer");
}

#[test]
fn a_drain_does_not_end_a_stream_in_its_middle() {
    let net = sides();
    let (one, other) = pair(&net, 100_000);
    other.send(vec![b'd'; 1 << 20]);
    net.drain();
    let mut received = 0;
    for _ in 0..20 {
        received += one.read(10_000).len();
        net.advance(Duration::from_secs(1));
    }
    assert!(!one.has_fin());
    one.resume_reading();
    received += one.received().len();
    net.advance(Duration::from_secs(1));
    assert_eq!((received, one.has_fin(), one.was_reset()), (1 << 20, true, false));
}

#[test]
fn a_stream_that_still_flows_at_the_drain_deadline_is_reset() {
    let net = sides();
    let (one, other) = pair(&net, 1000);
    other.send(vec![b'd'; 1 << 20]);
    net.drain();
    for _ in 0..30 {
        let _ = one.read(1000);
        net.advance(Duration::from_secs(1));
    }
    assert!(one.was_reset() && !one.has_fin());
    assert_eq!(one.close_reason(), Some(CloseReason::DrainTimeout));
}

#[test]
fn a_pair_that_only_lingers_at_the_drain_deadline_is_not_cut_off() {
    let mut config = Config::default();
    config.linger_silence_timeout = None;
    let net = Loop::with_config(config, |_| Some(Side::default()));
    let (one, other) = pair(&net, 10);
    net.drain();
    net.advance(Duration::from_secs(1));
    assert!(one.has_fin() && other.has_fin());
    net.advance(Duration::from_secs(40));
    assert_eq!(one.close_reason(), Some(CloseReason::LingerTimeout));
    assert_eq!(other.close_reason(), Some(CloseReason::LingerTimeout));
}

/// Asks for a relay in its first frame.
struct Tunnel {
    lines: Lines,
    with: Option<ConnectionId>,
    at_eof: bool,
}

impl FramedProtocol for Tunnel {
    type Framing = Lines;
    type Message = ();

    fn framing(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn on_frame(&mut self, _: &[u8], cx: &mut Context<'_>) {
        if let Some(with) = self.with.filter(|_| !self.at_eof) {
            cx.relay(with);
        }
    }

    fn on_eof(&mut self, _: &[u8], cx: &mut Context<'_>) {
        match self.with {
            Some(with) if self.at_eof => cx.relay(with),
            _ => cx.finish(),
        }
    }
}

/// What comes out of a tunnel into which these pieces are sent, and the end of it.
fn tunnel(pieces: &[&[u8]], at_eof: bool) -> Vec<u8> {
    let first: Rc<Cell<Option<ConnectionId>>> = Rc::default();
    let with = Rc::clone(&first);
    let net =
        Loop::new(move |_| Some(Framed::new(Tunnel { lines: Lines::new(20), with: with.get(), at_eof })));
    let one = net.connect();
    first.set(one.id());
    let other = net.connect();
    pieces.iter().for_each(|piece| other.send(piece));
    other.end();
    assert!(one.has_fin() && !one.was_reset());
    one.received()
}

#[test]
fn a_frame_that_asks_for_a_relay_is_the_last_however_the_stream_is_cut() {
    let no_frame = [0x16; 100];
    let whole = [b"CONNECT a\nx\ny\nz".as_slice(), &no_frame].concat();
    let behind = whole[10..].to_vec();
    assert_eq!(tunnel(&[&whole[..10], &behind], false), behind);
    assert_eq!(tunnel(&[&whole], false), behind);
}

#[test]
fn a_frame_that_was_begun_is_passed_on_by_a_relay_at_the_end_of_input() {
    assert_eq!(tunnel(&[b"a\nbeg", b"un"], true), b"begun");
}

/// Dials for its client, which waits.
struct Dialer(Lines);

impl FramedProtocol for Dialer {
    type Framing = Lines;
    type Message = ();

    fn framing(&mut self) -> &mut Lines {
        &mut self.0
    }

    fn on_frame(&mut self, _: &[u8], cx: &mut Context<'_>) {
        cx.pause_reading();
        cx.connect("192.0.2.1:80".parse().unwrap(), 7).unwrap();
    }

    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        cx.write(format!("{label}: {reason}\n").as_bytes());
        cx.finish();
    }
}

#[test]
fn a_framed_protocol_is_told_that_its_connection_was_not_made() {
    let net = Loop::new(|_| Some(Framed::new(Dialer(Lines::new(80)))));
    let client = net.connect();
    client.send("go\n");
    net.next_connect().unwrap().refuse(ErrorKind::ConnectionRefused);
    assert_eq!(client.received_text(), "7: connect failed: connection refused\n");
    assert!(client.has_fin());
}

/// One of the sides of a proxy whose upstream side panics as soon as it is made.
enum Unlucky {
    Client,
    Upstream,
}

impl Protocol for Unlucky {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Client => cx.connect("192.0.2.1:80".parse().unwrap(), 0).unwrap(),
            Self::Upstream => panic!("the test wants this"),
        }
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        cx.write(reason.name().as_bytes());
    }
}

#[test]
fn who_asked_for_a_connection_is_told_that_its_protocol_panicked_at_once() {
    let net = Loop::new(|peer| {
        Some(if matches!(peer.origin, Origin::Connect(_)) { Unlucky::Upstream } else { Unlucky::Client })
    });
    let client = net.connect();
    let _ = net.next_connect().unwrap().accept();
    assert_eq!(client.received_text(), "panicked");
}

#[test]
fn any_refusal_is_a_failed_connection() {
    let net = Loop::new(|_| Some(Echo));
    net.handle().connect("192.0.2.1:80".parse().unwrap(), 7).unwrap();
    net.run();
    net.next_connect().unwrap().refuse(ErrorKind::NotConnected);
    assert_eq!(net.stats().closed(CloseReason::ConnectFailed(ErrorKind::NotConnected)), 1);
}

/// Writes as long as it can, in large pieces.
struct Pump {
    calls: usize,
    stopped_at: Option<usize>,
}

impl Protocol for Pump {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(&vec![b'p'; 256 << 10]);
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
        self.stopped_at.get_or_insert(self.calls);
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.calls += 1;
        if self.stopped_at.is_none() && self.calls < 300 {
            cx.write(&vec![b'p'; 256 << 10]);
        }
    }
}

#[test]
fn a_protocol_that_writes_more_than_a_turn_sends_still_gets_what_comes() {
    let net = Loop::new(|_| Some(Pump { calls: 0, stopped_at: None }));
    let client = net.client().stopped().connect();
    client.send("stop");
    client.resume_reading();
    net.run();
    let stopped_at = client.protocol(|pump| pump.stopped_at).unwrap();
    assert!(stopped_at.is_some_and(|calls| calls < 10), "{stopped_at:?}");
}
