//! `proxy` in front of `echoloop serve`, of upstreams that misbehave, and of nothing.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use socket2::{Domain, Socket, Type};

use super::{filter, is_installed};
use crate::util::{self, DEADLINE, Ended, Program};

/// The proxy in front of `upstream`.
fn proxy(upstream: SocketAddr) -> (Program, SocketAddr) {
    let program = Program::spawn(util::example("proxy", &["127.0.0.1:0", &upstream.to_string()]));
    let address = program.listening();
    (program, address)
}

/// The server believes who each client is, and takes nobody without a header.
#[test]
fn an_upstream_that_wants_to_know_is_told_whom_each_connection_is_for() {
    let options =
        ["serve", "127.0.0.1:0", "--proxy-protocol", "127.0.0.1", "--log-closed", "--log-format", "json"];
    let mut command = util::echoloop(&options);
    command.stderr(Stdio::piped());
    let mut server = Program::spawn(command);
    let upstream = server.listening().to_string();
    let log = util::lines(server.child.stderr.take().expect("piped"));
    let arguments = ["127.0.0.1:0", &upstream, "--send-proxy-v2"];
    let proxy = Program::spawn(util::example("proxy", &arguments));
    let address = proxy.listening();
    let closed = || log.iter().find(|line| line.contains("\"reason\":")).expect("a line for each that ends");
    for size in [14, 8 << 20] {
        let client = util::connect(address);
        util::send_and_read(&client, &util::pattern(1, size));
        let (line, name) = (closed(), client.local_addr().expect("an address"));
        let figures = format!("\"peer\":\"{name}\",\"reason\":\"peer\",\"complete\":true,");
        assert!(line.contains(&figures), "{figures} is not in {line}");
        assert!(line.contains(&format!("\"received_bytes\":{size},\"sent_bytes\":{size},")), "{line}");
    }
    let (_headless, address) = self::proxy(upstream.parse().expect("an address"));
    let client = util::connect(address);
    (&client).write_all(b"no header").expect("send");
    assert_eq!(util::read_to_reset(&client), b"");
    assert!(closed().contains("\"reason\":\"proxy refused\""));
}

/// The proxy in front of an echo server.
fn proxied_echo() -> (Program, Program, SocketAddr) {
    let server = Program::start(&["serve", "127.0.0.1:0"]);
    let (proxy, address) = proxy(server.listening());
    (server, proxy, address)
}

/// The proxy in front of a server that does this with its one client.
fn proxied(serve: impl FnOnce(TcpStream) + Send + 'static) -> (Program, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || serve(listener.accept().expect("a client").0));
    proxy(address)
}

#[test]
fn a_half_closed_client_gets_all_of_its_echo() {
    let (_server, _proxy, address) = proxied_echo();
    util::send_and_read(&util::connect(address), &util::pattern(1, 8 << 20));
}

#[test]
fn a_load_generator_loses_nothing_through_it() {
    let (_server, _proxy, address) = proxied_echo();
    for load in [&["--connections", "50", "--size", "512"][..], &["--connections", "4", "--size", "256KiB"]] {
        let mut bench = util::echoloop(&["bench", &address.to_string(), "--requests", "1000"]);
        let ended = Ended::run(bench.args(load));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    let mut churn = util::echoloop(&["bench", &address.to_string(), "--requests", "300", "--churn"]);
    let ended = Ended::run(&mut churn);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn socat_gets_its_echo_through_it() {
    if !is_installed("socat") {
        return;
    }
    let (_server, _proxy, address) = proxied_echo();
    let mut socat = Command::new("socat");
    socat.args(["-t", "60", "-", &format!("TCP:{address}")]);
    assert_eq!(filter(socat, b"this is a test\n"), b"this is a test\n");
}

#[test]
fn upstreams_that_answer_and_end_at_once_are_heard_by_all_of_their_clients() {
    const CLIENTS: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let (_proxy, address) = proxy(listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for _ in 0..CLIENTS {
            let (mut upstream, _) = listener.accept().expect("a client");
            upstream.write_all(b"2026-02-03\n").expect("send");
            upstream.shutdown(Shutdown::Write).expect("shutdown");
            thread::spawn(move || std::io::copy(&mut upstream, &mut std::io::sink()));
        }
    });
    for _ in 0..CLIENTS {
        let stream = util::connect(address);
        assert_eq!(util::read_to_end(&stream), b"2026-02-03\n");
    }
}

#[test]
fn a_reply_is_whole_though_the_client_still_sends() {
    const REPLY: usize = 2 << 20;
    let (_proxy, address) = proxied(|mut upstream| {
        let mut first = [0; 1];
        upstream.read_exact(&mut first).expect("a request");
        upstream.write_all(&vec![b'r'; REPLY]).expect("reply");
        upstream.shutdown(Shutdown::Write).expect("shutdown");
        // It receives until the client is done, as the documented disconnect has it.
        let _ = std::io::copy(&mut upstream, &mut std::io::sink());
    });
    let stream = util::connect(address);
    let sender = stream.try_clone().expect("clone");
    let sending = thread::spawn(move || {
        let chunk = [b's'; 64 << 10];
        for _ in 0..64 {
            (&sender).write_all(&chunk).expect("the server still receives");
        }
        sender.shutdown(Shutdown::Write).expect("shutdown");
    });
    let reply = util::read_to_end(&stream);
    assert_eq!(reply.len(), REPLY);
    sending.join().expect("sent");
}

#[test]
fn an_upstream_that_resets_resets_the_client() {
    let (_proxy, address) = proxied(|mut upstream| {
        upstream.write_all(b"half of a").expect("send");
        let mut request = [0; 7];
        upstream.read_exact(&mut request).expect("a request");
        util::reset(upstream);
    });
    let mut stream = util::connect(address);
    let mut half = [0; 9];
    stream.read_exact(&mut half).expect("the first half");
    stream.write_all(b"go on!\n").expect("send");
    assert_eq!(util::read_to_reset(&stream), b"");
}

#[test]
fn a_client_that_resets_resets_the_upstream() {
    let (tell, told) = std::sync::mpsc::channel();
    let (_proxy, address) = proxied(move |mut upstream| {
        upstream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        upstream.write_all(b"hello").expect("send");
        let error = std::io::copy(&mut upstream, &mut std::io::sink()).map_err(|error| error.kind());
        tell.send(error).expect("the test waits");
    });
    let mut stream = util::connect(address);
    stream.read_exact(&mut [0; 5]).expect("a greeting");
    stream.write_all(b"a part").expect("send");
    util::reset(stream);
    let outcome = told.recv_timeout(DEADLINE).expect("the upstream is told");
    assert_eq!(outcome, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_client_whose_upstream_refuses_is_reset() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let (_proxy, address) = proxy(nobody);
    assert_eq!(util::read_to_reset(&util::connect(address)), b"");
}

#[test]
fn a_client_whose_upstream_does_not_answer_is_reset_in_time() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    socket.listen(0).expect("listen");
    let full = socket.local_addr().expect("an address").as_socket().expect("of IP");
    // Its backlog of one is taken, and it accepts nobody: who connects now is not answered.
    let _taken = util::connect(full);
    let (_proxy, address) = proxy(full);
    assert_eq!(util::read_to_reset(&util::connect(address)), b"");
}
