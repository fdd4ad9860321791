//! The protocols of the examples on the test kit, without sockets.

use std::{cell::RefCell, io::ErrorKind, sync::Mutex, time::Duration};

use echoloop::{
    Address, Boxed, CloseReason, Config,
    framing::Framed,
    testing::{Client, Loop},
};

use crate::http::program::connection::Http;

#[path = "../../examples/chat.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod chat;

#[path = "../../examples/memcached/main.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod memcached;

#[path = "../../examples/proxy.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod proxy;

#[path = "../../examples/rfc.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod rfc;

#[path = "../../examples/resp/main.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod resp;

#[path = "../../examples/socks5.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod socks5;

#[path = "../../examples/websocket.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is not used here")]
mod websocket;

fn proxy() -> Loop<'static, Boxed<()>> {
    proxy_to("192.0.2.1:7")
}

fn proxy_to(upstream: &str) -> Loop<'static, Boxed<()>> {
    let upstream: Address = upstream.parse().expect("an address");
    Loop::new(move |_| Some(Boxed::new(proxy::Client { upstream: upstream.clone(), sends_header: false })))
}

#[test]
fn the_proxy_passes_on_what_came_before_there_was_an_upstream_and_its_end() {
    let net = proxy();
    let client = net.connect();
    client.send_bytewise("request");
    client.end();
    let outbound = net.next_connect().expect("an upstream is wanted");
    assert_eq!(outbound.address().to_string(), "192.0.2.1:7");
    let upstream = outbound.accept();
    assert_eq!(upstream.received_text(), "request");
    assert!(upstream.has_fin());
    upstream.send("answer");
    upstream.end();
    assert_eq!(client.received_text(), "answer");
    assert!(client.has_fin());
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
    assert_eq!(upstream.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn the_proxy_resets_a_client_whose_upstream_refuses_or_never_answers() {
    let net = proxy();
    let (refused, unanswered) = (net.connect(), net.connect());
    net.next_connect().expect("an upstream is wanted").refuse(ErrorKind::ConnectionRefused);
    assert!(refused.was_reset() && !refused.has_fin());
    let _pending = net.next_connect().expect("another one is wanted");
    net.advance(Config::default().connect_timeout.expect("there is one"));
    assert!(unanswered.was_reset() && !unanswered.has_fin());
}

#[test]
fn the_proxy_tries_every_address_of_its_upstream_in_turn() {
    let addresses = ["[2001:db8::1]:7", "192.0.2.1:7", "192.0.2.2:7"];
    let net = proxy_to("upstream.example:7");
    let look_up = || {
        let lookup = net.next_lookup().expect("the name is looked up");
        lookup.answer(addresses.map(|address| address.parse().expect("an address")));
    };
    let client = net.connect();
    client.send("request");
    look_up();
    let next = |address: &str| {
        let outbound = net.next_connect().expect("an address is tried");
        assert_eq!(outbound.address().to_string(), address);
        outbound
    };
    next(addresses[0]).refuse(ErrorKind::NetworkUnreachable);
    // This one does not answer, and has half of the time that is left.
    let _pending = next(addresses[1]);
    net.advance(Config::default().connect_timeout.expect("there is one") / 2);
    let upstream = next(addresses[2]).accept();
    assert_eq!(upstream.received_text(), "request");
    upstream.send("answer");
    assert!(client.received_text() == "answer" && client.is_open());

    let unlucky = net.connect();
    look_up();
    for address in addresses {
        next(address).refuse(ErrorKind::ConnectionRefused);
    }
    assert!(unlucky.was_reset() && !unlucky.has_fin());
}

#[test]
fn the_proxy_reads_no_faster_than_the_other_side_receives() {
    let net = proxy();
    let client = net.connect();
    let upstream = net.next_connect().expect("an upstream is wanted").buffer_bytes(1000).stopped().accept();
    client.send(vec![7; 1 << 20]);
    assert!(upstream.queued() <= Config::default().high_water_bytes);
    assert!(client.unread() > 900_000);
    upstream.resume_reading();
    assert_eq!(upstream.received().len(), 1 << 20);
}

#[test]
fn the_proxy_passes_a_reset_on_and_a_drain_waits_for_both() {
    let net = proxy();
    let (one, other) = (net.connect(), net.connect());
    let upstreams = || net.next_connect().expect("an upstream is wanted").accept();
    let (upstream_of_one, upstream_of_other) = (upstreams(), upstreams());
    upstream_of_one.reset();
    assert!(one.was_reset());
    net.drain();
    net.advance(Duration::from_secs(1));
    other.send("still there");
    assert_eq!(upstream_of_other.received_text(), "still there");
    other.end();
    upstream_of_other.end();
    assert!(net.is_finished());
    assert_eq!(net.stats().closed(CloseReason::DrainTimeout), 0);
}

#[test]
fn chargen_follows_the_ring_for_as_long_as_its_client_reads() {
    let service = rfc::Service::ALL[4];
    let net = Loop::new(move |_| Some(service));
    let client = net.client().buffer_bytes(74 * 95).stopped().connect();
    let lines = String::from_utf8(client.read(74 * 95)).expect("text");
    let lines: Vec<&str> = lines.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 95);
    assert!(lines.iter().all(|line| line.len() == 72));
    assert!(lines.windows(2).all(|pair| pair[0][1..] == pair[1][..71]));
    assert!(client.queued() <= Config::default().high_water_bytes + 74);
    client.end();
    while !client.read(1 << 20).is_empty() {}
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

fn resp() -> Loop<'static, resp::Session<'static>> {
    let store: &'static _ = Box::leak(Box::new(Mutex::new(resp::store::Store::new(1 << 20))));
    Loop::new(move |_| Some(resp::Session::new(store)))
}

#[test]
fn resp_answers_commands_in_any_pieces_in_order() {
    let net = resp();
    let (one, other) = (net.connect(), net.connect());
    let commands = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\nGET k\r\nINCR n\r\nINCR n\r\n";
    one.send_bytewise(commands);
    assert_eq!(one.received_text(), "+OK\r\n$5\r\nvalue\r\n:1\r\n:2\r\n");
    other.send("GET k\r\n*1\r\n$-7\r\n");
    let answers = other.received_text();
    assert!(answers.starts_with("$5\r\nvalue\r\n-ERR Protocol error: "), "{answers}");
    assert!(other.has_fin() && one.is_open());
}

#[test]
fn resp_closes_what_speaks_http_and_answers_nothing_more() {
    for request in [
        "POST / HTTP/1.1\r\nSET k stolen\r\n",
        "post\r\nSET k stolen\r\n",
        "*1\r\n$4\r\nPOST\r\nSET k stolen\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\nSET k stolen\r\n",
        "HOST: x\nSET k stolen\n",
    ] {
        let net = resp();
        let (browser, other) = (net.connect(), net.connect());
        browser.send(request);
        assert!(browser.was_reset(), "{request:?}: {}", browser.received_text());
        assert_eq!(browser.close_reason(), Some(CloseReason::Aborted), "{request:?}");
        other.send("GET k\r\n*2\r\n$4\r\nECHO\r\n$5\r\nHost:\r\n");
        assert_eq!(other.received_text(), "$-1\r\n$5\r\nHost:\r\n", "{request:?}");
    }
}

#[test]
fn resp_has_room_for_a_value_where_everything_else_has_expired() {
    let net = resp();
    let client = net.connect();
    let small: String = (0..7000).map(|key| format!("SET {key} value PX 2000\r\n")).collect();
    client.send(small);
    let big = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$50000\r\n{}\r\n", "v".repeat(50_000));
    let _ = client.received();
    client.send(&big);
    assert!(client.received_text().starts_with("-OOM "));
    net.advance(Duration::from_secs(3));
    client.send(&big);
    assert_eq!(client.received_text(), "+OK\r\n");
}

#[test]
fn resp_does_no_more_than_its_client_takes() {
    let net = resp();
    net.connect().send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000\r\n{}\r\n", "v".repeat(10_000)));
    let client = net.client().buffer_bytes(1000).stopped().connect();
    client.send("GET k\r\n".repeat(500));
    assert!(client.queued() < Config::default().high_water_bytes + 11_000, "{}", client.queued());
    client.resume_reading();
    assert_eq!(client.received().len(), 500 * 10_010);
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

type Member = Framed<chat::Member<'static>>;

/// A room with members of these names, who have read what they were told so far.
fn room<const N: usize>(
    policy: chat::Policy,
    nicks: [&str; N],
) -> (Loop<'static, Member>, [Client<'static, Member>; N]) {
    let room: &'static _ = Box::leak(Box::new(chat::Room::new(policy)));
    let net = Loop::new(|peer| Some(Framed::new(chat::Member::new(room, peer.id))));
    let members = nicks.map(|nick| joins(&net, nick));
    for member in &members {
        let _ = member.received();
    }
    (net, members)
}

fn joins<'f>(net: &Loop<'f, Member>, nick: &str) -> Client<'f, Member> {
    let member = net.connect();
    member.send_bytewise(format!("{nick}\r\n"));
    assert!(member.received_text().contains("welcome"));
    member
}

