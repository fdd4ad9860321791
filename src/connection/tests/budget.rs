//! How much is sent, queued and read in a turn.

use super::*;

/// Answers each input with so many bytes.
struct Verbose(usize);

impl Protocol for Verbose {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        cx.write(&vec![b'.'; self.0]);
    }
}

#[test]
fn as_much_as_the_queue_limit_may_wait_and_not_a_byte_more() {
    let limits = Config { queue_limit_bytes: 20, high_water_bytes: 20, ..small() };
    for (length, is_open) in [(19, true), (20, false)] {
        let mut world = World::new(limits.clone());
        let peer = world.accept(Verbose(length), 0);
        world.data(&peer, b"?");
        assert_eq!(world.connections.len(), usize::from(is_open), "{length}");
        let reasons: Vec<_> = world.stats().close_reasons().collect();
        assert_eq!(reasons.is_empty(), is_open, "{reasons:?}");
    }
}

#[test]
fn a_turn_sends_no_more_than_its_budget() {
    let limits = Config { turn_budget_bytes: 10, ..Config::default() };
    let mut world = World::new(limits);
    let peer = world.accept(Verbose(30), 1000);
    peer.wire.borrow_mut().incoming.push_back(Incoming::Bytes(b"four".to_vec()));
    world.connections.notice(peer.id.token(), READ);
    let mut turns = Vec::new();
    while world.connections.has_work() {
        world.connections.run_ready(&mut FakePoller);
        turns.push(peer.calls());
    }
    assert_eq!(turns, [vec!["read 4", "write 10"], vec!["write 10"], vec!["write 10"], vec!["write 4"]]);
}

/// Writes for ever, and counts what comes.
struct Torrent {
    heard: Rc<Cell<usize>>,
}

impl Torrent {
    fn write(cx: &mut Context<'_>) {
        while cx.write(b"0123456789") == Flow::Open {}
    }
}

impl Protocol for Torrent {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        Self::write(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        self.heard.set(self.heard.get() + input.take().len());
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        Self::write(cx);
    }
}

#[test]
fn a_protocol_that_writes_for_ever_to_a_peer_that_takes_it_all_still_gets_input_and_its_end() {
    let heard = Rc::new(Cell::new(0));
    let mut world = World::new(small());
    let wire = Wire { room: usize::MAX, ..Wire::default() };
    let peer = world.add(Torrent { heard: Rc::clone(&heard) }, State::Reading, wire);
    world.connections.run_ready(&mut FakePoller);
    peer.wire.borrow_mut().incoming = [Incoming::Bytes(vec![1; 700]), Incoming::Fin].into();
    world.connections.notice(peer.id.token(), READ);
    for _ in 0..100 {
        world.connections.run_ready(&mut FakePoller);
    }
    assert_eq!(heard.get(), 700);
    assert!(peer.calls().contains(&"shutdown".to_owned()));
    world.settle();
    world.assert_ended(CloseReason::Peer);
}
