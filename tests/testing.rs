//! The test kit against real sockets: the same script, the same outcome.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    time::Duration,
};

use echoloop::{CloseReason, Config, Context, Input, Protocol, testing::Loop};
use util::{Running, eventually, expect_bytes};

/// Echoes, unless it is told something else.
struct Obedient;

impl Protocol for Obedient {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match input.take() {
            b"finish" => {
                cx.write(b"bye");
                cx.finish();
            }
            // What follows may have come together with it.
            bytes if bytes.starts_with(b"shutdown") => cx.shutdown_write(),
            b"abort" => cx.abort(),
            b"panic" => panic!("the test wants this"),
            b"much" => {
                cx.write(&[b'x'; MUCH]);
                cx.finish();
            }
            bytes => {
                cx.write(bytes);
            }
        }
    }
}

/// More than a socket takes at once.
const MUCH: usize = 9 << 20;

/// What the client does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(&'static [u8]),
    Expect(&'static [u8]),
    End,
    /// Nothing, until the server has closed.
    Wait,
}

/// What the client does last.
#[derive(Clone, Copy, Debug)]
enum Last {
    ReadToEnd,
    Close,
    Reset,
}

/// How it ended, for both sides.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// How many bytes came in the end, and whether FIN or a reset did behind them.
    read: Option<(usize, bool)>,
    closed: Vec<(CloseReason, u64)>,
    panics: u64,
    bytes_sent: u64,
}

/// Deadlines that are only for the scripts that wait for them: a slow machine does not matter to the others.
fn config(script: &[Step]) -> Config {
    let waits = script.iter().any(|step| matches!(step, Step::Wait));
    let silence = Duration::from_millis(if waits { 200 } else { 60_000 });
    let mut config = Config::default();
    config.linger_silence_timeout = Some(silence);
    config.linger_timeout = Some(10 * silence);
    config.idle_timeout = Some(10 * silence);
    config.linger_limit_bytes = 100;
    config.read_buffer_bytes = 200;
    config
}

/// Longer than all of them.
const LONG: Duration = Duration::from_secs(3600);

fn in_the_kit(script: &[Step], last: Last) -> Outcome {
    let net = Loop::with_config(config(script), |_| Some(Obedient));
    let client = net.connect();
    for &step in script {
        match step {
            Step::Send(bytes) => client.send(bytes),
            Step::Expect(bytes) => assert_eq!(client.read(bytes.len()), bytes),
            Step::End => client.end(),
            Step::Wait => net.advance(LONG),
        }
    }
    let read = match last {
        Last::ReadToEnd => {
            let bytes = client.received().len();
            assert!(client.has_fin() || client.was_reset());
            Some((bytes, client.has_fin()))
        }
        Last::Close => {
            client.close();
            None
        }
        Last::Reset => {
            client.reset();
            None
        }
    };
    net.advance(LONG);
    let stats = net.stats();
    assert_eq!(stats.open, 0);
    let closed = stats.close_reasons().collect();
    Outcome { read, closed, panics: stats.panics, bytes_sent: stats.bytes_sent }
}

fn on_sockets(script: &[Step], last: Last) -> Outcome {
    let server = Running::start(config(script), &["127.0.0.1:0"], |_| Some(Obedient));
    let mut client = server.connect();
    for &step in script {
        match step {
            // It may be told here already that the server is gone.
            Step::Send(bytes) => drop(client.write_all(bytes)),
            Step::Expect(bytes) => expect_bytes(&client, bytes),
            Step::End => client.shutdown(Shutdown::Write).unwrap(),
            Step::Wait => eventually("the server has closed", || server.stats().closed_total() == 1),
        }
    }
    let read = match last {
        Last::ReadToEnd => {
            let mut bytes = Vec::new();
            let has_fin = match client.read_to_end(&mut bytes) {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
                Err(error) => panic!("{error}"),
            };
            Some((bytes.len(), has_fin))
        }
        Last::Close => {
            drop(client);
            None
        }
        Last::Reset => {
            util::reset(client);
            None
        }
    };
    eventually("the server has closed", || server.stats().closed_total() == 1);
    let stats = server.drain();
    let closed = stats.close_reasons().collect();
    Outcome { read, closed, panics: stats.panics, bytes_sent: stats.bytes_sent }
}

#[test]
fn a_script_ends_in_the_kit_as_it_ends_on_sockets() {
    use Step::{End, Expect, Send, Wait};
    let scripts: [(&[Step], Last, CloseReason); 13] = [
        (&[End], Last::ReadToEnd, CloseReason::Peer),
        (&[Send(b"a"), Expect(b"a"), Send(b"bcd"), End], Last::ReadToEnd, CloseReason::Peer),
        (&[Send(b"a"), Expect(b"a")], Last::Close, CloseReason::Peer),
        (&[Send(b"a"), Expect(b"a")], Last::Reset, CloseReason::Reset),
        (&[Send(b"finish"), Expect(b"bye"), End], Last::ReadToEnd, CloseReason::Finished),
        (&[Send(b"finish"), Expect(b"bye"), Wait], Last::ReadToEnd, CloseReason::LingerSilence),
        (
            &[Send(b"finish"), Expect(b"bye"), Wait, Send(b"late")],
            Last::ReadToEnd,
            CloseReason::LingerSilence,
        ),
        (&[Send(b"finish"), Expect(b"bye"), Send(&[0; 900])], Last::ReadToEnd, CloseReason::LingerBytes),
        (&[Send(b"shutdown"), Send(b"abc"), End], Last::ReadToEnd, CloseReason::Finished),
        (&[Send(b"abort")], Last::ReadToEnd, CloseReason::Aborted),
        (&[Send(b"panic")], Last::ReadToEnd, CloseReason::Panicked),
        (&[Send(b"much"), End], Last::ReadToEnd, CloseReason::Finished),
        (&[Send(b"ab"), Expect(b"ab"), Wait], Last::ReadToEnd, CloseReason::LingerSilence),
    ];
    for (script, last, reason) in scripts {
        let kit = in_the_kit(script, last);
        assert_eq!(kit.closed, [(reason, 1)], "{script:?}");
        assert_eq!(kit, on_sockets(script, last), "{script:?}, then {last:?}");
    }
}
