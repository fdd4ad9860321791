//! What is said of real servers: that live, are stuck, stop, and are gone.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use echoloop::{Address, Config, Context, Echo, Input, Protocol, Server, ops::Ops};

use crate::{
    address, answers, get, try_get,
    util::{self, Running, connect, eventually, ping, read_to_end},
};

fn agent_says(agent: SocketAddr) -> String {
    String::from_utf8(read_to_end(&connect(agent))).unwrap()
}

/// Holds its loop up until it is told to go on, if it gets anything.
pub(crate) struct Stuck(pub(crate) Arc<Mutex<Receiver<()>>>);

impl Protocol for Stuck {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        let _ = self.0.lock().unwrap().recv();
        cx.forward(input);
    }
}

#[test]
fn a_server_with_a_loop_that_is_stuck_does_not_live() {
    let (go_on, stop) = channel();
    let stop = Arc::new(Mutex::new(stop));
    let mut config = Config::default();
    config.workers = 2;
    let server = Running::start(config, &["127.0.0.1:0"], move |_| Some(Stuck(Arc::clone(&stop))));
    // Gone before the server, whose end would be waited for in vain.
    let go_on = go_on;
    let http = Ops::new(server.handle.clone(), &server.addresses).start_http("127.0.0.1:0").unwrap();
    assert_eq!(get(address(&http), "/livez").content, "live\n");

    let client = server.connect();
    (&client).write_all(b"hold").unwrap();
    eventually("it is stuck", || get(address(&http), "/livez").status == 503);
    let answer = get(address(&http), "/livez");
    assert!(answer.content.starts_with("workers that do not answer: "), "{answer:?}");
    assert_eq!(answer.content.matches(char::is_numeric).count(), 1, "the other one answers: {answer:?}");
    assert_eq!(get(address(&http), "/readyz").status, 503);
    let metrics = get(address(&http), "/metrics").content;
    assert!(metrics.contains("\necholoop_workers_answering 1\n"), "{metrics}");
    assert!(get(address(&http), "/").content.contains("<title>echoloop: not answering</title>"));

    go_on.send(()).unwrap();
    util::expect_bytes(&client, b"hold");
    assert_eq!(get(address(&http), "/livez").content, "live\n");
}

#[test]
fn readiness_ends_at_the_first_instant_of_a_grace() {
    let mut config = Config::default();
    config.grace = Some(Duration::from_secs(3600));
    let server = Running::echo(config);
    let ops = Ops::new(server.handle.clone(), &server.addresses);
    let (http, agent) = (ops.start_http("127.0.0.1:0").unwrap(), ops.start_agent("127.0.0.1:0").unwrap());
    assert_eq!(get(address(&http), "/readyz").content, "ready\n");
    assert_eq!(agent_says(address(&agent)), "up ready\n");

    server.handle.prestop();
    assert_eq!(get(address(&http), "/readyz").status, 503);
    assert_eq!(agent_says(address(&agent)), "drain\n");
    server.handle.cancel_prestop();
    assert_eq!(get(address(&http), "/readyz").status, 200);

    server.handle.drain();
    let answer = get(address(&http), "/readyz");
    assert_eq!((answer.status, answer.content.as_str()), (503, "stopping\n"));
    assert_eq!(agent_says(address(&agent)), "drain\n");
    assert_eq!(get(address(&http), "/livez").status, 200, "it lives");
    assert!(get(address(&http), "/").content.contains("<title>echoloop: stopping</title>"));
    ping(&server.connect(), b"it still accepts");
}

#[test]
fn what_is_seen_of_a_drain_is_seen_to_its_end() {
    let mut config = Config::default();
    config.drain_silence = Duration::from_secs(1);
    let server = Running::echo(config);
    let ops = Ops::new(server.handle.clone(), &server.addresses);
    let (http, agent) = (ops.start_http("127.0.0.1:0").unwrap(), ops.start_agent("127.0.0.1:0").unwrap());
    let client = server.connect();
    ping(&client, b"here");
    server.handle.drain();
    eventually("it stops accepting", || agent_says(address(&agent)) == "stopped\n");
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    let metrics = get(address(&http), "/metrics").content;
    assert!(metrics.contains("\necholoop_ready 0\n"), "{metrics}");
    let page = get(address(&http), "/").content;
    assert!(page.contains("<title>echoloop: draining</title>"), "{page}");
    drop(client);
    server.join();

    // It has ended, and still one can ask what became of it.
    assert_eq!(get(address(&http), "/livez").status, 200);
    assert_eq!(get(address(&http), "/readyz").status, 503);
    let metrics = get(address(&http), "/metrics").content;
    assert!(metrics.contains("\necholoop_connection_duration_seconds_count 1\n"), "{metrics}");
    let at = address(&http);
    http.end();
    assert_eq!(try_get(at, "/livez"), None);
}

#[test]
fn whoever_is_being_answered_when_it_ends_gets_the_answer() {
    let server = Server::<Echo>::builder().bind(["127.0.0.1:0"]).unwrap();
    // It does not run: its loop has a second to answer, and does not.
    let http = Ops::new(server.handle(), server.local_addrs()).start_http("127.0.0.1:0").unwrap();
    let mut client = connect(address(&http));
    write!(client, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    http.end();
    let answers = answers(&read_to_end(&client));
    assert!(answers.len() == 1 && answers[0].status == 503, "{answers:?}");
}

#[test]
fn addresses_of_datagrams_are_refused() {
    let server = Running::echo(Config::default());
    let ops = Ops::new(server.handle.clone(), &server.addresses);
    let udp: Address = "udp:127.0.0.1:0".parse().unwrap();
    assert!(ops.start_http(udp).is_err());
}

#[test]
fn turns_are_measured_where_that_is_asked_for_and_connections_always() {
    let mut config = Config::default();
    config.measure_turns = true;
    let measured = Running::echo(config);
    for server in [&measured, &Running::echo(Config::default())] {
        let client = server.connect();
        ping(&client, b"one");
        drop(client);
        server.wait_until_idle();
    }
    let stats = measured.drain();
    assert!(stats.turn_durations.count() > 0);
    assert_eq!(stats.connection_durations.count(), 1);
    let not_measured = Running::echo(Config::default());
    ping(&not_measured.connect(), b"one");
    assert_eq!(not_measured.drain().turn_durations.count(), 0);
}
