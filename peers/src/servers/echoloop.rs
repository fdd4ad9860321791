//! echoloop as its documentation shows it, with every limit at its default.

use std::io;

use echoloop::{Address, Config, Context, Echo, Input, Peer, Protocol, Server};

use crate::servers::{
    common::announce,
    mode::{Mode, reply},
};

pub(super) fn run(mode: Mode) -> io::Result<()> {
    run_with(mode, Config::default())
}

/// The same but for the budget of a connection's turn.
pub(super) fn with_budget(mode: Mode, turn_budget_bytes: usize) -> io::Result<()> {
    let mut limits = Config::default();
    limits.turn_budget_bytes = turn_budget_bytes;
    run_with(mode, limits)
}

fn run_with(mode: Mode, limits: Config) -> io::Result<()> {
    match mode {
        Mode::Echo => serve(limits, |_| Some(Echo)),
        Mode::Reply => serve(limits, |_| Some(Reply)),
    }
}

fn serve<P, F>(limits: Config, factory: F) -> io::Result<()>
where
    P: Protocol + 'static,
    F: Fn(&Peer<'_>) -> Option<P> + Send + Sync + 'static,
{
    echoloop::raise_descriptor_limit()?;
    let server = Server::builder().config(limits).bind(["127.0.0.1:0"]).map_err(io::Error::other)?;
    if let [Address::Ip(address)] = server.local_addrs() {
        announce(*address)?;
    }
    server.run(factory).map_err(io::Error::other)?;
    Ok(())
}

struct Reply;

impl Protocol for Reply {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        input.take();
        cx.write(&reply());
        cx.finish();
    }
}
