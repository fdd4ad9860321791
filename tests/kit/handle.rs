//! What other threads do to single connections.

use std::time::Duration;

use echoloop::{
    CloseReason, Config, ConnectionState, Context, Echo, Input, Origin, Protocol, SendError, testing::Loop,
};

#[test]
fn a_connection_is_finished_with_everything_written_and_others_are_not() {
    let net = Loop::new(|_| Some(Echo));
    let slow = net.client().buffer_bytes(10).stopped().connect();
    let other = net.connect();
    slow.send([b'x'; 1000]);
    net.handle().finish_connection(slow.id().expect("it is accepted")).expect("there is room");
    net.run();
    assert!(!slow.has_fin());
    slow.resume_reading();
    assert_eq!(slow.received().len(), 1000);
    assert!(slow.has_fin() && other.is_open());
    slow.end();
    assert_eq!(slow.close_reason(), Some(CloseReason::Finished));
    // It is gone.
    net.handle().finish_connection(slow.id().expect("it had a name")).expect("there is room");
    net.run();
    assert_eq!(net.stats().closed_total(), 1);
}

#[test]
fn a_connection_is_aborted_also_while_it_is_made() {
    let net = Loop::new(|_| Some(Echo));
    let client = net.connect();
    net.handle().abort_connection(client.id().expect("it is accepted")).expect("there is room");
    net.run();
    assert_eq!(client.close_reason(), Some(CloseReason::Aborted));

    net.handle().connect("192.0.2.1:80".parse().expect("an address"), 0).expect("there is room");
    net.run();
    let attempt = net.next_connect().expect("it connects");
    let id = attempt.id().expect("it has a name");
    net.handle().finish_connection(id).expect("there is room");
    net.run();
    assert!(!attempt.is_pending());
    assert_eq!(net.stats().closed(CloseReason::Cancelled), 1);
}

/// Leaves what comes.
struct Keeps;

impl Protocol for Keeps {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes() == b"pause" {
            cx.pause_reading();
        }
    }
}

#[test]
fn connections_say_what_they_are_doing() {
    let net = Loop::new(|peer| (peer.origin == Origin::Listener(0)).then_some(Keeps));
    let (keeps, pauses) = (net.connect(), net.connect());
    keeps.send("hello");
    net.advance(Duration::from_secs(3));
    pauses.send("pause");
    let all = net.connections();
    assert_eq!(all.iter().map(|one| Some(one.id)).collect::<Vec<_>>(), [keeps.id(), pauses.id()]);
    assert_eq!((all[0].unconsumed_bytes, all[0].is_paused, all[0].quiet.as_secs()), (5, false, 3));
    assert_eq!((all[1].unconsumed_bytes, all[1].is_paused, all[1].quiet.as_secs()), (5, true, 0));
    assert_eq!(all[0].peer, Some(keeps.address()));
    assert!(all.iter().all(|one| one.state == ConnectionState::Reading));
    let line = all[0].to_string();
    assert_eq!(line, format!("0.1: {}, reading, 0 bytes queued, quiet for 3.0s", keeps.address()));
}

#[test]
fn however_many_there_are_they_are_listed_some_at_a_time() {
    let mut config = Config::default();
    config.event_batch = 7;
    let net = Loop::with_config(config, |_| Some(Echo));
    let clients: Vec<_> = (0..100).map(|_| net.connect()).collect();
    clients.iter().step_by(3).for_each(|client| client.reset());
    let open: Vec<_> = clients.iter().filter(|client| client.is_open()).map(|client| client.id()).collect();
    assert_eq!(net.connections().iter().map(|one| Some(one.id)).collect::<Vec<_>>(), open);
}

#[test]
fn a_sender_waits_for_room_and_not_for_ever() {
    let mut config = Config::default();
    config.mailbox_capacity = 1;
    let net = Loop::with_config(config, |_| Some(Echo));
    let id = net.connect().id().expect("it is accepted");
    let handle = net.handle();
    handle.send(id, ()).expect("there is room for one");
    let full = handle.send_timeout(id, (), Duration::from_millis(30));
    assert_eq!(full, Err(SendError::Full(())));
    let waiting = std::thread::spawn(move || handle.send_timeout(id, (), Duration::from_secs(60)));
    while !waiting.is_finished() {
        net.run();
    }
    assert_eq!(waiting.join().expect("it ends"), Ok(()));
}

#[test]
fn an_address_has_no_more_connections_than_it_may() {
    let mut config = Config::default();
    config.max_connections_per_ip = Some(2);
    let net = Loop::with_config(config, |_| Some(Echo));
    let from = |text: &str| net.client().address(text.parse().expect("an address")).connect();
    let (one, two) = (from("10.0.0.1:1"), from("10.0.0.1:2"));
    let three = from("10.0.0.1:3");
    assert!(three.was_reset() && !three.is_open());
    assert!(one.is_open() && two.is_open() && from("10.0.0.2:1").is_open());
    one.end();
    assert!(from("10.0.0.1:4").is_open());
    assert_eq!((net.stats().over_ip_limit, net.stats().accepted), (1, 5));
    assert!(net.stats().to_string().contains("over IP limit 1"));
}
