//! echoloop as its documentation shows it, with every limit at its default.

use std::io;

use echoloop::{Address, Context, Echo, Input, Peer, Protocol, Server};

use super::{Mode, announce, reply};

pub(super) fn run(mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Echo => serve(|_| Some(Echo)),
        Mode::Reply => serve(|_| Some(Reply)),
    }
}

fn serve<P, F>(factory: F) -> io::Result<()>
where
    P: Protocol + 'static,
    F: Fn(&Peer<'_>) -> Option<P> + Send + Sync + 'static,
{
    echoloop::raise_descriptor_limit()?;
    let server = Server::builder().bind(["127.0.0.1:0"]).map_err(io::Error::other)?;
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
