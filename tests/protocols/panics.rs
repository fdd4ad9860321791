//! A panic in a callback costs its own connection, and no other.

use std::{
    io::Write,
    net::Shutdown,
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use echoloop::{CloseReason, Config, ConnectionId, Context, Flow, Input, Protocol, Stats, Timeout};

use crate::{
    ANYWHERE, KIB,
    util::{DEADLINE, Running, eventually, finish, ping, read_to_reset},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Factory,
    Open,
    Data,
    Writable,
    Eof,
    Timer,
    Message,
    Close,
}

/// Echo that panics at one place, or nowhere.
struct Panics {
    site: Option<Site>,
    opened: Sender<ConnectionId>,
}

impl Panics {
    fn pass(&self, site: Site) {
        assert!(self.site != Some(site), "a panic in {site:?}, as the test wants it");
    }
}

impl Protocol for Panics {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.opened.send(cx.id()).unwrap();
        self.pass(Site::Open);
        match self.site {
            Some(Site::Writable) => assert_eq!(cx.write(&[0; 64 * KIB]), Flow::Full),
            Some(Site::Timer) => cx.set_timer(0, Duration::ZERO),
            _ => {}
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.pass(Site::Data);
        cx.forward(input);
    }

    fn on_writable(&mut self, _: &mut Context<'_>) {
        self.pass(Site::Writable);
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        self.pass(Site::Eof);
        cx.finish();
    }

    fn on_timeout(&mut self, _: Timeout, _: &mut Context<'_>) {
        self.pass(Site::Timer);
    }

    fn on_message(&mut self, (): (), _: &mut Context<'_>) {
        self.pass(Site::Message);
    }

    fn on_close(&mut self, _: &CloseReason, _: &mut Context<'_>) {
        self.pass(Site::Close);
    }
}

/// The second of three clients meets a panic at `site`.
fn panic_costs_one_connection(site: Site) -> Stats {
    let (opened, ids) = channel();
    let count = AtomicUsize::new(0);
    let server = Running::start(Config::default(), ANYWHERE, move |_| {
        let is_victim = count.fetch_add(1, SeqCst) == 1;
        assert!(!is_victim || site != Site::Factory, "a panic in the factory, as the test wants it");
        Some(Panics { site: is_victim.then_some(site), opened: opened.clone() })
    });
    let neighbour = server.connect();
    ping(&neighbour, b"before");
    ids.recv_timeout(DEADLINE).unwrap();

    let mut victim = server.connect();
    match site {
        Site::Data => victim.write_all(b"x").unwrap(),
        Site::Message => {
            let id = ids.recv_timeout(DEADLINE).unwrap();
            server.handle.send(id, ()).unwrap();
        }
        Site::Eof => victim.shutdown(Shutdown::Write).unwrap(),
        Site::Factory | Site::Open | Site::Writable | Site::Timer | Site::Close => {}
    }
    match site {
        Site::Close => assert!(finish(&victim).is_empty()),
        // No stream that is not whole looks whole, not even one of nothing.
        _ => drop(read_to_reset(&victim)),
    }
    eventually("the panic is counted", || server.stats().panics == 1 && server.stats().open == 1);

    ping(&neighbour, b"after");
    let another = server.connect();
    ping(&another, b"as if nothing had happened");
    assert!(finish(&another).is_empty());
    assert!(finish(&neighbour).is_empty());
    let stats = server.last_stats();
    assert_eq!((stats.accepted, stats.panics), (3, 1), "{stats}");
    stats
}

#[test]
fn a_panic_in_any_callback_costs_that_connection_only() {
    for site in [Site::Open, Site::Data, Site::Writable, Site::Eof, Site::Timer, Site::Message] {
        let stats = panic_costs_one_connection(site);
        assert_eq!(stats.closed(CloseReason::Panicked), 1, "{site:?}: {stats}");
        assert_eq!(stats.closed(CloseReason::Peer), 2, "{site:?}: {stats}");
    }
}

#[test]
fn a_panic_in_the_factory_costs_that_connection_only() {
    let stats = panic_costs_one_connection(Site::Factory);
    assert_eq!((stats.refused, stats.closed(CloseReason::Peer)), (1, 2), "{stats}");
    assert_eq!(stats.closed_total(), 2, "{stats}");
}

#[test]
fn a_panic_in_on_close_leaves_the_reason_as_it_was() {
    let stats = panic_costs_one_connection(Site::Close);
    assert_eq!((stats.closed(CloseReason::Peer), stats.closed_total()), (3, 3), "{stats}");
}
