//! A loop whose memory is limited.

use echoloop::{Config, Echo, testing::Loop};

const KIB: usize = 1 << 10;

fn net(limit: usize) -> Loop<'static, Echo> {
    let mut config = Config::default();
    config.memory_limit_bytes = Some(limit);
    Loop::with_config(config, |_| Some(Echo))
}

#[test]
fn however_many_receive_nothing_the_limit_is_kept_and_all_get_everything_in_the_end() {
    let net = net(1024 * KIB);
    let clients: Vec<_> = (0..200).map(|_| net.client().buffer_bytes(KIB).stopped().connect()).collect();
    for client in &clients {
        client.send([b'x'; 100 * KIB]);
    }
    let queued: usize = clients.iter().map(|client| client.queued()).sum();
    // 64 KiB each would be 12.5 MiB.
    assert!((900 * KIB..=(1024 + 200 * 4) * KIB).contains(&queued), "{queued} bytes are queued");
    assert!(clients.iter().all(|client| client.queued() > 0));
    for client in &clients {
        client.resume_reading();
        assert_eq!(client.received().len(), 100 * KIB);
    }
}

#[test]
fn who_receives_is_served_beside_those_who_do_not() {
    let net = net(64 * KIB);
    let stuck: Vec<_> = (0..10).map(|_| net.client().buffer_bytes(KIB).stopped().connect()).collect();
    for client in &stuck {
        client.send([b'x'; 100 * KIB]);
    }
    let client = net.connect();
    client.send([b'y'; 1000 * KIB]);
    assert_eq!(client.received().len(), 1000 * KIB);
}

#[test]
fn without_a_limit_each_may_queue_as_much_as_ever() {
    let net = Loop::new(|_| Some(Echo));
    let clients: Vec<_> = (0..50).map(|_| net.client().buffer_bytes(KIB).stopped().connect()).collect();
    for client in &clients {
        client.send([b'x'; 100 * KIB]);
        assert_eq!(client.queued(), 64 * KIB);
    }
}
