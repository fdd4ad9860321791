//! A relay of echoloop as its documentation shows it, with every limit at its default.

use std::{io, net::SocketAddr};

use echoloop::{Address, CloseReason, Context, Input, Peer, Protocol, Server, raise_descriptor_limit};

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
    /// The connection to the upstream.
    Upstream,
}

impl Side {
    fn of(peer: &Peer<'_>, upstream: SocketAddr) -> Self {
        if peer.requested_by.is_some() { Self::Upstream } else { Self::Client { upstream } }
    }
}

impl Protocol for Side {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Self::Client { upstream } = *self
            && cx.connect(upstream.into(), 0).is_err()
        {
            cx.abort();
        }
    }

    fn on_connected(&mut self, _: u64, upstream: &Peer<'_>, cx: &mut Context<'_>) {
        cx.relay(upstream.id);
    }

    fn on_connect_failed(&mut self, _: u64, _: &CloseReason, cx: &mut Context<'_>) {
        cx.abort();
    }

    /// What comes before they are relayed is left, and passed on then.
    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    /// So is the end.
    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}
