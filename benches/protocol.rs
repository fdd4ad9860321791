//! A protocol measured twice: in the test kit, which shows what its own code costs, and over loopback TCP, which shows
//! what a client gets.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use echoloop::{Context, Input, Protocol, Server, testing::Loop};

/// Sends back each line in upper case.
struct Shout;

impl Protocol for Shout {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        while let Some(end) = input.bytes().iter().position(|&byte| byte == b'\n') {
            cx.write(&input.bytes()[..=end].to_ascii_uppercase());
            input.consume(end + 1);
        }
    }
}

const LINE: &[u8] = b"the quick brown fox jumps over the lazy dog\n";

/// The protocol and the loop's own code, without a system call.
fn kit(criterion: &mut Criterion) {
    let net = Loop::new(|_peer| Some(Shout));
    let client = net.connect();
    let mut group = criterion.benchmark_group("shout");
    group.throughput(Throughput::Bytes(LINE.len() as u64));
    group.bench_function("kit", |bencher| {
        bencher.iter(|| {
            client.send(LINE);
            assert_eq!(client.received().len(), LINE.len());
        });
    });
    group.finish();
}

/// A round trip through the kernel, with the client's own system calls.
fn loopback(criterion: &mut Criterion) {
    let server = Server::builder().bind(["127.0.0.1:0"]).expect("a free port");
    let (address, handle) = (server.local_addrs()[0].to_string(), server.handle());
    let running = thread::spawn(move || server.run(|_peer| Some(Shout)));
    let mut client = TcpStream::connect(address).expect("a server");
    client.set_nodelay(true).expect("an option that every system has");
    let mut answer = vec![0; LINE.len()];
    let mut group = criterion.benchmark_group("shout");
    group.throughput(Throughput::Bytes(LINE.len() as u64));
    group.bench_function("loopback", |bencher| {
        bencher.iter(|| {
            client.write_all(LINE).expect("sent");
            client.read_exact(&mut answer).expect("received");
        });
    });
    group.finish();
    drop(client);
    handle.drain();
    running.join().expect("no panic").expect("no error");
}

criterion_group!(benches, kit, loopback);
criterion_main!(benches);
