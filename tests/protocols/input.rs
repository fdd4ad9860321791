//! Input that waits: paused reading, unconsumed bytes, and the limit on them.

use std::{
    io::Write,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
};

use echoloop::{CloseReason, Config, ConnectionId, Context, Input, Protocol, Timeout};

use crate::{
    ANYWHERE, ms,
    util::{DEADLINE, Running, eventually, expect_bytes, finish, ping, read_to_end, read_to_reset},
};

/// Echo that pauses after each piece of input until it is told to go on.
struct Pauses {
    opened: Sender<ConnectionId>,
    calls: Arc<AtomicUsize>,
}

impl Protocol for Pauses {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.opened.send(cx.id()).unwrap();
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes().starts_with(b"#") {
            cx.forward(input);
            return;
        }
        self.calls.fetch_add(1, SeqCst);
        cx.forward(input);
        cx.pause_reading();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

#[test]
fn input_waits_while_reading_is_paused_and_so_does_its_end() {
    let (opened, ids) = channel();
    let calls = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&calls);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        Some(Pauses { opened: opened.clone(), calls: Arc::clone(&counting) })
    });
    let mut client = server.connect();
    let id = ids.recv_timeout(DEADLINE).unwrap();
    let neighbour = server.connect();
    // The loop has had many turns since, and would have noticed anything.
    let pass_time = || (0..20).for_each(|_| ping(&neighbour, b"#"));
    ping(&client, b"first");
    client.write_all(b"second").unwrap();
    pass_time();
    assert_eq!(calls.load(SeqCst), 1, "the second piece waits");
    server.handle.send(id, ()).unwrap();
    expect_bytes(&client, b"second");
    client.write_all(b"third").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    pass_time();
    assert_eq!((calls.load(SeqCst), server.stats().open), (2, 2), "so do the third and the end");
    server.handle.send(id, ()).unwrap();
    expect_bytes(&client, b"third");
    pass_time();
    assert_eq!((calls.load(SeqCst), server.stats().open), (3, 2), "the end waits still");
    server.handle.send(id, ()).unwrap();
    assert!(read_to_end(&client).is_empty());
    assert!(finish(&neighbour).is_empty());
    assert_eq!(server.last_stats().closed(CloseReason::Peer), 2);
}

/// Echoes one byte at a time and pauses in between.
struct OneByOne;

impl Protocol for OneByOne {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(&input.bytes()[..1]);
        input.consume(1);
        cx.pause_reading();
        cx.set_timer(0, ms(1));
    }

    fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

#[test]
fn resuming_hands_over_what_was_left_unconsumed() {
    let server = Running::start(Config::default(), ANYWHERE, |_| Some(OneByOne));
    let mut client = server.connect();
    client.write_all(b"no more bytes come than these").unwrap();
    expect_bytes(&client, b"no more bytes come than these");
    client.write_all(b"and then the end").unwrap();
    assert_eq!(finish(&client), b"and then the end");
    assert_eq!(server.last_stats().closed(CloseReason::Peer), 1);
}

/// Echoes whole lines, and tells what it is handed; at the end, the rest.
struct Lines(Sender<Vec<u8>>);

impl Protocol for Lines {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.send(input.bytes().to_vec()).unwrap();
        while let Some(end) = input.bytes().iter().position(|&byte| byte == b'\n') {
            cx.write(&input.bytes()[..=end]);
            input.consume(end + 1);
        }
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(b"rest: ");
        cx.forward(rest);
        cx.finish();
    }
}

#[test]
fn unconsumed_input_comes_again_with_more_behind_it() {
    let (tell, told) = channel();
    let server = Running::start(Config::default(), ANYWHERE, move |_| Some(Lines(tell.clone())));
    let mut client = server.connect();
    for (send, expected) in [
        ("a", "a"),
        ("bc", "abc"),
        ("d\ne", "abcd\ne"),
        ("f", "ef"),
        ("\n\ng\n", "ef\n\ng\n"),
        ("h", "h"),
        ("i", "hi"),
    ] {
        client.write_all(send.as_bytes()).unwrap();
        let handed = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(String::from_utf8(handed).unwrap(), expected);
    }
    assert_eq!(finish(&client), b"abcd\nef\n\ng\nrest: hi");
    assert_eq!(server.last_stats().closed(CloseReason::Peer), 1);
}

#[test]
fn input_left_unconsumed_up_to_the_limit_ends_the_connection() {
    const LIMIT: usize = 1000;
    let mut config = Config::default();
    config.input_limit_bytes = LIMIT;
    let (tell, _told) = channel();
    let server = Running::start(config, ANYWHERE, move |_| Some(Lines(tell.clone())));
    let (neighbour, mut client) = (server.connect(), server.connect());
    ping(&neighbour, b"before\n");
    let mut line = vec![b'x'; LIMIT];
    line[LIMIT - 1] = b'\n';
    ping(&client, &line);
    line[LIMIT - 1] = b'x';
    client.write_all(&line[1..]).unwrap();
    eventually("it has come", || server.stats().bytes_received == (7 + 2 * LIMIT - 1) as u64);
    ping(&neighbour, b"meanwhile\n");
    assert_eq!(server.stats().open, 2, "one byte below the limit is fine");
    client.write_all(b"x").unwrap();
    read_to_reset(&client);
    ping(&neighbour, b"after\n");
    assert_eq!(finish(&neighbour), b"rest: ");
    let stats = server.last_stats();
    assert_eq!((stats.closed(CloseReason::InputLimit), stats.closed_total()), (1, 2), "{stats}");
}
