//! A relay of echoloop as its documentation shows it, with every limit at its default.

use std::{io, net::SocketAddr};

use echoloop::{
    Address, CloseReason, ConnectionId, Context, Input, Origin, Peer, Protocol, Server,
    raise_descriptor_limit,
};

use crate::servers::common::announce;

pub(super) fn run(upstream: SocketAddr) -> io::Result<()> {
    raise_descriptor_limit()?;
    let server = Server::builder().bind(["127.0.0.1:0"]).map_err(io::Error::other)?;
    if let [Address::Ip(address)] = server.local_addrs() {
        announce(*address)?;
    }
    server.run(move |peer| Some(Side::of(peer, upstream))).map_err(io::Error::other)?;
    Ok(())
}

/// One side of a proxied connection.
enum Side {
    /// A client, for which the upstream is wanted.
    Client { upstream: SocketAddr },
    /// The connection to the upstream that this client has asked for.
    Upstream { client: ConnectionId },
}

impl Side {
    fn of(peer: &Peer<'_>, upstream: SocketAddr) -> Self {
        match (peer.origin, peer.requested_by) {
            (Origin::Connect(_), Some(client)) => Self::Upstream { client },
            _ => Self::Client { upstream },
        }
    }
}

impl Protocol for Side {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Client { upstream } => {
                cx.pause_reading();
                if cx.connect(Address::Ip(*upstream), 0).is_err() {
                    cx.abort();
                }
            }
            Self::Upstream { client } => cx.relay(*client),
        }
    }

    fn on_connect_failed(&mut self, _: u64, _: &CloseReason, cx: &mut Context<'_>) {
        cx.abort();
    }

    /// Not while it is paused, nor when it is relayed.
    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}
