//! `socks5` with curl and nc, and byte by byte.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    process::Command,
    sync::mpsc::channel,
    thread,
};

use super::{filter, is_installed, netcat};
use crate::util::{self, DEADLINE, Ended, Program};

/// A greeting that offers no authentication, and the server's answer to it.
const GREETING: &[u8] = &[5, 1, 0];
const WELCOME: &[u8] = &[5, 0];

const CONNECT: u8 = 1;
const BIND: u8 = 2;
const UDP_ASSOCIATE: u8 = 3;

/// Where a request may want to go.
#[derive(Clone, Copy)]
enum To<'a> {
    Address(SocketAddr),
    Name(&'a [u8], u16),
}

fn start() -> Option<(Program, SocketAddr)> {
    super::server("socks5")
}

fn request(command: u8, to: To<'_>) -> Vec<u8> {
    let mut bytes = vec![5, command, 0];
    let port = match to {
        To::Address(SocketAddr::V4(address)) => {
            bytes.push(1);
            bytes.extend(address.ip().octets());
            address.port()
        }
        To::Address(SocketAddr::V6(address)) => {
            bytes.push(4);
            bytes.extend(address.ip().octets());
            address.port()
        }
        To::Name(name, port) => {
            bytes.extend([3, u8::try_from(name.len()).expect("a short name")]);
            bytes.extend(name);
            port
        }
    };
    bytes.extend(port.to_be_bytes());
    bytes
}

/// The next reply: its code, and the address that it names.
#[track_caller]
fn read_reply_and_address(mut stream: impl Read) -> (u8, SocketAddr) {
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("a reply");
    let [version, code, reserved, kind] = head;
    assert_eq!((version, reserved), (5, 0), "{head:?}");
    let ip = match kind {
        1 => IpAddr::from(read_array::<4>(&mut stream)),
        4 => IpAddr::from(read_array::<16>(&mut stream)),
        _ => panic!("an address of the kind {kind}"),
    };
    (code, SocketAddr::new(ip, u16::from_be_bytes(read_array(stream))))
}

#[track_caller]
fn read_array<const N: usize>(mut stream: impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).expect("an address and a port");
    bytes
}

/// The code of the next reply.
#[track_caller]
fn read_reply(stream: impl Read) -> u8 {
    read_reply_and_address(stream).0
}

/// A client that is connected through the proxy.
#[track_caller]
fn through(proxy: SocketAddr, to: To<'_>) -> TcpStream {
    let mut stream = util::connect(proxy);
    stream.write_all(GREETING).expect("greet");
    util::expect_bytes(&stream, WELCOME);
    stream.write_all(&request(CONNECT, to)).expect("ask");
    assert_eq!(read_reply(&stream), 0);
    stream
}

/// The reply with which a request is refused, and that nothing but the end follows it.
#[track_caller]
fn refusal(proxy: SocketAddr, request: &[u8]) -> u8 {
    let mut stream = util::connect(proxy);
    stream.write_all(GREETING).expect("greet");
    util::expect_bytes(&stream, WELCOME);
    stream.write_all(request).expect("ask");
    let code = read_reply(&stream);
    assert_eq!(util::read_to_end(&stream), b"");
    code
}

/// A server that does this with each client.
fn upstream(serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    util::serve_on("127.0.0.1:0", serve)
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}

/// An address on which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address")
}

/// Answers `GET /COUNT` with so many bytes.
fn serve_http(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
    let body = util::pattern(1, path[1..].parse().expect("a count"));
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)
}

/// `curl`, through the proxy that `option` names, for so many bytes of a server.
fn curl(option: &str, proxy: SocketAddr, host: &str, bytes: usize) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", ""]);
    command.args([option, &proxy.to_string(), &format!("http://{host}/{bytes}")]);
    command
}

