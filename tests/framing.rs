//! Protocols in frames, over real sockets.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use echoloop::{
    CloseReason, Config, Context,
    framing::{Endian, FrameError, Framed, FramedProtocol, LengthDelimited, Lines, Width},
};
use util::{Running, eventually, finish, pattern, read_to_end};

const KIB: usize = 1 << 10;
const ANYWHERE: &[&str] = &["127.0.0.1:0"];

/// Answers each line with `reply_bytes`, and notes the most that it saw queued.
struct Generous {
    lines: Lines,
    reply_bytes: usize,
    answered: Arc<AtomicUsize>,
    most_queued: Arc<AtomicUsize>,
}

impl FramedProtocol for Generous {
    type Framing = Lines;
    type Message = ();

    fn framing(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn on_frame(&mut self, _: &[u8], cx: &mut Context<'_>) {
        cx.write(&vec![b'.'; self.reply_bytes]);
        self.answered.fetch_add(1, SeqCst);
        self.most_queued.fetch_max(cx.queued(), SeqCst);
    }

    fn on_frame_error(&mut self, error: FrameError, cx: &mut Context<'_>) {
        cx.write(format!("error: {error}").as_bytes());
    }
}

/// A server that answers lines of up to 100 bytes, with its `answered` and `most_queued`.
fn generous(reply_bytes: usize) -> (Running<Framed<Generous>>, [Arc<AtomicUsize>; 2]) {
    let [answered, most_queued]: [Arc<AtomicUsize>; 2] = Default::default();
    let seen = [Arc::clone(&answered), Arc::clone(&most_queued)];
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        let (answered, most_queued) = (Arc::clone(&answered), Arc::clone(&most_queued));
        Some(Framed::new(Generous { lines: Lines::new(100), reply_bytes, answered, most_queued }))
    });
    (server, seen)
}

#[test]
fn many_requests_of_a_peer_that_reads_late_queue_little_and_are_all_answered() {
    const REQUESTS: usize = 5000;
    const REPLY: usize = 10 * KIB;
    let (server, [answered, most_queued]) = generous(REPLY);
    let mut client = server.connect();
    client.write_all(&b"\n".repeat(REQUESTS)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    eventually("the server has begun to answer", || answered.load(SeqCst) > 0);
    assert!(answered.load(SeqCst) < REQUESTS);

    assert_eq!(read_to_end(&client).len(), REQUESTS * REPLY);
    assert_eq!(answered.load(SeqCst), REQUESTS);
    let (most, limit) = (most_queued.load(SeqCst), Config::default().high_water_bytes + REPLY);
    assert!(most < limit, "{most}");
    server.wait_until_idle();
    assert_eq!(server.drain().closed(CloseReason::Peer), 1);
}

#[test]
fn an_overlong_line_gets_the_replies_before_it_and_its_own_and_a_clean_end() {
    let (server, _) = generous(3);
    let mut client = server.connect();
    client.write_all(b"one\r\ntwo\n").unwrap();
    // More than a socket takes back without reading it: a close with input unread would reset the connection.
    client.write_all(&b"x".repeat(300 * KIB)).unwrap();
    assert_eq!(read_to_end(&client), b"......error: a frame is longer than 100 bytes");
    assert!(finish(&client).is_empty());
    server.wait_until_idle();
    let stats = server.drain();
    assert_eq!((stats.closed(CloseReason::Finished), stats.bytes_undelivered), (1, 0), "{stats}");
}

/// Sends every frame back.
struct EchoFrames(LengthDelimited);

impl FramedProtocol for EchoFrames {
    type Framing = LengthDelimited;
    type Message = ();

    fn framing(&mut self) -> &mut LengthDelimited {
        &mut self.0
    }

    fn on_frame(&mut self, frame: &[u8], cx: &mut Context<'_>) {
        self.0.write(frame, cx).unwrap();
    }
}

#[test]
fn frames_larger_than_any_buffer_come_back_whole() {
    const FRAME: usize = 300 * KIB;
    let mut config = Config::default();
    config.input_limit_bytes = FRAME + 4;
    let framing = LengthDelimited::new(Width::U32, Endian::Little, FRAME);
    let server = Running::start(config, ANYWHERE, move |_| Some(Framed::new(EchoFrames(framing))));
    let mut client = server.connect();
    let mut stream = Vec::new();
    for length in [FRAME, 0, 1, FRAME, 77] {
        framing.encode(&pattern(length as u64, length), &mut stream).unwrap();
        client.write_all(&stream).unwrap();
        let mut echo = vec![0; stream.len()];
        client.read_exact(&mut echo).unwrap();
        assert!(echo == stream, "the frame of {length} bytes differs");
        stream.clear();
    }
    assert!(finish(&client).is_empty());
}
