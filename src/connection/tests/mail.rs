//! What protocols ask of other connections.

use super::*;
use crate::handle::SendError;

/// A test's own behaviour for each callback that matters here.
struct Scripted {
    on_data: fn(&[u8], &mut Context<'_, String>),
    heard: Rc<RefCell<Vec<String>>>,
    on_full: Option<fn(&mut Context<'_, String>)>,
}

impl Protocol for Scripted {
    type Message = String;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
        (self.on_data)(input.take(), cx);
    }

    fn on_message(&mut self, message: String, cx: &mut Context<'_, String>) {
        match self.on_full {
            Some(on_full) if cx.is_full() => on_full(cx),
            _ => {
                cx.write(message.as_bytes());
                self.heard.borrow_mut().push(message);
            }
        }
    }

    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, _: &mut Context<'_, String>) {
        self.heard.borrow_mut().push(format!("{label}: {reason}"));
    }
}

struct Member {
    peer: Peer,
    heard: Rc<RefCell<Vec<String>>>,
}

impl Member {
    fn heard(&self) -> Vec<String> {
        self.heard.take()
    }
}

fn join(
    world: &mut World<Scripted>,
    room: usize,
    on_data: fn(&[u8], &mut Context<'_, String>),
    on_full: Option<fn(&mut Context<'_, String>)>,
) -> Member {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let peer = world.accept(Scripted { on_data, heard: Rc::clone(&heard), on_full }, room);
    Member { peer, heard }
}

fn silent(_: &[u8], _: &mut Context<'_, String>) {}

fn to_all(bytes: &[u8], cx: &mut Context<'_, String>) {
    cx.send_all(String::from_utf8_lossy(bytes).into_owned()).unwrap();
}

/// Sends to the connection in the slot that the first byte names, at generation that the second does.
fn to_one(bytes: &[u8], cx: &mut Context<'_, String>) {
    for word in bytes[2..].split(|&b| b == b' ') {
        let index = u32::from(bytes[0] - b'0');
        let id = ConnectionId { index, generation: u64::from(bytes[1] - b'0'), worker: 0 };
        cx.send(id, String::from_utf8_lossy(word).into_owned()).unwrap();
    }
}

#[test]
fn messages_come_in_order_and_a_connection_can_send_to_itself() {
    let mut world = World::new(Config::default());
    let sender = join(&mut world, 100, to_one, None);
    let receiver = join(&mut world, 100, silent, None);
    world.data(&sender.peer, b"12one two three");
    assert_eq!(receiver.heard(), ["one", "two", "three"]);
    world.data(&sender.peer, b"01me");
    assert_eq!(sender.heard(), ["me"]);
    assert_eq!(world.stats().messages_undeliverable, 0);
}

#[test]
fn a_message_never_reaches_the_next_in_the_slot() {
    let mut world = World::new(Config::default());
    let sender = join(&mut world, 100, to_one, None);
    let first = join(&mut world, 100, silent, None);
    world.fin(&first.peer);
    let second = join(&mut world, 100, silent, None);
    assert_eq!(second.peer.id.index, first.peer.id.index);
    world.data(&sender.peer, b"12late");
    assert_eq!(second.heard(), Vec::<String>::new());
    assert_eq!(world.stats().messages_undeliverable, 1);
}

#[test]
fn a_message_to_all_reaches_all_but_its_sender_in_as_many_turns_as_it_takes() {
    let mut world = World::new(Config { event_batch: 256, ..Config::default() });
    let sender = join(&mut world, 100, to_all, None);
    let others: Vec<_> = (0..600).map(|_| join(&mut world, 100, silent, None)).collect();
    world.fin(&others[10].peer);
    world.data(&sender.peer, b"hello");
    assert_eq!(sender.heard(), Vec::<String>::new());
    let heard = others.iter().filter(|other| other.heard() == ["hello"]).count();
    assert_eq!(heard, 599);
    // No more than so many at once.
    world.connections.notice(sender.peer.id.token(), READ);
    sender.peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"again".to_vec()));
    world.connections.run_ready(&mut FakePoller);
    world.run_mail();
    let heard = others.iter().filter(|other| !other.heard().is_empty()).count();
    assert!((200..=256).contains(&heard), "{heard}");
    world.settle();
}

#[test]
fn a_full_outbox_gives_the_message_back() {
    fn to_all_twice(_: &[u8], cx: &mut Context<'_, String>) {
        cx.send_all("first".to_owned()).unwrap();
        assert_eq!(cx.send_all("second".to_owned()), Err(SendError::Full("second".to_owned())));
        assert_eq!(cx.send(cx.id(), "third".to_owned()), Err(SendError::Full("third".to_owned())));
    }
    let mut world = World::new(Config { mailbox_capacity: 1, ..Config::default() });
    let sender = join(&mut world, 100, to_all_twice, None);
    let receiver = join(&mut world, 100, silent, None);
    world.data(&sender.peer, b"go");
    assert_eq!(receiver.heard(), ["first"]);
    assert_eq!(world.stats().panics, 0);
}

#[test]
fn a_slow_receiver_can_drop_what_it_has_no_room_for() {
    let mut world = World::new(small());
    let sender = join(&mut world, 100, to_all, None);
    let slow = join(&mut world, 0, silent, Some(|_| ()));
    for _ in 0..5 {
        world.data(&sender.peer, b"01234");
    }
    assert_eq!(slow.heard().len(), 2, "up to the high-water mark of 10 bytes");
    world.make_room(&slow.peer, 100);
    world.data(&sender.peer, b"56789");
    assert_eq!(slow.peer.sent(), b"012340123456789");
}

#[test]
fn a_slow_receiver_can_be_given_up() {
    let mut world = World::new(small());
    let sender = join(&mut world, 100, to_all, None);
    let slow = join(&mut world, 0, silent, Some(|cx| cx.give_up()));
    for _ in 0..3 {
        world.data(&sender.peer, b"01234");
    }
    assert_eq!(world.stats().closed(CloseReason::SlowReader), 1);
    assert_eq!(slow.peer.calls(), ["reset", "close"]);
    assert_eq!(world.connections.len(), 1);
}

#[test]
fn a_slow_receiver_can_push_back_on_the_sender() {
    /// Tells the sender to wait.
    fn push_back(cx: &mut Context<'_, String>) {
        let sender = ConnectionId { index: 0, generation: 1, worker: 0 };
        cx.send(sender, "wait".to_owned()).unwrap();
    }
    /// Both kinds on one loop.
    enum Either {
        Sends,
        Receives(Scripted),
    }
    impl Protocol for Either {
        type Message = String;
        fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, String>) {
            to_all(input.take(), cx);
        }
        fn on_message(&mut self, message: String, cx: &mut Context<'_, String>) {
            match self {
                Self::Sends => cx.pause_reading(),
                Self::Receives(scripted) => scripted.on_message(message, cx),
            }
        }
    }
    let mut world = World::new(small());
    let sender = world.accept(Either::Sends, 100);
    let heard = Rc::new(RefCell::new(Vec::new()));
    let receiver =
        Either::Receives(Scripted { on_data: silent, heard: Rc::clone(&heard), on_full: Some(push_back) });
    world.accept(receiver, 0);
    for _ in 0..5 {
        world.data(&sender, b"01234");
    }
    assert_eq!(heard.borrow().len(), 2);
    assert_eq!(sender.calls(), ["read 5", "read 5", "read 5"], "then it is not read any more");
}

