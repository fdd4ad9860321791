//! Protocols that borrow what all connections of one loop share, without a lock.

use std::{cell::Cell, io::Write, net::TcpStream};

use echoloop::{Address, Config, Context, Error, Input, Protocol, Server, testing::Loop};

/// Counts what all its connections have received.
struct Counting<'a>(&'a Cell<usize>);

impl Protocol for Counting<'_> {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.set(self.0.get() + input.take().len());
        cx.finish();
    }
}

#[test]
fn a_protocol_that_borrows_is_tested_in_the_kit() {
    let count = Cell::new(0);
    let net = Loop::new(|_| Some(Counting(&count)));
    net.connect().send("one");
    net.connect().send("more");
    assert_eq!(count.get(), 7);
}

#[test]
fn a_single_worker_shares_what_is_not_sync_with_its_factory() -> Result<(), Error> {
    let mut config = Config::default();
    config.accept_limit = Some(2);
    let server = Server::builder().config(config).bind(["127.0.0.1:0"])?;
    let Address::Ip(address) = server.local_addrs()[0] else { panic!("it listens on IPv4") };
    let clients = std::thread::spawn(move || {
        for said in ["one", "more"] {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.write_all(said.as_bytes()).expect("it receives");
        }
    });
    let count = Cell::new(0);
    server.run_local(|_| Some(Counting(&count)))?;
    clients.join().expect("they end");
    assert_eq!(count.get(), 7);
    Ok(())
}

#[test]
fn what_is_not_sync_is_not_shared_by_several_workers() {
    let server = Server::builder().workers(2).bind(["127.0.0.1:0"]).expect("there is a port");
    let count = Cell::new(0);
    let error = server.run_local(|_| Some(Counting(&count))).expect_err("there are two");
    assert_eq!(error.to_string(), "configuration: run_local needs a single worker");
}
