//! What the parts of the base cost, in the test kit: a boxed protocol beside the same in an enum, a layer beside none, and
//! a message to a thousand members that is copied for each or shared by all.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use echoloop::{
    Boxed, Context, Echo, Input, Origin, Peer, Protocol, SharedBytes,
    testing::{Client, Loop},
};

/// Two protocols in one type.
enum Either {
    Echo(Echo),
    Discard,
}

impl Protocol for Either {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match self {
            Self::Echo(echo) => echo.on_data(input, cx),
            Self::Discard => _ = input.take(),
        }
    }
}

/// A layer that changes nothing.
struct Layer<P>(P);

impl<P: Protocol> Protocol for Layer<P> {
    type Message = P::Message;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        let requests = cx.inner(|cx| self.0.on_data(input, cx));
        cx.request(requests);
    }
}

const MESSAGE: [u8; 64] = [7; 64];

fn ping_pong<P: Protocol>(criterion: &mut Criterion, name: &str, make: fn(&Peer<'_>) -> P) {
    let net = Loop::new(|peer| Some(make(peer)));
    let client = net.connect();
    criterion.benchmark_group("echo").bench_function(name, |bencher| {
        bencher.iter(|| {
            client.send(MESSAGE);
            assert_eq!(client.received().len(), MESSAGE.len());
        });
    });
}

fn protocols(criterion: &mut Criterion) {
    ping_pong(criterion, "by itself", |_peer| Echo);
    ping_pong(criterion, "in an enum", |peer| match peer.origin {
        Origin::Listener(0) => Either::Echo(Echo),
        Origin::Listener(_) | Origin::Connect(_) | _ => Either::Discard,
    });
    ping_pong(criterion, "boxed", |_peer| Boxed::new(Echo));
    ping_pong(criterion, "in a layer", |_peer| Layer(Echo));
}

/// Says to all others what one says, or has them share it.
struct Member;

#[derive(Clone)]
enum Said {
    Copied(SharedBytes),
    Shared(SharedBytes),
}

impl Protocol for Member {
    type Message = Said;

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Said>) {
        input.take();
    }

    fn on_message(&mut self, said: Said, cx: &mut Context<'_, Said>) {
        match said {
            Said::Copied(bytes) => cx.write(&bytes),
            Said::Shared(bytes) => cx.write_shared(bytes),
        };
    }
}

const MEMBERS: usize = 1000;

/// What a member takes before the rest is queued.
const MEMBER_BUFFER: usize = 4096;

/// How long it takes until a message is queued for each member, `count` times. They receive nothing meanwhile, and all of
/// it afterwards.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn time_to_queue(
    said: &Said,
    count: u64,
    net: &Loop<'static, Member>,
    members: &[Client<'static, Member>],
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..count {
        net.message_all(Said::Copied(vec![0; MEMBER_BUFFER].into()));
        let start = Instant::now();
        net.message_all(said.clone());
        total += start.elapsed();
        for member in members {
            member.resume_reading();
            assert!(member.received().len() > MEMBER_BUFFER);
            member.stop_reading();
        }
    }
    total
}

fn broadcast(criterion: &mut Criterion) {
    let net = Loop::new(|_peer| Some(Member));
    let members: Vec<_> =
        (0..MEMBERS).map(|_| net.client().buffer_bytes(MEMBER_BUFFER).stopped().connect()).collect();
    let mut group = criterion.benchmark_group("to 1,000 members");
    group.sample_size(20);
    for size in [256, 4096, 16_384] {
        let bytes = SharedBytes::from(vec![7; size]);
        group.throughput(Throughput::Bytes((size * MEMBERS) as u64));
        for (name, said) in [("copied", Said::Copied(bytes.clone())), ("shared", Said::Shared(bytes.clone()))]
        {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|count| time_to_queue(&said, count, &net, &members));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, protocols, broadcast);
criterion_main!(benches);