// ---- outbound connections ----

fn dial(_: &[u8], cx: &mut Context<'_, String>) {
    cx.connect(Address::Unix("there".into()), 7).unwrap();
}

#[test]
fn a_connection_that_is_not_made_is_told_to_who_asked_for_it() {
    let mut world = World::new(Config::default());
    let asker = join(&mut world, 100, dial, None);
    world.data(&asker.peer, b"go");
    let dial = world.dials.pop().unwrap();
    assert_eq!((dial.by, dial.label), (Some(asker.peer.id), 7));
    let wire = Wire { connecting: true, ..Wire::default() };
    let heard = Rc::default();
    let outbound = world.add(Scripted { on_data: silent, heard, on_full: None }, State::Connecting, wire);
    world.connections.set_dial(outbound.id, dial);
    world.settle();
    outbound.wire.borrow_mut().pending_error = Some(ErrorKind::ConnectionRefused);
    world.event(&outbound, WRITE | Readiness::ERROR);
    assert_eq!(asker.heard(), ["7: connect failed: connection refused"]);
}

#[test]
fn a_connection_that_is_made_is_no_failure_when_it_ends() {
    let mut world = World::new(Config::default());
    let asker = join(&mut world, 100, dial, None);
    world.data(&asker.peer, b"go");
    let dial = world.dials.pop().unwrap();
    let heard = Rc::default();
    let protocol = Scripted { on_data: silent, heard, on_full: None };
    let outbound = world.add(protocol, State::Connecting, Wire::default());
    world.connections.set_dial(outbound.id, dial);
    world.event(&outbound, WRITE);
    world.fin(&outbound);
    assert_eq!(world.connections.len(), 1);
    assert_eq!(asker.heard(), Vec::<String>::new());
}

