//! A server ends by itself once nothing more can come, unless it is told to keep running.

use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{Sender, channel},
    time::Duration,
};

use echoloop::{Address, CloseReason, Config, Context, Handle, Input, Origin, Protocol, Server, Timeout};

use crate::util::{DEADLINE, Running, eventually, finish, ping};

#[test]
fn a_server_for_one_client_serves_it_and_ends() {
    let mut config = Config::default();
    config.accept_limit = Some(1);
    let server = Running::echo(config);
    let client = server.connect();
    ping(&client, b"only me");
    let address = server.address();
    eventually("nobody else is let in", || TcpStream::connect(address).is_err());
    ping(&client, b"still me");
    assert!(!server.has_ended());
    assert!(finish(&client).is_empty());
    let stats = server.join();
    assert_eq!((stats.accepted, stats.closed(CloseReason::Peer)), (1, 1), "{stats}");
}

/// Connects anew, up to three times in all, when it has ended.
struct Persistent {
    handle: Handle<()>,
    peer: Address,
    label: u64,
}

impl Protocol for Persistent {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.set_timer(0, Duration::ZERO);
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_timeout(&mut self, _: Timeout, cx: &mut Context<'_>) {
        cx.abort();
    }

    fn on_close(&mut self, _: &CloseReason, _: &mut Context<'_>) {
        if self.label < 3 {
            self.handle.connect(self.peer.clone(), self.label + 1).expect("the mailbox has room");
        }
    }
}

#[test]
fn a_server_without_listeners_ends_only_when_no_request_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Address::from(listener.local_addr().unwrap());
    let server = Server::builder().bind([] as [Address; 0]).unwrap();
    let handle = server.handle();
    handle.connect(peer.clone(), 1).unwrap();
    let (sender, factory_handle) = (peer, handle);
    let stats = server
        .run(move |origin| {
            let Origin::Connect(label) = origin.origin else { panic!("nobody listens") };
            Some(Persistent { handle: factory_handle.clone(), peer: sender.clone(), label })
        })
        .unwrap();
    assert_eq!(stats.connects, 3);
    assert_eq!(stats.closed(CloseReason::Aborted), 3);
}

/// Ends as soon as it is open, and tells when it is closed.
struct Passing(Sender<()>);

impl Protocol for Passing {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.finish();
    }

    fn on_data(&mut self, input: &mut Input<'_>, _cx: &mut Context<'_>) {
        input.take();
    }

    fn on_close(&mut self, _reason: &CloseReason, _: &mut Context<'_>) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_server_that_keeps_running_waits_for_requests_until_it_is_told_to_end() {
    for abort in [false, true] {
        let echo = Running::echo(Config::default());
        let mut config = Config::default();
        config.keep_running = true;
        let (tell, told) = channel();
        let caller = Running::start(config, &[], move |_| Some(Passing(tell.clone())));
        for label in 0..3 {
            // Nothing is open and nothing is asked for when the next one comes.
            caller.handle.connect(echo.address().into(), label).unwrap();
            told.recv_timeout(DEADLINE).unwrap();
            caller.wait_until_idle();
            assert!(!caller.has_ended());
        }
        if abort {
            caller.handle.abort();
        } else {
            caller.handle.drain();
        }
        assert_eq!(caller.join().closed(CloseReason::Finished), 3);
    }
}
