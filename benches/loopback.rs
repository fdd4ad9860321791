//! Round trips over real sockets: a server on one thread, all of its clients on another.
//!
//! In one iteration every connection has one message in flight: the clients send all of them, then receive all of
//! them. That cannot deadlock: the server takes a whole message from each client, because none is longer
//! than its high-water mark, whether or not the client receives. The figures include the clients' own system
//! calls, which cost about as much as the server's.
#![allow(missing_docs, reason = "criterion's macros")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use echoloop::{Echo, Server};

const CONNECTIONS: [usize; 3] = [1, 64, 1024];

const SIZES: [(&str, usize); 3] = [("64 B", 64), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10)];

/// One message on every connection, and back.
fn round_trip(clients: &mut [TcpStream], message: &[u8], echo: &mut [u8]) {
    for client in &mut *clients {
        client.write_all(message).expect("send");
    }
    for client in clients {
        client.read_exact(echo).expect("receive");
        assert!(echo == message, "the echo differs");
    }
}

fn loopback(criterion: &mut Criterion) {
    echoloop::raise_descriptor_limit().expect("RLIMIT_NOFILE");
    let server = Server::builder().bind(["127.0.0.1:0"]).expect("bind");
    let (address, handle) = (server.local_addrs()[0].to_string(), server.handle());
    let running = thread::spawn(move || server.run(|_| Some(Echo)));

    let mut group = criterion.benchmark_group("loopback");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(8));
    for connections in CONNECTIONS {
        let connect = || {
            let client = TcpStream::connect(&address).expect("connect");
            client.set_nodelay(true).expect("TCP_NODELAY");
            client
        };
        let mut clients: Vec<_> = (0..connections).map(|_| connect()).collect();
        for (name, size) in SIZES {
            let message: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            let mut echo = vec![0; size];
            let elements = connections as u64;
            group.throughput(Throughput::ElementsAndBytes { elements, bytes: elements * size as u64 });
            group.bench_function(BenchmarkId::new(name, connections), |bencher| {
                bencher.iter(|| round_trip(&mut clients, &message, &mut echo));
            });
        }
    }
    group.finish();

    handle.drain();
    running.join().expect("the server does not panic").expect("the loop runs");
}

criterion_group!(benches, loopback);
criterion_main!(benches);
