//! A TCP proxy to a fixed upstream: what comes from a client goes there, what comes back goes to the client.
//!
//! ```sh
//! cargo run --release --example proxy -- 127.0.0.1:8000 127.0.0.1:27015
//! ```
//!
//! Each half ends on its own: a client that half-closes still gets its whole answer. Where one side receives
//! slowly the other is read no faster, and a side that is reset has the other reset too, so that a truncated stream never looks
//! whole.
//!
//! The upstream's name is looked up once, at the start. For each client its addresses are tried in turn; one that does not answer
//! within 5 s is given up. A client for whom none answers is reset.

use std::{env, error::Error, process::ExitCode, slice, time::Duration};

use echoloop::{Address, CloseReason, Config, ConnectionId, Context, Input, Origin, Peer, Protocol, Server};

/// One side of a proxied connection.
pub(crate) enum Side<'a> {
    /// A client, for which the upstream is wanted; the addresses of it that have not been tried.
    Client { untried: slice::Iter<'a, Address> },
    /// The connection to the upstream that this client has asked for.
    Upstream { client: ConnectionId },
}

impl<'a> Side<'a> {
    /// `upstream` are all addresses of the upstream, the best one first.
    pub(crate) fn of(peer: &Peer<'_>, upstream: &'a [Address]) -> Self {
        match (peer.origin, peer.requested_by) {
            (Origin::Connect(_), Some(client)) => Self::Upstream { client },
            _ => Self::Client { untried: upstream.iter() },
        }
    }

    /// Asks for a connection to the next address of the upstream, or resets the client if there is none.
    fn try_next(&mut self, cx: &mut Context<'_>) {
        let Self::Client { untried } = self else { return };
        let Some(address) = untried.next() else {
            // Nothing of what it sent arrived anywhere; a FIN would say that all is well.
            return cx.abort();
        };
        if let Err(error) = cx.connect(address.clone(), 0) {
            eprintln!("{}: {error}", cx.id());
            cx.abort();
        }
    }
}

impl Protocol for Side<'_> {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Client { .. } => {
                // What it sends meanwhile waits in the kernel, its end too.
                cx.pause_reading();
                self.try_next(cx);
            }
            Self::Upstream { client } => cx.relay(*client),
        }
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        eprintln!("{}: no upstream: {reason}", cx.id());
        self.try_next(cx);
    }

    /// Not while it is paused, nor when it is relayed.
    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    /// A drain lets both sides come to their ends by themselves, as long as the drain timeout allows.
    fn on_drain(&mut self, _: &mut Context<'_>) {}
}

fn run(listen: &str, upstream: &str) -> Result<(), Box<dyn Error>> {
    let upstream = upstream.parse::<Address>()?.resolve()?;
    echoloop::raise_descriptor_limit()?;
    let mut limits = Config::default();
    limits.connect_timeout = Some(Duration::from_secs(5));
    let server = Server::builder().config(limits).bind([listen])?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    server.run(|peer| Some(Side::of(peer, &upstream)))?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [listen, upstream] = args.as_slice() else {
        eprintln!("usage: proxy ADDR UPSTREAM");
        return ExitCode::from(2);
    };
    match run(listen, upstream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
