//! A SOCKS5 proxy (RFC 1928) on tokio: CONNECT without authentication.
//!
//! ```sh
//! cargo run --release --manifest-path peers/Cargo.toml --example socks5 -- 127.0.0.1:1080
//! curl --socks5-hostname 127.0.0.1:1080 http://localhost/
//! ```

use std::{
    env,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, lookup_host},
    time,
};

/// A client that has not said within this time what it wants is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// So is a destination that has not answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused client may take to end.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The reply to a request.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Succeeded = 0,
    GeneralFailure = 1,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

impl From<io::Error> for Reply {
    fn from(error: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "RFC 1928 has no other replies")]
        match error.kind() {
            ErrorKind::NetworkUnreachable => Self::NetworkUnreachable,
            ErrorKind::HostUnreachable | ErrorKind::TimedOut => Self::HostUnreachable,
            ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            _ => Self::GeneralFailure,
        }
    }
}

async fn serve(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let Some(request) = time::timeout(HANDSHAKE_TIMEOUT, handshake(&mut client)).await?? else {
        return linger(client).await;
    };
    let connected = match request {
        Ok(addresses) => connect(&addresses).await,
        Err(reply) => Err(reply),
    };
    match connected {
        Ok(upstream) => {
            send_reply(&mut client, Reply::Succeeded, upstream.local_addr()?).await?;
            relay(client, upstream).await
        }
        Err(reply) => {
            send_reply(&mut client, reply, (Ipv4Addr::UNSPECIFIED, 0).into()).await?;
            linger(client).await
        }
    }
}

/// Where the client wants to be connected to, or why it is refused; `None` if it does not speak SOCKS5 as we do.
async fn handshake(client: &mut TcpStream) -> io::Result<Option<Result<Vec<SocketAddr>, Reply>>> {
    if client.read_u8().await? != VERSION {
        return Ok(None);
    }
    let mut methods = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        client.write_all(&[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Ok(None);
    }
    client.write_all(&[VERSION, NO_AUTHENTICATION]).await?;

    let [version, command, _reserved, kind] = client.read_u32().await?.to_be_bytes();
    if version != VERSION {
        return Ok(None);
    }
    let addresses = match kind {
        IPV4 => {
            let ip = Ipv4Addr::from(client.read_u32().await?);
            Ok(vec![(ip, client.read_u16().await?).into()])
        }
        IPV6 => {
            let ip = Ipv6Addr::from(client.read_u128().await?);
            Ok(vec![(ip, client.read_u16().await?).into()])
        }
        NAME => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            let port = client.read_u16().await?;
            // Not looked up for a command that is refused.
            if command == CONNECT { look_up(&name, port).await } else { Ok(vec![]) }
        }
        _ => Err(Reply::AddressTypeNotSupported),
    };
    Ok(Some(if command == CONNECT { addresses } else { Err(Reply::CommandNotSupported) }))
}

async fn look_up(name: &[u8], port: u16) -> Result<Vec<SocketAddr>, Reply> {
    let name = str::from_utf8(name).map_err(|_| Reply::HostUnreachable)?;
    let addresses = lookup_host((name, port)).await.map_err(|_| Reply::HostUnreachable)?;
    Ok(addresses.collect())
}

/// Tries the addresses in turn.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Reply> {
    let connected = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addresses)).await;
    let upstream = connected.map_err(|_| Reply::HostUnreachable)??;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

async fn send_reply(client: &mut TcpStream, reply: Reply, bound: SocketAddr) -> io::Result<()> {
    let mut bytes = vec![VERSION, reply as u8, 0];
    match bound {
        SocketAddr::V4(address) => {
            bytes.push(IPV4);
            bytes.extend(address.ip().octets());
        }
        SocketAddr::V6(address) => {
            bytes.push(IPV6);
            bytes.extend(address.ip().octets());
        }
    }
    bytes.extend(bound.port().to_be_bytes());
    client.write_all(&bytes).await
}

/// Forwards bytes both ways. Each half ends on its own; where one side is reset the other is reset too, so that a
/// truncated stream never looks whole.
async fn relay(mut client: TcpStream, mut upstream: TcpStream) -> io::Result<()> {
    let relayed = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    if relayed.is_err() {
        client.set_zero_linger()?;
        upstream.set_zero_linger()?;
    }
    relayed.map(drop)
}

/// Ends the connection. If it were closed while the client still sends, a reset would destroy the reply in flight.
async fn linger(mut client: TcpStream) -> io::Result<()> {
    client.shutdown().await?;
    time::timeout(LINGER_TIMEOUT, tokio::io::copy(&mut client, &mut tokio::io::sink())).await??;
    Ok(())
}

async fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            // How a client ends concerns no other.
            Ok((client, _)) => drop(tokio::spawn(serve(client))),
            Err(error) => {
                eprintln!("accept: {error}");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address] = args.as_slice() else {
        eprintln!("usage: socks5 ADDR");
        return ExitCode::from(2);
    };
    match run(address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
