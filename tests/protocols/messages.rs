//! Messages to connections by their ids.

use std::{
    collections::HashSet,
    io::Write,
    net::TcpStream,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use echoloop::{CloseReason, Config, ConnectionId, Context, Input, Protocol, SendError};

use crate::{
    ANYWHERE, KIB,
    util::{DEADLINE, Running, expect_bytes, finish},
};

/// Tells its id and writes the messages that it gets.
struct Writes(Sender<ConnectionId>);

impl Protocol for Writes {
    type Message = String;

    fn on_open(&mut self, cx: &mut Context<'_, String>) {
        self.0.send(cx.id()).unwrap();
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
        cx.forward(input);
    }

    fn on_message(&mut self, message: String, cx: &mut Context<'_, String>) {
        cx.write(message.as_bytes());
    }
}

fn start_writes(config: Config) -> (Running<Writes>, Receiver<ConnectionId>) {
    let (opened, ids) = channel();
    (Running::start(config, ANYWHERE, move |_| Some(Writes(opened.clone()))), ids)
}

#[test]
fn a_message_reaches_the_connection_that_it_is_for() {
    let (server, ids) = start_writes(Config::default());
    let clients: Vec<(TcpStream, ConnectionId)> =
        (0..20).map(|_| (server.connect(), ids.recv_timeout(DEADLINE).unwrap())).collect();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    thread::scope(|scope| {
        for sender in 0..3 {
            let (handle, clients) = (server.handle.clone(), &clients);
            scope.spawn(move || {
                let mut order: Vec<usize> = (0..clients.len()).collect();
                fastrand::Rng::with_seed(seed + sender).shuffle(&mut order);
                for n in order {
                    handle.send(clients[n].1, format!("[{n:02}]")).unwrap();
                }
            });
        }
    });
    for (n, (client, _)) in clients.iter().enumerate() {
        expect_bytes(client, format!("[{n:02}]").repeat(3).as_bytes());
        assert!(finish(client).is_empty(), "nothing that was for others");
    }
    let handle = server.handle.clone();
    let stats = server.last_stats();
    assert_eq!(stats.messages_undeliverable, 0);
    let (_, id) = clients[0];
    assert_eq!(handle.send(id, "?".to_owned()), Err(SendError::Closed("?".to_owned())));
}

#[test]
fn a_message_for_a_connection_that_is_gone_never_reaches_its_successor() {
    let (server, ids) = start_writes(Config::default());
    let gone = server.connect();
    let gone_id = ids.recv_timeout(DEADLINE).unwrap();
    assert!(finish(&gone).is_empty());
    server.wait_until_idle();
    let successor = server.connect();
    let id = ids.recv_timeout(DEADLINE).unwrap();
    assert_ne!(id, gone_id);
    server.handle.send(gone_id, "for the dead".to_owned()).unwrap();
    server.handle.send(id, "for the living".to_owned()).unwrap();
    expect_bytes(&successor, b"for the living");
    assert_eq!(server.stats().messages_undeliverable, 1);
    assert!(finish(&successor).is_empty());
    assert_eq!(server.last_stats().messages_undeliverable, 1);
}

/// Asks itself to write, many times at once.
struct AsksItself;

const REQUESTS: usize = 200;

impl Protocol for AsksItself {
    type Message = String;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
        input.take();
        for n in 0..REQUESTS {
            cx.handle().send(cx.id(), format!("[{n:03}]").repeat(600)).unwrap();
        }
    }

    fn on_message(&mut self, message: String, cx: &mut Context<'_, String>) {
        cx.write(message.as_bytes());
    }
}

#[test]
fn messages_are_written_in_their_order_beyond_the_budget_of_a_turn() {
    let mut config = Config::default();
    config.turn_budget_bytes = KIB;
    let server = Running::start(config, ANYWHERE, |_| Some(AsksItself));
    let mut client = server.connect();
    client.write_all(b"?").unwrap();
    let expected: String = (0..REQUESTS).map(|n| format!("[{n:03}]").repeat(600)).collect();
    expect_bytes(&client, expected.as_bytes());
    assert!(finish(&client).is_empty());
    assert_eq!(server.last_stats().messages_undeliverable, 0);
}

/// Sends what it hears to all others, as in a chat.
struct Chat(Arc<Mutex<HashSet<ConnectionId>>>, Option<ConnectionId>);

impl Protocol for Chat {
    type Message = Vec<u8>;

    fn on_open(&mut self, cx: &mut Context<'_, Vec<u8>>) {
        self.1 = Some(cx.id());
        self.0.lock().unwrap().insert(cx.id());
        cx.write(b"*");
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
        let said = input.take();
        for &id in self.0.lock().unwrap().iter().filter(|&&id| id != cx.id()) {
            cx.handle().send(id, said.to_vec()).unwrap();
        }
    }

    fn on_message(&mut self, said: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
        cx.write(&said);
    }

    fn on_close(&mut self, _: &CloseReason, _: &mut Context<'_, Vec<u8>>) {
        self.0.lock().unwrap().remove(&self.1.unwrap());
    }
}

#[test]
fn connections_can_talk_to_each_other_across_workers() {
    let mut config = Config::default();
    config.workers = 2;
    let present = Arc::default();
    let server = Running::start(config, ANYWHERE, move |_| Some(Chat(Arc::clone(&present), None)));
    let clients: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for client in &clients {
        expect_bytes(client, b"*");
    }
    for (n, mut speaker) in clients.iter().enumerate() {
        let said = format!("this is {n}");
        speaker.write_all(said.as_bytes()).unwrap();
        for (_, listener) in clients.iter().enumerate().filter(|&(other, _)| other != n) {
            expect_bytes(listener, said.as_bytes());
        }
    }
    for client in &clients {
        assert!(finish(client).is_empty(), "nobody hears himself");
    }
    assert_eq!(server.last_stats().messages_undeliverable, 0);
}