#[test]
fn a_wish_waits_for_room_before_clients_do_and_not_for_ever() {
    let mut world = World::new(Config::default());
    world.connections.set_capacity(2);
    let asker = join(&mut world, 100, dial, None);
    let other = join(&mut world, 100, silent, None);
    world.data(&asker.peer, b"go");
    assert!(world.dials.is_empty());
    world.connections.set_capacity(3);
    assert!(world.connections.has_room() && !world.connections.has_room_for_clients());
    world.connections.set_capacity(2);
    world.fin(&other.peer);
    world.settle();
    assert_eq!(world.dials.len(), 1);
    join(&mut world, 100, silent, None);
    world.data(&asker.peer, b"go");
    world.pass(Config::default().connect_timeout.unwrap());
    assert_eq!(world.dials.len(), 1);
    assert_eq!(asker.heard(), ["7: connect timeout"]);
}

#[test]
fn what_a_thread_sends_to_all_and_then_to_one_comes_in_that_order() {
    let mut world = World::new(Config::default());
    let one = join(&mut world, 100, silent, None);
    assert!(world.connections.message_all("first".to_owned(), String::clone));
    world.connections.post(one.peer.id, "second".to_owned(), &mut FakePoller);
    world.settle();
    assert_eq!(one.heard(), ["first", "second"]);
}

/// A wish of one that is gone.
#[test]
fn a_wish_of_one_that_is_gone_is_forgotten() {
    struct Dials;
    impl Protocol for Dials {
        type Message = ();
        fn on_data(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
            cx.connect(Address::Unix("there".into()), 7).unwrap();
        }
    }
    let mut world = World::new(Config::default());
    world.connections.set_capacity(1);
    let asker = world.accept(Dials, 100);
    world.data(&asker, b"go");
    world.fin(&asker);
    world.settle();
    assert!(world.connections.is_empty());
    assert!(world.dials.is_empty(), "nobody wants it");
}

/// A panic in the `Clone` of a message costs one connection at most.
#[test]
fn a_message_that_cannot_be_cloned_does_not_end_the_loop() {
    #[derive(Debug)]
    struct Bad;
    impl Clone for Bad {
        fn clone(&self) -> Self {
            panic!("no clone")
        }
    }
    struct Quiet;
    impl Protocol for Quiet {
        type Message = Bad;
        fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Bad>) {
            input.take();
            cx.send_all(Bad).unwrap();
        }
    }
    let mut world = World::new(Config::default());
    let one = world.accept(Quiet, 100);
    let _two = world.accept(Quiet, 100);
    world.data(&one, b"go");
    assert_eq!(world.stats().panics, 1);
}