#[test]
fn curl_gets_a_page_by_address_and_by_name() {
    if !is_installed("curl") {
        return;
    }
    let Some((_program, proxy)) = start() else { return };
    let port = upstream(serve_http).port();
    for (option, host) in [
        ("--socks5", "127.0.0.1"),
        // curl looks the name up.
        ("--socks5", "localhost"),
        // The proxy does.
        ("--socks5-hostname", "localhost"),
        ("--socks5-hostname", "127.0.0.1"),
    ] {
        let page = filter(curl(option, proxy, &format!("{host}:{port}"), 100), b"");
        assert!(page == util::pattern(1, 100), "{option} {host}");
    }
}

#[test]
fn curl_gets_a_page_by_ipv6() {
    if !is_installed("curl") {
        return;
    }
    if TcpListener::bind("[::1]:0").is_err() {
        return util::skip("no IPv6 here");
    }
    let Some((_program, proxy)) = start() else { return };
    let port = util::serve_on("[::1]:0", serve_http).port();
    for option in ["--socks5", "--socks5-hostname"] {
        let page = filter(curl(option, proxy, &format!("[::1]:{port}"), 100), b"");
        assert!(page == util::pattern(1, 100), "{option}");
    }
}

#[test]
fn curl_gets_a_large_file() {
    const BYTES: usize = 32 << 20;
    if !is_installed("curl") {
        return;
    }
    let Some((_program, proxy)) = start() else { return };
    let host = upstream(serve_http).to_string();
    assert!(filter(curl("--socks5", proxy, &host, BYTES), b"") == util::pattern(1, BYTES));
}

#[test]
fn curl_is_told_that_a_port_refuses() {
    if !is_installed("curl") {
        return;
    }
    let Some((_program, proxy)) = start() else { return };
    let ended = Ended::run(&mut curl("--socks5", proxy, &nobody().to_string(), 1));
    // CURLE_PROXY, and the reply's code.
    assert_eq!(ended.status.code(), Some(97), "{ended:?}");
    assert!(ended.stderr.contains("(5)"), "{ended:?}");
}

#[test]
fn nc_half_closes_and_gets_its_whole_echo() {
    let Some((_program, proxy)) = start() else { return };
    let Some(mut nc) = netcat(upstream(echo)) else { return };
    let help = Command::new("nc").arg("-h").output().expect("nc -h");
    if !String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("-X proto") {
        return util::skip("this nc knows no proxies");
    }
    nc.args(["-X", "5", "-x", &proxy.to_string()]);
    let bytes = util::pattern(2, 1 << 20);
    assert!(filter(nc, &bytes) == bytes);
}

#[test]
fn a_half_closed_client_gets_its_whole_answer() {
    let Some((_program, proxy)) = start() else { return };
    let server = upstream(|mut stream| {
        // It answers only at the end.
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)?;
        stream.shutdown(Shutdown::Write)
    });
    let stream = through(proxy, To::Address(server));
    util::send_and_read(&stream, &util::pattern(3, 8 << 20));
}

#[test]
fn an_answer_is_whole_though_the_client_still_sends() {
    const ANSWER: usize = 2 << 20;
    let Some((_program, proxy)) = start() else { return };
    let server = upstream(|mut stream| {
        stream.read_exact(&mut [0])?;
        stream.write_all(&vec![b'r'; ANSWER])?;
        stream.shutdown(Shutdown::Write)?;
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    });
    let stream = through(proxy, To::Address(server));
    let sender = stream.try_clone().expect("clone");
    let sending = thread::spawn(move || {
        for _ in 0..64 {
            (&sender).write_all(&[b's'; 64 << 10]).expect("the proxy still receives");
        }
        sender.shutdown(Shutdown::Write).expect("shutdown");
    });
    assert_eq!(util::read_to_end(&stream).len(), ANSWER);
    sending.join().expect("sent");
}

#[test]
fn names_are_looked_up_and_their_addresses_tried_in_turn() {
    let Some((_program, proxy)) = start() else { return };
    for address in ("localhost", 0).to_socket_addrs().expect("addresses") {
        // Nobody listens on the others.
        let server = util::serve_on(&address.to_string(), echo);
        util::send_and_read(&through(proxy, To::Name(b"localhost", server.port())), b"hello");
    }
    util::send_and_read(&through(proxy, To::Name(b"127.0.0.1", upstream(echo).port())), b"hello");
}

