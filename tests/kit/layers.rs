//! Protocols that transform bytes for an inner one, written from outside the crate.

use std::time::Duration;

use echoloop::{
    CloseReason, Context, Ending, Flow, Input, Peer, Protocol, Reading, Timeout,
    framing::{Framed, FramedProtocol, Lines},
    testing::Loop,
};

const FLUSH: u64 = 1;
const FLUSH_AFTER: Duration = Duration::from_millis(100);
const RECORD_BYTES: usize = 5;
const END: u8 = 0xff;

/// Records, each with its length and its bytes inverted. What is not enough for one waits for a while. The end of either
/// direction is a record: without it a stream is not whole.
struct Records<P> {
    inner: P,
    plain: Vec<u8>,
    unsent: Vec<u8>,
    has_ended: bool,
}

impl<P: Protocol> Records<P> {
    fn new(inner: P) -> Self {
        Self { inner, plain: Vec::new(), unsent: Vec::new(), has_ended: false }
    }

    fn call(
        &mut self,
        cx: &mut Context<'_, P::Message>,
        callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
    ) {
        let mut requests = cx.inner_into(&mut self.unsent, |cx| callback(&mut self.inner, cx));
        if requests.take_relay().is_some() {
            cx.abort_because("relay refused");
        }
        match requests.ending {
            None => self.send_full_records(cx),
            Some(Ending::ShutdownWrite | Ending::Finish) => {
                self.send_all(cx);
                cx.write(&[END]);
            }
            Some(_) => {}
        }
        cx.request(requests);
    }

    fn send_full_records(&mut self, cx: &mut Context<'_, P::Message>) {
        while self.unsent.len() >= RECORD_BYTES {
            self.send_record(RECORD_BYTES, cx);
        }
        if !self.unsent.is_empty() && cx.timer_left(FLUSH).is_none() {
            cx.set_timer(FLUSH, FLUSH_AFTER);
        }
    }

    fn send_all(&mut self, cx: &mut Context<'_, P::Message>) {
        while !self.unsent.is_empty() {
            self.send_record(self.unsent.len().min(RECORD_BYTES), cx);
        }
    }

    fn send_record(&mut self, len: usize, cx: &mut Context<'_, P::Message>) {
        let record: Vec<u8> = self.unsent.drain(..len).map(|byte| !byte).collect();
        cx.write(&[u8::try_from(len).expect("it is small")]);
        cx.write(&record);
    }

    /// Decodes the records that are whole.
    fn decode(&mut self, input: &mut Input<'_>) {
        while let Some((&len, rest)) = input.bytes().split_first() {
            if len == END {
                self.has_ended = true;
                input.take();
                return;
            }
            let Some(record) = rest.get(..len.into()) else { return };
            self.plain.extend(record.iter().map(|byte| !byte));
            input.consume(1 + usize::from(len));
        }
    }
}

impl<P: Protocol> Protocol for Records<P> {
    type Message = P::Message;

    fn on_open(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |inner, cx| inner.on_open(cx));
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        self.decode(input);
        let plain = std::mem::take(&mut self.plain);
        let mut seen = Input::new(&plain);
        if !plain.is_empty() {
            self.call(cx, |inner, cx| inner.on_data(&mut seen, cx));
        }
        if self.has_ended {
            self.call(cx, |inner, cx| inner.on_eof(&mut seen, cx));
        }
        self.plain = plain[seen.consumed()..].to_vec();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        if !self.has_ended {
            cx.abort_because("truncated");
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |inner, cx| inner.on_writable(cx));
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, P::Message>) {
        match which.for_inner() {
            Some(which) => self.call(cx, |inner, cx| inner.on_timeout(which, cx)),
            None => self.send_all(cx),
        }
    }

    fn on_message(&mut self, message: P::Message, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |inner, cx| inner.on_message(message, cx));
    }

    fn on_connected(&mut self, label: u64, peer: &Peer<'_>, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |inner, cx| inner.on_connected(label, peer, cx));
    }

    fn on_drain(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |inner, cx| inner.on_drain(cx));
    }

    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |inner, cx| inner.on_close(reason, cx));
    }
}

/// `bytes` in records.
fn records(bytes: &[u8]) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let len = u8::try_from(piece.len()).expect("it is small");
        std::iter::once(len).chain(piece.iter().map(|byte| !byte)).collect::<Vec<u8>>()
    };
    bytes.chunks(RECORD_BYTES).flat_map(record).collect()
}

fn with_end(bytes: &[u8]) -> Vec<u8> {
    let mut all = records(bytes);
    all.push(END);
    all
}

/// Has a timer of the same key as the layer's, and asks for what its lines say.
struct Obedient(Lines);

impl FramedProtocol for Obedient {
    type Framing = Lines;
    type Message = &'static str;

    fn framing(&mut self) -> &mut Lines {
        &mut self.0
    }

    fn on_frame(&mut self, line: &[u8], cx: &mut Context<'_, &'static str>) {
        match line {
            b"timer" => cx.set_timer(FLUSH, Duration::from_secs(1)),
            b"left" => _ = writeln!(cx, "{:?} left", cx.timer_left(FLUSH)),
            b"cancel" => cx.cancel_timer(FLUSH),
            b"pause" => {
                cx.pause_reading();
                cx.set_timer(2, Duration::from_secs(2));
            }
            b"finish" => cx.finish(),
            b"abort" => cx.abort_because("wanted"),
            b"relay" => cx.relay(cx.id()),
            b"tell" => cx.send_all("told").expect("there is room"),
            line => _ = writeln!(cx, "{}", String::from_utf8_lossy(line)),
        }
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, &'static str>) {
        match which {
            Timeout::Timer(2) => cx.resume_reading(),
            Timeout::Timer(key) => _ = writeln!(cx, "timer {key}"),
            Timeout::Idle | Timeout::Inner(_) | _ => cx.finish(),
        }
    }

