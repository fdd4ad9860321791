//! Connections on which nothing comes, or nothing goes.

use std::time::Duration;

use echoloop::{CloseReason, Config, Context, Input, Protocol, Timeout, testing::Loop};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Takes what comes, says something each second if it is told to, and what timeouts it has seen.
struct Watched;

impl Protocol for Watched {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match input.take() {
            b"talk" => cx.set_timer(0, seconds(1)),
            b"hush" => cx.cancel_timer(0),
            b"pause" => {
                cx.pause_reading();
                cx.set_timer(1, seconds(100));
            }
            b"patient" => cx.set_read_idle_timeout(None),
            b"hasty" => cx.set_read_idle_timeout(seconds(1)),
            b"finish" => cx.finish(),
            b"shut" => cx.shutdown_write(),
            _ => {}
        }
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        match which {
            Timeout::Timer(0) => {
                cx.write(b".");
                cx.set_timer(0, seconds(1));
            }
            Timeout::Timer(_) => cx.resume_reading(),
            Timeout::ReadIdle => _ = cx.write(b"read idle\n"),
            Timeout::WriteIdle => _ = cx.write(b"write idle\n"),
            Timeout::Idle | Timeout::Inner(_) | _ => cx.finish(),
        }
    }
}

fn net(read_idle: Option<Duration>, write_idle: Option<Duration>) -> Loop<'static, Watched> {
    let mut config = Config::default();
    (config.read_idle_timeout, config.write_idle_timeout) = (read_idle, write_idle);
    config.idle_timeout = None;
    Loop::with_config(config, |_| Some(Watched))
}

#[test]
fn who_sends_nothing_is_read_idle_however_much_it_is_sent() {
    let net = net(Some(seconds(10)), None);
    let client = net.connect();
    client.send("talk");
    net.advance(seconds(9));
    assert_eq!(client.received_text(), ".".repeat(9));
    client.send("?");
    net.advance(seconds(9));
    assert_eq!(client.received_text(), ".".repeat(9));
    net.advance(seconds(1));
    assert!(client.received_text().contains("read idle"));
    client.send("hush");
    // It begins anew.
    net.advance(seconds(30));
    assert_eq!(client.received_text(), "read idle\n".repeat(3));
}

#[test]
fn who_is_sent_nothing_is_write_idle_however_much_it_sends() {
    let net = net(None, Some(seconds(10)));
    let client = net.connect();
    for _ in 0..25 {
        client.send("?");
        net.advance(seconds(1));
    }
    assert_eq!(client.received_text(), "write idle\n".repeat(2));
}

#[test]
fn time_in_which_nothing_is_read_does_not_count() {
    let net = net(Some(seconds(10)), None);
    let client = net.connect();
    client.send("pause");
    net.advance(seconds(109));
    assert_eq!(client.received_text(), "");
    net.advance(seconds(1));
    assert_eq!(client.received_text(), "read idle\n");
}

#[test]
fn a_connection_sets_timeouts_of_its_own_and_no_others() {
    let net = net(Some(seconds(10)), None);
    let (patient, hasty, usual) = (net.connect(), net.connect(), net.connect());
    patient.send("patient");
    hasty.send("hasty");
    usual.send("?");
    net.advance(seconds(10));
    assert_eq!(patient.received_text(), "");
    assert_eq!(hasty.received_text(), "read idle\n".repeat(10));
    assert_eq!(usual.received_text(), "read idle\n");
}

#[test]
fn who_has_finished_is_idle_no_more_and_by_default_idleness_finishes() {
    let net = net(Some(seconds(3)), Some(seconds(2)));
    let (finished, half) = (net.connect(), net.connect());
    finished.send("finish");
    half.send("shut");
    net.advance(seconds(4));
    assert!(finished.received().is_empty() && half.received().is_empty());

    let mut config = Config::default();
    config.write_idle_timeout = Some(seconds(2));
    let net = Loop::with_config(config, |_| Some(echoloop::Echo));
    let client = net.connect();
    net.advance(seconds(2));
    assert!(client.has_fin());
    client.end();
    assert_eq!(client.close_reason(), Some(CloseReason::Idle));
}
