//! Output beyond what the client receives: the flow that `write` reports, and the limit on the queue.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use echoloop::{CloseReason, Config, Context, Flow, Input, Protocol};

use crate::{
    ANYWHERE, KIB, MIB, OnData, ms,
    util::{Running, eventually, finish, pattern, ping, read_to_end, read_to_reset},
};

/// Sends all in small pieces, as there is room, and finishes.
struct Pieces {
    all: Arc<Vec<u8>>,
    written: usize,
    most_queued: Arc<AtomicUsize>,
}

const PIECE: usize = 10 * KIB;

impl Pieces {
    fn write_on(&mut self, cx: &mut Context<'_>) {
        while self.written < self.all.len() {
            let end = self.all.len().min(self.written + PIECE);
            let flow = cx.write(&self.all[self.written..end]);
            self.written = end;
            self.most_queued.fetch_max(cx.queued(), SeqCst);
            match flow {
                Flow::Open => {}
                Flow::Full => return,
                other => panic!("{other:?}"),
            }
        }
        cx.finish();
    }
}

impl Protocol for Pieces {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.write_on(cx);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.write_on(cx);
    }
}

#[test]
fn a_protocol_that_heeds_the_flow_sends_much_with_a_small_queue() {
    let all = Arc::new(pattern(50, 50 * MIB + 1));
    let most_queued = Arc::<AtomicUsize>::default();
    let config = Config::default();
    let high_water = config.high_water_bytes;
    let (sending, noting) = (Arc::clone(&all), Arc::clone(&most_queued));
    let server = Running::start(config, ANYWHERE, move |_| {
        Some(Pieces { all: Arc::clone(&sending), written: 0, most_queued: Arc::clone(&noting) })
    });
    let client = server.connect();
    // It stops by itself as long as nobody reads.
    let mut last = 0;
    eventually("the server has stopped to send", || {
        thread::park_timeout(ms(50));
        let sent = server.stats().bytes_sent;
        std::mem::replace(&mut last, sent) == sent && sent > 0
    });
    assert!(last < all.len() as u64, "memory is bounded");
    assert!(read_to_end(&client) == *all);
    drop(client);
    let most = most_queued.load(SeqCst);
    assert!((high_water..high_water + PIECE).contains(&most), "{most} bytes queued");
    let stats = server.last_stats();
    assert_eq!((stats.closed(CloseReason::Finished), stats.bytes_undelivered), (1, 0), "{stats}");
}

#[test]
fn a_protocol_that_does_not_heed_the_flow_is_ended_at_the_queue_limit() {
    let mut config = Config::default();
    config.queue_limit_bytes = MIB;
    let server = Running::start(config, ANYWHERE, |_| {
        Some(OnData(|input: &mut Input<'_>, cx: &mut Context<'_>| {
            if input.bytes() == b"flood" {
                for _ in 0..64 {
                    cx.write(&[b'x'; MIB]);
                }
            }
            cx.forward(input);
        }))
    });
    let (neighbour, mut client) = (server.connect(), server.connect());
    ping(&neighbour, b"before");
    client.write_all(b"flood").unwrap();
    read_to_reset(&client);
    ping(&neighbour, b"after");
    assert!(finish(&neighbour).is_empty());
    let stats = server.last_stats();
    assert_eq!((stats.closed(CloseReason::QueueLimit), stats.closed_total()), (1, 2), "{stats}");
    assert!(stats.bytes_undelivered > MIB as u64, "{stats}");
}
