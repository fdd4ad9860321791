//! Output that is shared, and output through `io::Write`.

use std::{
    io::{ErrorKind, Write},
    sync::Arc,
};

use echoloop::{CloseReason, Config, Context, Flow, Input, Protocol, SharedBytes, testing::Loop};

/// Copies and shared pieces, one behind the other, as many as it is asked for.
struct Mixed(Arc<[u8]>);

impl Mixed {
    /// What it sends for one byte.
    fn piece(&self, n: u8) -> Vec<u8> {
        [&[n][..], &self.0, &[n, n], &self.0].concat()
    }
}

impl Protocol for Mixed {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        for &n in input.take() {
            cx.write(&[n]);
            cx.write_shared(Arc::clone(&self.0));
            cx.write(&[n, n]);
            cx.write_shared(Arc::clone(&self.0));
        }
    }
}

fn shared() -> Arc<[u8]> {
    (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect()
}

#[test]
fn what_is_shared_comes_in_its_place_however_the_client_reads() {
    for (buffer, read) in [(1 << 20, 1 << 20), (1, 1), (7, 100), (5000, 4999), (60_000, 3)] {
        let bytes = shared();
        let net = Loop::new(|_| Some(Mixed(Arc::clone(&bytes))));
        let client = net.client().buffer_bytes(buffer).stopped().connect();
        client.send([1, 2, 3]);
        client.send([4]);
        let expected: Vec<u8> =
            [1, 2, 3, 4].iter().flat_map(|&n| Mixed(Arc::clone(&bytes)).piece(n)).collect();
        assert_eq!(client.queued(), expected.len().saturating_sub(buffer));
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let more = client.read(read);
            assert!(!more.is_empty());
            received.extend(more);
        }
        assert!(received == expected, "buffer {buffer}, read {read}");
        assert_eq!(client.queued(), 0);
    }
}

#[test]
fn nothing_is_copied_for_those_who_wait_and_all_is_let_go_in_the_end() {
    let bytes = shared();
    let net = Loop::new(|_| Some(Mixed(Arc::clone(&bytes))));
    let clients: Vec<_> = (0..100).map(|_| net.client().buffer_bytes(0).stopped().connect()).collect();
    clients.iter().for_each(|client| client.send([1]));
    // The test's, those of 100 protocols, and two queued by each.
    assert_eq!(Arc::strong_count(&bytes), 1 + 100 + 200);
    clients[0].reset();
    assert_eq!(Arc::strong_count(&bytes), 1 + 99 + 198);
    net.abort();
    drop(net);
    drop(clients);
    assert_eq!(Arc::strong_count(&bytes), 1);
}

#[test]
fn what_is_shared_is_bounded_like_what_is_copied() {
    let mut config = Config::default();
    config.set_high_water(8000);
    config.queue_limit_bytes = 20_000;
    let net = Loop::with_config(config, |_| Some(Mixed(shared())));
    let client = net.client().buffer_bytes(0).stopped().connect();
    client.send([1]);
    assert_eq!(client.queued(), 10_003);
    client.send([2]);
    assert_eq!((client.queued(), client.unread()), (10_003, 1), "it is not read while so much waits");
    let client = net.client().buffer_bytes(0).stopped().connect();
    client.send([1, 2, 3]);
    assert_eq!(client.close_reason(), Some(CloseReason::QueueLimit));
}

/// Writes through the trait.
struct Formal;

impl Protocol for Formal {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        fn through(writer: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
            writer.write_all(bytes)?;
            writer.flush()
        }
        through(cx, input.take()).expect("it is open");
        assert_eq!(cx.write_shared(SharedBytes::from(vec![b'.'; 2000])), Flow::Open);
        assert_eq!(cx.write_shared("short"), Flow::Open);
        cx.finish();
        let error = through(cx, b"late").expect_err("it is finished");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(cx.write_shared(SharedBytes::from(vec![b'.'; 2000])), Flow::Closed);
    }
}

#[test]
fn a_context_is_a_writer_until_its_output_ends() {
    let client = Loop::new(|_| Some(Formal)).connect();
    client.send("hello ");
    let received = client.received_text();
    assert!(received.starts_with("hello .") && received.ends_with(".short") && received.len() == 2011);
}