    fn on_message(&mut self, message: &'static str, cx: &mut Context<'_, &'static str>) {
        writeln!(cx, "{message}");
    }
}

type Stack = Records<Framed<Obedient>>;

fn net() -> Loop<'static, Stack> {
    Loop::new(|_| Some(Records::new(Framed::new(Obedient(Lines::new(80))))))
}

#[test]
fn however_the_stream_is_cut_the_inner_protocol_sees_the_same() {
    for chunk in 1..30 {
        let client = net().connect();
        client.send_in_chunks(with_end(b"one\ntwo\n\nthree and more\n"), chunk);
        assert_eq!(decoded(&client.received()), (b"one\ntwo\n\nthree and more\n".to_vec(), true));
        assert!(client.has_fin());
        client.end();
        assert_eq!(client.close_reason(), Some(CloseReason::Finished));
    }
}

/// What is in these records, and whether the last one is the end.
fn decoded(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        if len == END {
            assert_eq!(rest, b"");
            return (plain, true);
        }
        let (record, rest) = rest.split_at(len.into());
        plain.extend(record.iter().map(|byte| !byte));
        bytes = rest;
    }
    (plain, false)
}

#[test]
fn timers_of_layers_do_not_clash() {
    let net = net();
    let client = net.connect();
    client.send(records(b"timer\nx\nleft\n"));
    let mut timers = client.timers();
    timers.sort();
    assert_eq!(timers, [(FLUSH, FLUSH_AFTER), (FLUSH, Duration::from_secs(1))]);
    let before = decoded(&client.received()).0;
    net.advance(FLUSH_AFTER);
    let after = decoded(&client.received()).0;
    assert_eq!([before, after].concat(), b"x\nSome(1s) left\n");
    net.advance(Duration::from_secs(1));
    assert_eq!(decoded(&client.received()).0, b"timer 1\n");
    client.send(records(b"timer\ncancel\nx\nleft\n"));
    assert_eq!(client.timers(), [(FLUSH, FLUSH_AFTER)], "the layer's own is not touched");
    let before = decoded(&client.received()).0;
    net.advance(FLUSH_AFTER);
    assert_eq!([before, decoded(&client.received()).0].concat(), b"x\nNone left\n");
}

#[test]
fn what_an_inner_protocol_asks_for_is_done_or_refused() {
    let net = net();
    let (client, other) = (net.connect(), net.connect());
    client.send(records(b"tell\n"));
    assert_eq!(decoded(&other.received()).0, b"told\n");

    client.send(records(b"pause\nafter\nfinish\n"));
    net.advance(Duration::from_secs(1));
    assert_eq!(client.received(), b"");
    net.advance(Duration::from_secs(2));
    client.send(records(b"?\n"));
    assert_eq!(decoded(&client.received()), (b"after\n".to_vec(), true));
    assert!(client.has_fin());

    other.send(records(b"abort\n"));
    assert_eq!(other.close_reason(), Some(CloseReason::AbortedBecause("wanted".into())));
    let client = net.connect();
    client.send(records(b"relay\n"));
    assert_eq!(client.close_reason(), Some(CloseReason::AbortedBecause("relay refused".into())));
    let client = net.connect();
    client.send(records(b"cut\n"));
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::AbortedBecause("truncated".into())));
}

/// Fills its output, and goes on when there is room.
struct Flood {
    left: usize,
}

impl Flood {
    fn pour(&mut self, cx: &mut Context<'_>) {
        while self.left > 0 {
            self.left -= 1;
            if cx.write(&[7; 10]) != Flow::Open {
                return;
            }
        }
        cx.finish();
    }
}

impl Protocol for Flood {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.pour(cx);
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.pour(cx);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}

#[test]
fn an_inner_protocol_is_held_back_and_told_when_there_is_room() {
    let net = Loop::new(|_| Some(Records::new(Flood { left: 100_000 })));
    let client = net.client().buffer_bytes(1000).stopped().connect();
    assert!(client.queued() <= 80_000, "{}", client.queued());
    client.resume_reading();
    let (plain, has_end) = decoded(&client.received());
    assert!(plain.len() == 1_000_000 && has_end);
}

/// Passes all on as it is, to itself in the end.
struct Transparent<P>(P);

impl<P: Protocol> Protocol for Transparent<P> {
    type Message = P::Message;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        cx.write(b"<");
        let requests = cx.inner(|cx| self.0.on_data(input, cx));
        assert_eq!((requests.reading, requests.ending, requests.relay()), (None::<Reading>, None, None));
        cx.request(requests);
        cx.write(b">");
    }
}

/// Echoes, but not only.
struct Quoted;

impl Protocol for Quoted {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let mut copy = Input::new(b"[copied]");
        cx.forward(&mut copy);
        cx.forward(input);
    }
}

#[test]
fn what_an_inner_protocol_forwards_is_what_it_was_given() {
    let client = Loop::new(|_| Some(Transparent(Quoted))).connect();
    client.send("hello");
    assert_eq!(client.received_text(), "<[copied]hello>");
    let client = Loop::new(|_| Some(Transparent(Transparent(echoloop::Echo)))).connect();
    client.send("hello");
    assert_eq!(client.received_text(), "<<hello>>");
}
