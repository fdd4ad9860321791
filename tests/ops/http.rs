//! The protocol of `Ops::http` in the test kit, where the test decides when an answer is found.

use std::time::Duration;

use echoloop::{
    CloseReason, Config, Echo,
    ops::{Http, Ops},
    testing::{Client, Loop},
};

use crate::{answers, util::Running};

/// A server that is looked at, and a loop that says what is seen.
struct World {
    _subject: Running<Echo>,
    net: Loop<'static, Http>,
}

impl World {
    fn new() -> Self {
        Self::with_config(Config::default())
    }

    fn with_config(config: Config) -> Self {
        let subject = Running::echo(Config::default());
        let ops = Ops::new(subject.handle.clone(), &subject.addresses);
        let net = Loop::with_config(config, move |_| Some(ops.http()));
        Self { _subject: subject, net }
    }

    /// Finds all answers.
    fn find(&self) {
        while let Some(job) = self.net.next_job() {
            job.finish();
        }
    }

    /// What a client gets that sends this.
    fn ask(&self, request: impl AsRef<[u8]>) -> Client<'static, Http> {
        let client = self.net.connect();
        client.send(request);
        self.find();
        client
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[track_caller]
fn statuses(client: &Client<'_, Http>) -> Vec<u16> {
    answers(&client.received()).iter().map(|answer| answer.status).collect()
}

#[test]
fn each_path_has_its_answer_and_its_type() {
    let world = World::new();
    for (path, status, kind, content) in [
        ("/", 200, "text/html; charset=utf-8", "<!doctype html>"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "# HELP echoloop_build_info"),
        ("/livez", 200, "text/plain; charset=utf-8", "live\n"),
        ("/readyz?verbose", 200, "text/plain; charset=utf-8", "ready\n"),
        ("/other", 404, "text/plain; charset=utf-8", "404 Not Found\n"),
    ] {
        let answer = answers(&world.ask(request(path)).received()).remove(0);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.head.contains(&format!("\r\nContent-Type: {kind}\r\n")), "{answer:?}");
        assert!(answer.head.contains("\r\nConnection: keep-alive\r\n"), "{answer:?}");
        assert!(answer.head.contains("\r\nCache-Control: no-store\r\n"), "{answer:?}");
        assert!(answer.head.contains("\r\nDate: ") && answer.content.starts_with(content), "{answer:?}");
    }
}

#[test]
fn head_is_answered_as_get_is_without_the_content() {
    let world = World::new();
    let of_get = answers(&world.ask(request("/livez")).received()).remove(0);
    let of_head = world.ask("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").received_text();
    let fields = |head: &str| {
        let lines = head.lines().filter(|line| !line.is_empty() && !line.starts_with("Date: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(fields(&of_head), fields(&of_get.head));
    assert!(of_head.ends_with("\r\n\r\n"));
}

#[test]
fn requests_that_come_together_are_answered_one_after_the_other() {
    let world = World::new();
    let client = world.net.connect();
    client.send([request("/livez"), request("/none"), request("/readyz")].concat());
    client.end();
    assert_eq!(client.received(), b"", "the first is not found yet");
    let job = world.net.next_job().expect("the first");
    assert!(world.net.next_job().is_none(), "the others wait");
    job.finish();
    let contents = || {
        let answers = answers(&client.received()).into_iter();
        answers.map(|answer| answer.content).collect::<Vec<_>>()
    };
    assert_eq!(contents(), ["live\n", "404 Not Found\n"]);
    world.net.next_job().expect("the third").finish();
    assert!(world.net.next_job().is_none());
    assert_eq!(contents(), ["ready\n"]);
    assert!(client.has_fin(), "it had ended behind its requests");
    assert_eq!(client.close_reason(), Some(CloseReason::Peer));
}

#[test]
fn however_it_is_cut_a_request_is_the_same() {
    let world = World::new();
    let client = world.net.connect();
    for _ in 0..2 {
        client.send_bytewise(request("/livez"));
        world.find();
    }
    assert_eq!(statuses(&client), [200, 200]);
    assert!(client.is_open() && client.timers().is_empty());
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_given_up() {
    let world = World::new();
    let client = world.ask("GET /livez HTTP/1.1\r\nHost: x\r\n");
    // Whatever drips meanwhile, the time is for the whole head.
    world.net.advance(Duration::from_secs(9));
    client.send("X: y\r\n");
    world.net.advance(Duration::from_millis(999));
    assert_eq!(client.received(), b"");
    world.net.advance(Duration::from_millis(1));
    assert_eq!(statuses(&client), [408]);
    assert!(client.has_fin());

    let client = world.ask("GET /livez HTTP/1.1\r\nHo");
    client.end();
    assert_eq!((client.received(), client.has_fin()), (Vec::new(), true));
}

#[test]
fn behind_what_cannot_be_understood_nothing_is_answered() {
    let world = World::new();
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 405),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), 505),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), 414),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(9000)), 431),
    ] {
        let client = world.ask(bad.clone() + &request("/livez"));
        let answers = answers(&client.received());
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{bad:?}");
        assert!(answers[0].head.contains("\r\nConnection: close\r\n") && client.has_fin(), "{answers:?}");
        assert_eq!(answers[0].head.contains("\r\nAllow: GET, HEAD\r\n"), status == 405);
    }
}

#[test]
fn a_client_that_wants_no_more_gets_no_more() {
    let world = World::new();
    let last = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let client = world.ask(last.to_owned() + &request("/livez"));
    assert_eq!(statuses(&client), [200]);
    assert!(client.has_fin());
}

#[test]
fn in_a_drain_who_waits_for_an_answer_gets_it() {
    let world = World::new();
    let (waits, idle) = (world.net.connect(), world.ask(request("/livez")));
    waits.send(request("/livez") + &request("/readyz"));
    world.net.drain();
    world.net.advance(Duration::from_secs(1));
    world.find();
    let answers = answers(&waits.received());
    assert!(answers[0].head.contains("\r\nConnection: close\r\n") && answers.len() == 1, "{answers:?}");
    assert!(waits.has_fin() && idle.has_fin());
}

#[test]
fn where_too_many_ask_at_once_some_are_told_so() {
    let mut config = Config::default();
    config.blocking_jobs_max = 1;
    let world = World::with_config(config);
    let (first, second) = (world.net.connect(), world.net.connect());
    first.send(request("/livez"));
    second.send(request("/livez"));
    assert_eq!(statuses(&second), [503]);
    world.find();
    assert_eq!(statuses(&first), [200]);
}

#[test]
fn one_that_asks_and_does_not_read_is_read_no_more() {
    let world = World::new();
    let client = world.net.client().buffer_bytes(1000).stopped().connect();
    client.send(request("/metrics").repeat(1000));
    world.find();
    let page = answers(&world.ask(request("/metrics")).received()).remove(0).content.len();
    assert!(client.queued() <= (64 << 10) + page + 1000, "{} bytes are queued", client.queued());
    client.resume_reading();
    for _ in 0..1000 {
        world.find();
    }
    assert_eq!(statuses(&client), [200; 1000]);
}

#[test]
fn an_idle_client_is_let_go() {
    let world = World::new();
    let client = world.ask(request("/livez"));
    world.net.advance(Duration::from_secs(600));
    assert!(client.has_fin() && !client.was_reset());
}
