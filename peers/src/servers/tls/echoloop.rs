//! echoloop as its documentation shows it, with every limit at its default.

use std::io;

use echoloop::{Address, Echo, Server};

use crate::servers::{common::announce, tls::config_with_tickets};

pub(super) fn run() -> io::Result<()> {
    echoloop::raise_descriptor_limit()?;
    let builder = Server::builder().listen_tls("127.0.0.1:0", config_with_tickets()?);
    let server = builder.bind([] as [&str; 0]).map_err(io::Error::other)?;
    if let [Address::Ip(address)] = server.local_addrs() {
        announce(*address)?;
    }
    server.run(|_| Some(Echo)).map_err(io::Error::other)?;
    Ok(())
}
