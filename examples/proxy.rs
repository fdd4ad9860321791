//! A TCP proxy to a fixed upstream: what comes from a client goes there, what comes back goes to the client.
//!
//! ```sh
//! cargo run --release --example proxy -- 127.0.0.1:8000 127.0.0.1:27015
//! ```
//!
//! Each half ends on its own: a client that half-closes still gets its whole answer. Where one side receives
//! slowly the other is read no faster, and a side that is reset has the other reset too, so that a truncated stream never looks
//! whole. A client whose upstream refuses, or does not answer within 5 s, is reset.

use std::{env, error::Error, process::ExitCode, time::Duration};

use echoloop::{Address, CloseReason, Config, ConnectionId, Context, Input, Origin, Peer, Protocol, Server};

/// One side of a proxied connection.
pub(crate) enum Side {
    /// A client, for which the upstream is wanted.
    Client { upstream: Address },
    /// The connection to the upstream that this client has asked for.
    Upstream { client: ConnectionId },
}

impl Side {
    pub(crate) fn of(peer: &Peer<'_>, upstream: &Address) -> Self {
        match (peer.origin, peer.requested_by) {
            (Origin::Connect(_), Some(client)) => Self::Upstream { client },
            _ => Self::Client { upstream: upstream.clone() },
        }
    }
}

impl Protocol for Side {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Client { upstream } => {
                // What it sends meanwhile waits in the kernel, its end too.
                cx.pause_reading();
                if let Err(error) = cx.connect(upstream.clone(), 0) {
                    eprintln!("{}: {error}", cx.id());
                    cx.abort();
                }
            }
            Self::Upstream { client } => cx.relay(*client),
        }
    }

    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        eprintln!("{}: no upstream: {reason}", cx.id());
        // Nothing of what it sent arrived anywhere; a FIN would say that all is well.
        cx.abort();
    }

    /// Not while it is paused, nor when it is relayed.
    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    /// A drain lets both sides come to their ends by themselves, as long as the drain timeout allows.
    fn on_drain(&mut self, _: &mut Context<'_>) {}
}

fn run(listen: &str, upstream: &str) -> Result<(), Box<dyn Error>> {
    let upstream = upstream.parse::<Address>()?.resolve()?.into_iter().next().ok_or("no address")?;
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