/// Has a member say lines until another one's output is full, and all that it says then has nowhere to go.
fn flood(net: &Loop<Member>, speaker: &Client<Member>, lines: usize) {
    let line = format!("{}\n", "x".repeat(400));
    for _ in 0..lines {
        speaker.send(&line);
    }
    net.run();
}

#[test]
fn chat_tells_the_others_what_one_says_and_how_it_leaves() {
    let (net, [ann, bob, eve]) = room(chat::Policy::Close, ["ann", "bob", "eve"]);
    ann.send_in_chunks("h\u{e9}llo\n\u{1b}[2J\n", 1);
    assert_eq!(bob.received_text(), "ann: h\u{e9}llo\nann: \u{fffd}[2J\n");
    assert_eq!(ann.received_text(), "");
    bob.send("\u{202e}1\u{61c}2\u{2069}3\n/quit\n");
    bob.close();
    eve.reset();
    net.run();
    let replaced = "bob: \u{fffd}1\u{fffd}2\u{fffd}3\n";
    assert_eq!(ann.received_text(), format!("{replaced}* bob has left\n* eve has left: reset\n"));
    ann.send("/nick eve\n/who\n");
    assert_eq!(ann.received_text(), "* you are now eve\n* 1 here: eve\n");
}

#[test]
fn chat_says_a_last_line_that_has_no_end_even_where_the_loop_has_no_room_for_it() {
    for mailbox_capacity in [1, 1000] {
        let mut config = Config::default();
        config.mailbox_capacity = mailbox_capacity;
        let room: &'static _ = Box::leak(Box::new(chat::Room::new(chat::Policy::Close)));
        let net = Loop::with_config(config, |peer| Some(Framed::new(chat::Member::new(room, peer.id))));
        let (ann, bob) = (joins(&net, "ann"), joins(&net, "bob"));
        let _ = ann.received();
        bob.send("one\ntwo\nlast\r");
        bob.end();
        net.advance(Duration::from_secs(1));
        let heard = ann.received_text();
        assert!(heard.starts_with("bob: one\nbob: two\nbob: last\n"), "{heard}");
        assert_eq!(bob.received_text(), "* good-bye\n");
    }
}