#[test]
fn everything_in_one_segment_is_served() {
    let Some((_program, proxy)) = start() else { return };
    let mut stream = util::connect(proxy);
    let asked = request(CONNECT, To::Address(upstream(echo)));
    stream.write_all(&[GREETING, &asked, b"hello"].concat()).expect("write");
    util::expect_bytes(&stream, WELCOME);
    assert_eq!(read_reply(&stream), 0);
    util::expect_bytes(&stream, b"hello");
    assert_eq!(util::finish(&stream), b"");
}

#[test]
fn a_client_that_has_ended_before_the_connection_is_there_gets_its_answer() {
    let Some((_program, proxy)) = start() else { return };
    let mut stream = util::connect(proxy);
    let asked = request(CONNECT, To::Address(upstream(echo)));
    stream.write_all(&[GREETING, &asked, b"hello"].concat()).expect("write");
    let all = util::finish(&stream);
    let mut rest = all.strip_prefix(WELCOME).expect("a welcome");
    assert_eq!(read_reply(&mut rest), 0);
    assert_eq!(rest, b"hello");
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let Some((_program, proxy)) = start() else { return };
    let server = upstream(echo);
    for to in [To::Address(server), To::Name(b"localhost", server.port())] {
        let mut stream = util::connect(proxy);
        // The second of two methods is the one that fits.
        for byte in [5, 2, 2, 0] {
            stream.write_all(&[byte]).expect("write");
        }
        util::expect_bytes(&stream, WELCOME);
        for byte in request(CONNECT, to) {
            stream.write_all(&[byte]).expect("write");
        }
        assert_eq!(read_reply(&stream), 0);
        util::send_and_read(&stream, b"hello");
    }
}

#[test]
fn commands_other_than_connect_are_refused() {
    let Some((_program, proxy)) = start() else { return };
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    for command in [BIND, UDP_ASSOCIATE, 0, 4, 255] {
        assert_eq!(refusal(proxy, &request(command, To::Address(any))), 7, "command {command}");
    }
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    assert_eq!(refusal(proxy, &request(BIND, To::Address(six))), 7);
    assert_eq!(refusal(proxy, &request(BIND, To::Name(b"localhost", 80))), 7);
}

#[test]
fn the_reply_says_from_which_address_the_proxy_connects() {
    let Some((_program, proxy)) = start() else { return };
    for own in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(upstream) = TcpListener::bind(own) else { continue };
        let mut stream = util::connect(proxy);
        stream.write_all(GREETING).expect("greet");
        util::expect_bytes(&stream, WELCOME);
        let to = To::Address(upstream.local_addr().expect("an address"));
        stream.write_all(&request(CONNECT, to)).expect("ask");
        let (_connection, from) = upstream.accept().expect("accept");
        assert_eq!(read_reply_and_address(&stream), (0, from));
    }
}

#[test]
fn kinds_of_addresses_that_do_not_exist_are_refused() {
    let Some((_program, proxy)) = start() else { return };
    for kind in [0, 2, 5, 255] {
        assert_eq!(refusal(proxy, &[5, CONNECT, 0, kind, 127, 0, 0, 1, 0, 80]), 8, "kind {kind}");
    }
}

#[test]
fn failures_to_connect_have_their_replies() {
    let Some((_program, proxy)) = start() else { return };
    assert_eq!(refusal(proxy, &request(CONNECT, To::Address(nobody()))), 5);
    if cfg!(target_os = "linux") {
        // Loopback's broadcast address: ENETUNREACH for TCP.
        let broadcast = SocketAddr::from(([127, 255, 255, 255], 80));
        assert_eq!(refusal(proxy, &request(CONNECT, To::Address(broadcast))), 3);
    }
    if cfg!(target_os = "linux") && TcpListener::bind("[::1]:0").is_ok() {
        // Without an interface: EINVAL.
        let link_local = SocketAddr::from((Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 80));
        assert_eq!(refusal(proxy, &request(CONNECT, To::Address(link_local))), 1);
    }
}

