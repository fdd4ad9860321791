//! Every way in which a stream can be cut and end.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use super::{Client, Loop};
use crate::protocol::Protocol;

/// How the client that sends a stream receives, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It half-closes once everything that it was sent has come.
    EndsLater,
    /// Its FIN comes with the last bytes.
    EndsAtOnce,
    /// The same, and it reads only then.
    ReadsLate,
    /// The same, and it has no room for more than a byte.
    ReadsBytewise,
}

const MANNERS: [Manner; 4] =
    [Manner::EndsLater, Manner::EndsAtOnce, Manner::ReadsLate, Manner::ReadsBytewise];

/// Longer streams are cut in two at about so many places, not at each.
const PLACES: usize = 500;

/// Nothing takes longer than that.
const LONG: Duration = Duration::from_secs(3600);

/// Sends `stream` to a server of a new loop again and again: whole, byte by byte, in small pieces, and cut in two at every
/// place (at about 500, if it is longer); each time with the client's FIN behind everything, with the last bytes, and with a client
/// that reads late or hardly at all. `check` sees the client when everything has come and the client has ended; it must find
/// the same each time, as the server must not care how the stream was cut.
///
/// Then the client resets after each piece of the stream, and closes without reading: whatever it had received by then must be
/// the beginning of the whole answer, and the connection must end.
///
/// ```
/// use echoloop::{framing::{Framed, FramedProtocol, Lines}, testing::{Loop, every_cut}, Context};
///
/// struct Count(Lines);
///
/// impl FramedProtocol for Count {
///     type Framing = Lines;
///     type Message = ();
///
///     fn framing(&mut self) -> &mut Lines {
///         &mut self.0
///     }
///
///     fn on_frame(&mut self, line: &[u8], cx: &mut Context<'_>) {
///         writeln!(cx, "{}", line.len());
///     }
/// }
///
/// let server = || Loop::new(|_| Some(Framed::new(Count(Lines::new(20)))));
/// every_cut("hello\r\n\nworld!\n", server, |client| {
///     assert_eq!(client.received_text(), "5\n0\n6\n");
///     assert!(client.has_fin());
/// });
/// ```
///
/// # Panics
///
/// If `check` does, or one of the other conditions does not hold. The message says how the stream was cut.
pub fn every_cut<'f, P: Protocol + 'f>(
    stream: impl AsRef<[u8]>,
    server: impl Fn() -> Loop<'f, P>,
    check: impl Fn(&Client<'f, P>),
) {
    let stream = stream.as_ref();
    for cut in cuts(stream.len()) {
        for manner in MANNERS {
            let net = server();
            told(|| check(&converse(&net, stream, &cut, manner)), || format!("{manner:?}, cut {}", cut.name));
        }
    }
    let whole = Cut { name: "nowhere".to_owned(), places: Vec::new() };
    let answer = converse(&server(), stream, &whole, Manner::EndsAtOnce).received();
    for place in places(stream.len()).chain([stream.len()]) {
        told(
            || break_off(&server(), &stream[..place], &answer),
            || format!("broken off after {place} bytes"),
        );
    }
}

/// Where a stream is cut.
struct Cut {
    name: String,
    places: Vec<usize>,
}

fn cuts(len: usize) -> impl Iterator<Item = Cut> {
    let whole = Cut { name: "nowhere".to_owned(), places: Vec::new() };
    let chunks = [1, 2, 3, 7].into_iter().map(move |chunk| Cut {
        name: format!("into pieces of {chunk} bytes"),
        places: (chunk..len).step_by(chunk).collect(),
    });
    let in_two = places(len).map(|place| Cut { name: format!("after {place} bytes"), places: vec![place] });
    iter::once(whole).chain(chunks).chain(in_two)
}

fn places(len: usize) -> impl Iterator<Item = usize> {
    (1..len).step_by((len / PLACES).max(1))
}

/// Sends the stream, and receives everything.
fn converse<'f, P: Protocol + 'f>(
    net: &Loop<'f, P>,
    stream: &[u8],
    cut: &Cut,
    manner: Manner,
) -> Client<'f, P> {
    let client = match manner {
        Manner::EndsLater | Manner::EndsAtOnce => net.connect(),
        Manner::ReadsLate => net.client().stopped().connect(),
        Manner::ReadsBytewise => net.client().buffer_bytes(1).stopped().connect(),
    };
    let mut rest = stream;
    let mut sent = 0;
    for &place in &cut.places {
        let (piece, others) = rest.split_at(place - sent);
        client.send(piece);
        (rest, sent) = (others, place);
    }
    match manner {
        Manner::EndsLater => {
            client.send(rest);
            client.end();
        }
        Manner::EndsAtOnce | Manner::ReadsLate | Manner::ReadsBytewise => client.send_and_end(rest),
    }
    client.resume_reading();
    client
}

/// The client goes away in the middle, by a reset or by closing.
fn break_off<'f, P: Protocol + 'f>(net: &Loop<'f, P>, stream: &[u8], answer: &[u8]) {
    let clients = [net.connect(), net.connect(), net.client().buffer_bytes(1).stopped().connect()];
    for client in &clients {
        client.send(stream);
    }
    for client in &clients[..2] {
        assert!(answer.starts_with(&client.received()), "what has come is not the beginning of the answer");
    }
    clients[0].reset();
    clients[1].close();
    clients[2].close();
    net.advance(LONG);
    assert!(clients.iter().all(|client| !client.is_open()), "a connection has not ended");
}

/// Says what was done when it panics.
fn told(act: impl FnOnce(), what: impl FnOnce() -> String) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
        eprintln!("every_cut: {}", what());
        resume_unwind(panic);
    }
}
