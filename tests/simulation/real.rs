//! The fake kernel is like the real one: the same clients and protocols on both, and what the clients see is the same.

use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    rc::Rc,
    thread,
    time::Duration,
};

use echoloop::{Config, Server};

use super::{
    choices::Choices,
    client::{Manner, Seen},
    protocol::{Callback, Habit, Simulated},
    world::{Plan, World},
};

/// What a client sees of its conversation.
#[derive(Debug, PartialEq, Eq)]
struct Seeing {
    /// How many bytes came back, where that does not hang on how fast a reset is.
    received: Option<u64>,
    end: Seen,
}

fn seeing(received: u64, end: Seen) -> Seeing {
    Seeing { received: (end == Seen::Fin).then_some(received), end }
}

/// Reads of one byte, so that it does not matter how the stream is cut.
fn limits() -> Config {
    let mut config = Config::default();
    config.read_buffer_bytes = 1;
    config.set_high_water(64);
    config
}

fn on_the_fake(manner: Manner, habit: Habit, to_send: u64) -> Seeing {
    let mut plan = Plan::new(&Choices::seeded(1));
    plan.limits = limits();
    let (received, end) =
        World::<false>::converse(plan, manner, habit, to_send).expect("no invariant breaks");
    seeing(received, end)
}

/// The same client on a real socket.
fn on_the_real(address: SocketAddr, manner: Manner, to_send: u64) -> Seeing {
    let mut socket = TcpStream::connect(address).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let bytes: Vec<u8> = (0..to_send).map(|n| n.to_le_bytes()[0]).collect();
    if let Err(error) = socket.write_all(&bytes) {
        // An error is told once; a read after it would see an ordinary end.
        assert!(is_reset(&error), "{error}");
        return seeing(0, Seen::Reset);
    }
    let mut received = 0;
    let waited_for = if manner == Manner::Waiting { to_send } else { 0 };
    let mut end = read(&mut socket, &mut received, waited_for);
    let _ = socket.shutdown(Shutdown::Write);
    if end == Seen::Open {
        end = read(&mut socket, &mut received, u64::MAX);
    }
    seeing(received, end)
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

/// Reads up to `most` bytes in all, or to the end.
fn read(socket: &mut TcpStream, received: &mut u64, most: u64) -> Seen {
    let mut buffer = [0; 4096];
    while *received < most {
        match socket.read(&mut buffer) {
            Ok(0) => return Seen::Fin,
            Ok(n) => *received += n as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                assert!(is_reset(&error), "{error}");
                return Seen::Reset;
            }
        }
    }
    Seen::Open
}

#[test]
fn a_client_sees_the_same_of_the_fake_kernel_and_of_the_real_one() {
    super::protocol::hush_planned_panics();
    let habits = [
        Habit::Echo,
        Habit::FinishAfter(100),
        Habit::ShutdownAfter(100),
        Habit::AbortAfter(100),
        Habit::PanicAfter(100),
        Habit::Hesitant,
        Habit::Deferring,
        Habit::Piecewise,
        Habit::PanicIn(Callback::Open),
        Habit::PanicIn(Callback::Eof),
    ];
    for habit in habits {
        let server = Server::builder().config(limits()).bind(["127.0.0.1:0"]).expect("bind");
        let handle = server.handle();
        let address = server.local_addrs()[0].to_string().parse().expect("an IP address");
        let running = thread::spawn(move || {
            server
                .run(|_| Some(Simulated::<false>::new(habit, Rc::default(), 0, Rc::default())))
                .expect("run")
        });
        for manner in [Manner::Proper, Manner::LateReader, Manner::Waiting] {
            for to_send in [0, 1, 14, 99, 100, 101, 2000] {
                // One that waits for what never comes would wait for ever, on both.
                let all_comes_back = !matches!(habit, Habit::FinishAfter(_) | Habit::ShutdownAfter(_));
                if manner == Manner::Waiting && !all_comes_back {
                    continue;
                }
                let (fake, real) =
                    (on_the_fake(manner, habit, to_send), on_the_real(address, manner, to_send));
                // Wine says of some resets that the stream has ended.
                let is_wine = cfg!(windows) && env::var_os("WINEPREFIX").is_some();
                if is_wine && fake.end == Seen::Reset && real.end == Seen::Fin {
                    continue;
                }
                assert_eq!(fake, real, "{habit:?}, {manner:?}, {to_send} bytes");
            }
        }
        handle.drain();
        running.join().expect("the server does not panic");
    }
}