#[test]
fn chat_drops_lines_for_a_slow_reader_and_says_how_many() {
    let (net, [ann]) = room(chat::Policy::Drop, ["ann"]);
    let slow = net.client().buffer_bytes(1000).stopped().connect();
    slow.send("slow\n");
    flood(&net, &ann, 500);
    assert!(slow.queued() <= Config::default().high_water_bytes + 512, "{}", slow.queued());
    slow.resume_reading();
    let heard = slow.received_text();
    let (_, missed) = heard.rsplit_once("* you missed ").expect("it has missed some");
    let missed: usize = missed.trim_end_matches(" lines\n").parse().expect("a number");
    assert_eq!(heard.matches("ann: x").count() + missed, 500);
}

#[test]
fn chat_closes_a_slow_reader_and_tells_the_others() {
    let (net, [ann]) = room(chat::Policy::Close, ["ann"]);
    let slow = net.client().buffer_bytes(1000).stopped().connect();
    slow.send("slow\n");
    flood(&net, &ann, 500);
    assert_eq!(slow.close_reason(), Some(CloseReason::SlowReader));
    assert_eq!(ann.received_text(), "* slow has joined\n* slow has left: slow reader\n");
}

#[test]
fn chat_holds_the_speaker_until_the_slow_reader_has_read() {
    let (net, [ann]) = room(chat::Policy::PushBack, ["ann"]);
    let slow = net.client().buffer_bytes(1000).stopped().connect();
    slow.send("slow\n");
    flood(&net, &ann, 500);
    assert!(ann.unread() > 100_000, "{} unread", ann.unread());
    assert!(slow.queued() < 2 * Config::default().high_water_bytes, "{}", slow.queued());
    slow.resume_reading();
    net.advance(Duration::from_secs(1));
    assert_eq!((ann.unread(), slow.received_text().matches("ann: x").count()), (0, 500));
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

fn http() -> Loop<'static, Http> {
    Loop::new(|_| Some(Http::new(REQUEST_TIMEOUT)))
}

