//! Those that send without end leave room for those that ask now and then.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test")]

mod util;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use echoloop::{CloseReason, Config, Context, Input, Protocol};
use util::{Running, connect, eventually, finish, pattern, ping};

const PINGERS: usize = 100;
const ROUNDS: usize = 50;

/// A client that sends for ever, and reads its echo on another thread.
struct Hog {
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    reader: JoinHandle<()>,
}

impl Hog {
    fn start(address: SocketAddr, seed: u64) -> Self {
        let stream = connect(address);
        let block = Arc::new(pattern(seed, 100_003));
        let (stop, echoed) = (Arc::default(), Arc::default());
        let sender = {
            let (stream, block, stop) = (stream.try_clone().unwrap(), Arc::clone(&block), Arc::clone(&stop));
            thread::spawn(move || send_until(&stop, &stream, &block))
        };
        let reader = {
            let echoed = Arc::clone(&echoed);
            thread::spawn(move || check_echo(&stream, &block, &echoed))
        };
        Self { stop, echoed, sender, reader }
    }

    fn echoed(&self) -> u64 {
        self.echoed.load(SeqCst)
    }

    /// Ends in order: all that was sent has come back.
    fn end(self) {
        self.stop.store(true, SeqCst);
        let sent = self.sender.join().unwrap();
        self.reader.join().unwrap();
        assert_eq!(self.echoed.load(SeqCst), sent);
    }
}

fn send_until(stop: &AtomicBool, mut stream: &TcpStream, block: &[u8]) -> u64 {
    let mut sent = 0;
    while !stop.load(SeqCst) {
        stream.write_all(block).unwrap();
        sent += block.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    sent
}

fn check_echo(mut stream: &TcpStream, block: &[u8], echoed: &AtomicU64) {
    let mut received = vec![0; block.len()];
    let mut length = 0;
    loop {
        // At most to the end of the block.
        let n = stream.read(&mut received[length..]).unwrap();
        if n == 0 {
            assert_eq!(length, 0, "whole blocks were sent");
            return;
        }
        length += n;
        echoed.fetch_add(n as u64, SeqCst);
        if length == block.len() {
            assert!(received == block, "the echo differs");
            length = 0;
        }
    }
}

/// In every round all pingers are served, and all hogs make progress.
fn pingers_are_served_beside_hogs(hogs: usize) {
    let server = Running::echo(Config::default());
    let hogs: Vec<Hog> = (0..hogs).map(|n| Hog::start(server.address(), n as u64)).collect();
    let pingers: Vec<TcpStream> = (0..PINGERS).map(|_| server.connect()).collect();
    for round in 0..ROUNDS {
        let before: Vec<u64> = hogs.iter().map(Hog::echoed).collect();
        let question = pattern(round as u64, 64);
        for mut pinger in &pingers {
            pinger.write_all(&question).unwrap();
        }
        for mut pinger in &pingers {
            let mut answer = [0; 64];
            pinger.read_exact(&mut answer).expect("every pinger is served");
            assert_eq!(answer[..], question);
        }
        eventually("every hog makes progress", || {
            hogs.iter().zip(&before).all(|(hog, &before)| hog.echoed() > before)
        });
    }
    for pinger in &pingers {
        assert!(finish(pinger).is_empty());
    }
    let ended = PINGERS + hogs.len();
    hogs.into_iter().for_each(Hog::end);
    server.wait_until_idle();
    let stats = server.drain();
    assert_eq!(stats.closed(CloseReason::Peer), ended as u64, "{stats}");
    assert_eq!(stats.bytes_sent, stats.bytes_received, "{stats}");
}

#[test]
fn a_hundred_pingers_are_served_beside_one_hog() {
    pingers_are_served_beside_hogs(1);
}

#[test]
fn a_hundred_pingers_are_served_beside_four_hogs() {
    pingers_are_served_beside_hogs(4);
}

/// Echo that notes the most that it was handed before the loop looked for events again.
struct Metered {
    turn: Option<Instant>,
    in_turn: usize,
    most: Arc<Mutex<usize>>,
}

impl Protocol for Metered {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if self.turn != Some(cx.now()) {
            (self.turn, self.in_turn) = (Some(cx.now()), 0);
        }
        self.in_turn += input.bytes().len();
        let mut most = self.most.lock().unwrap();
        *most = most.max(self.in_turn);
        cx.forward(input);
    }
}

#[test]
fn a_hog_gets_no_more_than_its_budget_in_a_turn() {
    let mut config = Config::default();
    config.read_buffer_bytes = 1 << 10;
    config.turn_budget_bytes = 8 << 10;
    let budget = config.turn_budget_bytes;
    let most = Arc::new(Mutex::new(0));
    let noted = Arc::clone(&most);
    let server = Running::start(config, &["127.0.0.1:0"], move |_| {
        Some(Metered { turn: None, in_turn: 0, most: Arc::clone(&noted) })
    });
    let hog = Hog::start(server.address(), 9);
    let pinger = server.connect();
    for _ in 0..ROUNDS {
        ping(&pinger, b"and me?");
    }
    eventually("the hog has had many turns", || hog.echoed() > 100 * budget as u64);
    hog.end();
    let most = *most.lock().unwrap();
    assert!(most <= budget, "{most} of {budget} bytes in one turn");
    assert!(most > budget / 4, "{most} bytes: the hog was never held back, so this shows nothing");
}
