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
//! The upstream's name is looked up for each client, and its addresses are tried in turn. They have 5 s to answer. A client for
//! whom none answers is reset.

use std::{env, error::Error, process::ExitCode, time::Duration};

use echoloop::{Address, CloseReason, Config, Context, Input, Peer, Protocol, Server};

/// One side of a proxied connection.
pub(crate) enum Side<'a> {
    /// A client, for which a connection to this address is wanted.
    Client { upstream: &'a Address },
    /// The connection to the upstream.
    Upstream,
}

impl<'a> Side<'a> {
    pub(crate) fn of(peer: &Peer<'_>, upstream: &'a Address) -> Self {
        if peer.requested_by.is_some() { Self::Upstream } else { Self::Client { upstream } }
    }
}

impl Protocol for Side<'_> {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Self::Client { upstream } = *self
            && let Err(error) = cx.connect(upstream.clone(), 0)
        {
            eprintln!("{}: {error}", cx.id());
            cx.abort();
        }
    }

    fn on_connected(&mut self, _: u64, upstream: &Peer<'_>, cx: &mut Context<'_>) {
        cx.relay(upstream.id);
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        eprintln!("{}: no upstream: {reason}", cx.id());
        // Nothing of what it sent arrived anywhere; a FIN would say that all is well.
        cx.abort();
    }

    /// What comes before they are relayed is left, and passed on then.
    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    /// So is the end.
    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    /// A drain lets both sides come to their ends by themselves, as long as the drain timeout allows.
    fn on_drain(&mut self, _: &mut Context<'_>) {}
}

fn run(listen: &str, upstream: &str) -> Result<(), Box<dyn Error>> {
    let upstream = upstream.parse()?;
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