#[test]
fn http_answers_pipelined_requests_in_any_pieces_in_order() {
    let net = http();
    let post = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    let missing = "GET /missing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let client = net.connect();
    client.send_bytewise([GET, post, missing, GET].concat());
    let replies = client.received_text();
    let statuses: Vec<&str> = replies.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
    assert_eq!(statuses, ["200", "200", "404"], "nothing is answered behind the last one");
    assert!(replies.contains("\r\n\r\nabcdeHTTP/1.1 404 "), "{replies}");
    assert!(client.has_fin());
}

#[test]
fn http_gives_the_reason_for_a_refusal_to_who_is_still_sending() {
    let net = http();
    let client = net.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(GET.repeat(1000));
    let reply = client.received_text();
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.matches("HTTP/1.1").count() == 1, "{reply}");
    assert!(client.has_fin() && !client.was_reset());
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn http_waits_for_a_request_but_not_for_ever() {
    let net = http();
    let (dripping, silent) = (net.connect(), net.connect());
    for _ in 0..9 {
        dripping.send("G");
        net.advance(Duration::from_secs(1));
    }
    assert!(dripping.is_open() && dripping.received().is_empty());
    net.advance(REQUEST_TIMEOUT);
    assert!(dripping.received_text().starts_with("HTTP/1.1 408 ") && dripping.has_fin());
    assert!(silent.is_open() && silent.timers().is_empty());
    silent.send(GET);
    assert!(silent.received_text().starts_with("HTTP/1.1 200 ") && silent.timers().is_empty());
}

#[test]
fn http_takes_an_empty_line_between_requests_for_no_request() {
    let net = http();
    let client = net.connect();
    for empty in ["\r\n", "\r\n\r\n", "\r"] {
        client.send_bytewise([GET, empty].concat());
        assert!(client.received_text().starts_with("HTTP/1.1 200 ") && client.timers().is_empty());
        net.advance(2 * REQUEST_TIMEOUT);
    }
    client.send(["\n", GET].concat());
    assert!(client.received_text().starts_with("HTTP/1.1 200 ") && client.is_open());
}

#[test]
fn http_refuses_a_head_request_without_content() {
    let refused = [
        ("HEAD / HTTP/1.1\r\n\r\n", "400"),
        ("\r\nHEAD foo HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", "400"),
        ("HEAD / HTTP/1.1\r\n", "408"),
        ("HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", "408"),
    ];
    for (request, status) in refused {
        let net = http();
        let client = net.connect();
        client.send_bytewise(request);
        net.advance(REQUEST_TIMEOUT);
        let reply = client.received_text();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {reply}");
        assert!(reply.ends_with("\r\n\r\n") && client.has_fin(), "{request:?}: {reply}");
    }
}

