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
//!
//! With `--send-proxy-v2` behind both addresses the upstream is told first whom each connection is for (the PROXY protocol,
//! version 2), as `echoloop serve --proxy-protocol 127.0.0.1` wants to be.

use std::{env, error::Error, io, process::ExitCode, time::Duration};

use echoloop::{Address, Boxed, CloseReason, Config, Context, Input, Peer, Protocol, ProxyHeader, Server};

/// A client, for which a connection to the upstream is wanted.
pub(crate) struct Client {
    pub(crate) upstream: Address,
    /// The upstream is told who it is.
    pub(crate) sends_header: bool,
}

impl Client {
    fn connect(&self, cx: &mut Context<'_>) -> Result<(), Box<dyn Error>> {
        let header = if self.sends_header { header(cx)? } else { Vec::new() };
        // Each address of the upstream that is tried is a connection of its own.
        let upstream = move |_: &Peer<'_>| Some(Boxed::new(Upstream { header: header.clone() }));
        Ok(cx.connect_with(self.upstream.clone(), 0, upstream)?)
    }
}

/// Whom a client is, and where it has connected to.
fn header(cx: &Context<'_>) -> io::Result<Vec<u8>> {
    Ok(ProxyHeader::encode(&cx.peer_addr()?, &cx.local_addr()?))
}

impl Protocol for Client {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Err(error) = self.connect(cx) {
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

/// The connection to the upstream. All but the header is passed on from the client, and to it.
struct Upstream {
    header: Vec<u8>,
}

impl Protocol for Upstream {
    type Message = ();

    /// Before anything of the client, which is told of this connection afterwards.
    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.write(&self.header);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_drain(&mut self, _: &mut Context<'_>) {}
}

fn run(listen: &str, upstream: &str, sends_header: bool) -> Result<(), Box<dyn Error>> {
    let upstream: Address = upstream.parse()?;
    echoloop::raise_descriptor_limit()?;
    let mut limits = Config::default();
    limits.connect_timeout = Some(Duration::from_secs(5));
    let server = Server::builder().config(limits).bind([listen])?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    server.run(|_| Some(Boxed::new(Client { upstream: upstream.clone(), sends_header })))?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        [listen, upstream] => run(listen, upstream, false),
        [listen, upstream, "--send-proxy-v2"] => run(listen, upstream, true),
        _ => {
            eprintln!("usage: proxy ADDR UPSTREAM [--send-proxy-v2]");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