#[test]
fn names_without_an_address_are_refused() {
    let Some((_program, proxy)) = start() else { return };
    // No label has more than 63 bytes, and no host's name is empty or other than text: nobody is asked.
    for name in [&[b'a'; 64][..], b"", b"\xff\xfe"] {
        let code = refusal(proxy, &request(CONNECT, To::Name(name, 80)));
        assert!(matches!(code, 1 | 4), "{name:?}: {code}");
    }
}

#[test]
fn a_refusal_arrives_though_the_client_has_sent_more() {
    let Some((_program, proxy)) = start() else { return };
    let mut stream = util::connect(proxy);
    let asked = request(CONNECT, To::Address(nobody()));
    stream.write_all(&[GREETING, &asked, &[b's'; 100_000]].concat()).expect("write");
    util::expect_bytes(&stream, WELCOME);
    assert_eq!(read_reply(&stream), 5);
    assert_eq!(util::finish(&stream), b"");
}

#[test]
fn clients_that_want_another_method_are_told_that_there_is_none() {
    let Some((_program, proxy)) = start() else { return };
    for greeting in [&[5, 1, 2][..], &[5, 2, 1, 2], &[5, 1, 255], &[5, 0]] {
        let mut stream = util::connect(proxy);
        stream.write_all(greeting).expect("greet");
        assert_eq!(util::read_to_end(&stream), [5, 255], "{greeting:?}");
    }
}

#[test]
fn other_versions_are_not_served() {
    let Some((_program, proxy)) = start() else { return };
    let server = upstream(echo);
    let to = request(CONNECT, To::Address(server));
    let of_version = |version: u8, bytes: &[u8]| [&[version], &bytes[1..]].concat();
    for version in [0, 4, 6, b'G', 255] {
        let mut stream = util::connect(proxy);
        stream.write_all(&of_version(version, GREETING)).expect("greet");
        let said = util::finish(&stream);
        assert!(said.is_empty() || said == [5, 255], "version {version}: {said:?}");

        let mut stream = util::connect(proxy);
        stream.write_all(&[GREETING, &of_version(version, &to), b"hello"].concat()).expect("write");
        let said = util::finish(&stream);
        let reply = said.strip_prefix(WELCOME).expect("a welcome");
        assert!(reply.is_empty() || reply.starts_with(&[5, 1, 0]), "version {version}: {said:?}");
    }
}

#[test]
fn a_client_that_ends_within_its_handshake_is_ended() {
    let Some((_program, proxy)) = start() else { return };
    let whole = [GREETING, &request(CONNECT, To::Name(b"localhost", 80))].concat();
    for length in 0..whole.len() {
        let mut stream = util::connect(proxy);
        stream.write_all(&whole[..length]).expect("write");
        let said = util::finish(&stream);
        assert!(said.is_empty() || said == WELCOME, "{length}: {said:?}");
    }
}

#[test]
fn an_upstream_that_resets_resets_the_client() {
    let Some((_program, proxy)) = start() else { return };
    let server = upstream(|mut stream| {
        stream.write_all(b"half of a")?;
        stream.read_exact(&mut [0; 7])?;
        util::reset(stream);
        Ok(())
    });
    let mut stream = through(proxy, To::Address(server));
    util::expect_bytes(&stream, b"half of a");
    stream.write_all(b"go on!\n").expect("send");
    assert_eq!(util::read_to_reset(&stream), b"");
}

#[test]
fn a_client_that_resets_resets_the_upstream() {
    let Some((_program, proxy)) = start() else { return };
    let (tell, told) = channel();
    let server = upstream(move |mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"hello")?;
        let outcome = std::io::copy(&mut stream, &mut std::io::sink()).map_err(|error| error.kind());
        tell.send(outcome).expect("the test waits");
        Ok(())
    });
    let mut stream = through(proxy, To::Address(server));
    util::expect_bytes(&stream, b"hello");
    stream.write_all(b"a part").expect("send");
    util::reset(stream);
    let outcome = told.recv_timeout(DEADLINE).expect("the upstream is told");
    assert_eq!(outcome, Err(std::io::ErrorKind::ConnectionReset));
}
