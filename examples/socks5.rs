//! A SOCKS5 proxy (RFC 1928): CONNECT to IPv4, IPv6 and names, without authentication.
//!
//! ```sh
//! cargo run --release --example socks5 -- 127.0.0.1:1080
//! curl --socks5-hostname 127.0.0.1:1080 http://localhost/
//! ```
//!
//! BIND and UDP ASSOCIATE are refused. A client has 10 s to say what it wants, and its destination has 10 s to answer.
//!
//! Whoever reaches the proxy is served, and may connect to whatever the proxy can reach. So let it listen on addresses
//! that only trusted clients reach.

use std::{env, io::ErrorKind, net::SocketAddr, process::ExitCode, time::Duration};

use echoloop::{Address, CloseReason, Context, Error, Input, Peer, Protocol, Server};

/// A client that has not said within this time what it wants is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const GENERAL_FAILURE: u8 = 1;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;

/// One side of a connection through the proxy: what has to come from it before both are relayed.
pub(crate) enum Side {
    Greeting,
    Request,
    Nothing,
}

/// Takes `N` bytes off the beginning, if there are so many.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.first_chunk().copied()
}

/// Takes a greeting: whether the client goes without authentication. `None` while it is incomplete.
fn take_greeting(bytes: &mut &[u8]) -> Option<bool> {
    let [version, count] = take(bytes)?;
    Some(bytes.split_off(..count.into())?.contains(&NO_AUTHENTICATION) && version == VERSION)
}

/// Takes a request: where it wants to be connected to, or the reply that refuses it. `None` while it is incomplete.
fn take_request(bytes: &mut &[u8]) -> Option<Result<Address, u8>> {
    let [VERSION, command, _reserved, kind] = take(bytes)? else { return Some(Err(GENERAL_FAILURE)) };
    Some(match kind {
        _ if command != CONNECT => Err(COMMAND_NOT_SUPPORTED),
        IPV4 => Ok(SocketAddr::from((take::<4>(bytes)?, u16::from_be_bytes(take(bytes)?))).into()),
        IPV6 => Ok(SocketAddr::from((take::<16>(bytes)?, u16::from_be_bytes(take(bytes)?))).into()),
        NAME => {
            let [length] = take(bytes)?;
            let name = str::from_utf8(bytes.split_off(..length.into())?).unwrap_or_default();
            Address::host(name, u16::from_be_bytes(take(bytes)?)).or(Err(GENERAL_FAILURE))
        }
        _ => Err(ADDRESS_TYPE_NOT_SUPPORTED),
    })
}

/// Refuses a request with this code (RFC 1928, section 6).
fn refuse(code: u8, cx: &mut Context<'_>) {
    cx.write(&[VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]);
    cx.finish();
}

impl Protocol for Side {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Self::Greeting = self {
            cx.set_timer(0, HANDSHAKE_TIMEOUT);
        }
    }

    /// The whole handshake stays in the input until its last byte has come. What is behind it stays there too, and is
    /// passed on when both sides are relayed.
    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let mut rest = if let Self::Nothing = self { &[] } else { input.bytes() };
        let Some(is_acceptable) = take_greeting(&mut rest) else { return };
        if let Self::Greeting = self {
            cx.write(&[VERSION, if is_acceptable { NO_AUTHENTICATION } else { NO_ACCEPTABLE_METHOD }]);
            *self = Self::Request;
        }
        if !is_acceptable {
            return cx.finish();
        }
        let Some(request) = take_request(&mut rest) else { return };
        input.consume(input.bytes().len() - rest.len());
        *self = Self::Nothing;
        cx.cancel_timer(0);
        let wanted = request.and_then(|address| cx.connect(address, 0).or(Err(GENERAL_FAILURE)));
        wanted.unwrap_or_else(|code| refuse(code, cx));
    }

    /// The end is passed on too.
    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_>) {
        if let Self::Greeting | Self::Request = self {
            cx.finish();
        }
    }

    fn on_connected(&mut self, _: u64, destination: &Peer<'_>, cx: &mut Context<'_>) {
        let Ok(Address::Ip(local)) = destination.local_addr() else { return cx.abort() };
        let (kind, ip) = match local {
            SocketAddr::V4(local) => (IPV4, local.ip().octets().to_vec()),
            SocketAddr::V6(local) => (IPV6, local.ip().octets().to_vec()),
        };
        cx.write(&[&[VERSION, 0, 0, kind], &ip[..], &local.port().to_be_bytes()].concat());
        cx.relay(destination.id);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "RFC 1928 has no other replies")]
    fn on_connect_failed(&mut self, _: u64, reason: &CloseReason, cx: &mut Context<'_>) {
        use CloseReason::{ConnectFailed, ConnectTimeout};
        let code = match reason {
            ConnectFailed(ErrorKind::NetworkUnreachable) => 3,
            ConnectFailed(ErrorKind::HostUnreachable | ErrorKind::NotFound) | ConnectTimeout => 4,
            ConnectFailed(ErrorKind::ConnectionRefused) => 5,
            _ => GENERAL_FAILURE,
        };
        refuse(code, cx);
    }

    /// A drain lets both sides come to their ends by themselves, as long as the drain timeout allows.
    fn on_drain(&mut self, _: &mut Context<'_>) {}
}

fn run(address: &str) -> Result<(), Error> {
    let server = Server::builder().bind([address])?;
    println!("listening on {}", server.local_addrs()[0]);
    server.run(|peer| Some(peer.requested_by.map_or(Side::Greeting, |_| Side::Nothing))).map(drop)
}

fn main() -> ExitCode {
    let Some(address) = env::args().nth(1) else {
        eprintln!("usage: socks5 ADDR");
        return ExitCode::from(2);
    };
    if let Err(error) = run(&address) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