#[test]
fn http_answers_what_has_begun_when_a_drain_begins() {
    let net = http();
    let (begun, between) = (net.connect(), net.connect());
    let (one, rest) = GET.split_at(10);
    begun.send(one);
    net.drain();
    net.advance(Duration::from_secs(1));
    assert!(between.has_fin() && between.received().is_empty());
    assert!(begun.is_open() && !begun.has_fin());
    begun.send(rest);
    assert!(begun.received_text().contains("Connection: close") && begun.has_fin());
}

#[test]
fn http_writes_no_faster_than_its_client_reads() {
    let net = http();
    let client = net.client().buffer_bytes(1000).stopped().connect();
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3));
    assert!(client.queued() < Config::default().high_water_bytes + (32 << 10), "{}", client.queued());
    client.resume_reading();
    let replies = client.received();
    assert_eq!(replies.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count(), 3);
    assert!(replies.len() > 3 << 20 && client.is_open());
}

#[test]
fn memcached_evicts_what_was_stored_first() {
    let store = RefCell::new(memcached::store::Store::new(2000));
    let net = Loop::new(|_| Some(Framed::new(memcached::Session::new(&store))));
    let (one, other) = (net.connect(), net.connect());
    let value = "v".repeat(400);
    for key in ["a", "b", "c", "a", "d"] {
        one.send(format!("set {key} 0 0 400\r\n{value}\r\n"));
        assert_eq!(one.received_text(), "STORED\r\n");
    }
    other.send("get a\r\nget b\r\nget c\r\nget d\r\n");
    let found = |key| format!("VALUE {key} 0 400\r\n{value}\r\nEND\r\n");
    assert_eq!(other.received_text(), [found("a"), "END\r\n".into(), found("c"), found("d")].concat());
}

#[test]
fn memcached_cuts_a_reply_off_that_has_no_end() {
    let store = RefCell::new(memcached::store::Store::new(64 << 20));
    let mut config = Config::default();
    config.input_limit_bytes = (1 << 20) + 2;
    let net = Loop::with_config(config, |_| Some(Framed::new(memcached::Session::new(&store))));
    let client = net.client().buffer_bytes(1000).stopped().connect();
    client.send(format!("set k 0 0 1000000 noreply\r\n{}\r\n", "v".repeat(1_000_000)));
    client.send(format!("get{}\r\n", " k".repeat(1000)));
    assert!(client.queued() < 20 << 20, "{}", client.queued());
    client.resume_reading();
    assert!(client.received_text().ends_with("\r\nSERVER_ERROR out of memory writing get response\r\n"));
    client.send("get z\r\n");
    assert_eq!(client.received_text(), "END\r\n");
}

#[test]
fn socks5_and_websocket_give_up_whoever_is_silent() {
    let net = Loop::new(|_| Some(socks5::Side::Greeting));
    let (silent, slow) = (net.connect(), net.connect());
    slow.send([5, 1, 0, 5]);
    let websocket = Loop::new(|_| Some(websocket::WebSocket::default()));
    let web = websocket.connect();
    web.send(GET);
    let begun = websocket.connect();
    begun.send("GET / HTTP/1.1\r\n");
    websocket.advance(Duration::from_secs(10));
    net.advance(Duration::from_secs(10));
    assert!(silent.received().is_empty() && silent.has_fin());
    assert_eq!((slow.received(), slow.has_fin()), (vec![5, 0], true));
    assert!(web.received_text().starts_with("HTTP/1.1 426 ") && web.has_fin());
    assert!(begun.received().is_empty() && begun.has_fin());
}

#[test]
fn websocket_takes_no_more_than_its_client_receives() {
    let net = Loop::new(|_| Some(websocket::WebSocket::default()));
    let client = net.client().buffer_bytes(1000).connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(client.received_text().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.stop_reading();
    let frame = [&[0x82, 0x80 | 126, 0x27, 0x10, 0, 0, 0, 0][..], &[7; 10_000]].concat();
    client.send(frame.repeat(1000));
    assert!(client.queued() < Config::default().high_water_bytes + 11_000, "{}", client.queued());
    client.resume_reading();
    assert_eq!(client.received().len(), 1000 * 10_004);
}
