//! Every cut of a stream, in one call, and clients that take their time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use echoloop::{
    CloseReason, Context, Echo, Input, Protocol,
    testing::{Loop, every_cut},
};

#[test]
fn an_echo_does_not_care_how_the_stream_is_cut() {
    every_cut(
        "this is a test",
        || Loop::new(|_| Some(Echo)),
        |client| {
            assert_eq!(client.received(), b"this is a test");
            assert!(client.has_fin());
            assert_eq!(client.close_reason(), Some(CloseReason::Peer));
        },
    );
    every_cut("", || Loop::new(|_| Some(Echo)), |client| assert!(client.has_fin()));
}

/// Takes it for granted that a word comes in one piece.
struct Careless;

impl Protocol for Careless {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let answer: &[u8] = if input.take() == b"hello" { b"yes" } else { b"no" };
        cx.write(answer);
    }
}

/// Forgets what it has not said when its client ends.
struct Hasty(Vec<u8>);

impl Protocol for Hasty {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.extend(input.take());
        cx.set_timer(0, Duration::ZERO);
    }

    fn on_timeout(&mut self, _: echoloop::Timeout, cx: &mut Context<'_>) {
        cx.write(&std::mem::take(&mut self.0));
    }
}

fn finds_it(test: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(test)).is_err()
}

#[test]
fn protocols_that_depend_on_pieces_or_on_the_order_of_ends_are_found() {
    assert!(finds_it(|| every_cut(
        "hello",
        || Loop::new(|_| Some(Careless)),
        |client| {
            assert_eq!(client.received_text(), "yes");
        }
    )));
    assert!(finds_it(|| every_cut(
        "hello",
        || Loop::new(|_| Some(Hasty(Vec::new()))),
        |client| {
            assert_eq!(client.received_text(), "hello");
        }
    )));
}

#[test]
fn a_slow_client_gets_everything_at_its_own_pace_and_a_lossy_one_later() {
    let seconds_until_the_end = |lossy: bool| {
        let net = Loop::new(|_| Some(Echo));
        let slow = net.client().buffer_bytes(50).slow(10, Duration::from_secs(1));
        let client = if lossy { slow.lossy(7) } else { slow }.connect();
        client.send([b'x'; 1000]);
        client.end();
        let mut received = 0;
        (1..).find(|_| {
            net.advance(Duration::from_secs(1));
            received += client.received().len();
            client.close_reason().is_some_and(|reason| {
                assert_eq!((reason, received), (CloseReason::Peer, 1000));
                true
            })
        })
    };
    // The FIN is acknowledged with the next bytes, or by itself.
    let steady = seconds_until_the_end(false).expect("it ends");
    assert!((100..=102).contains(&steady), "{steady} s");
    let lossy = seconds_until_the_end(true).expect("it ends");
    assert!((130..=180).contains(&lossy), "{lossy} s");
}
