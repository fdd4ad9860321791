//! Workers share the clients, and end together.

use std::{
    collections::HashSet,
    net::TcpStream,
    sync::{Mutex, mpsc::channel},
    thread,
};

use echoloop::{Address, CloseReason, Config, ConnectionId, Context, Echo, Input, Protocol, Server};

use crate::{
    ANYWHERE,
    util::{Running, connect, eventually, pattern, ping, read_to_end, reset},
};

#[test]
fn workers_share_the_clients_and_their_counters_add_up() {
    const CLIENTS: u64 = 200;
    let mut config = Config::default();
    config.workers = 4;
    let (seen, ids) = channel();
    let server = Running::start(config, ANYWHERE, move |peer| {
        seen.send(peer.id).unwrap();
        Some(Echo)
    });
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (n, client) in clients.iter().enumerate() {
        ping(client, &pattern(n as u64, 1000));
    }
    assert_eq!(server.stats().open, CLIENTS);
    // Bytes are counted once they are sent, and may be there before.
    eventually("all workers have counted", || server.stats().bytes_sent == CLIENTS * 1000);
    // An id is shown as WORKER.NUMBER.
    let ids: Vec<String> = ids.try_iter().map(|id: ConnectionId| id.to_string()).collect();
    let workers: HashSet<&str> = ids.iter().map(|id| id.split_once('.').unwrap().0).collect();
    assert!(!cfg!(target_os = "linux") || workers.len() == 4, "only {workers:?} had clients");
    server.handle.drain();
    for client in clients {
        assert!(read_to_end(&client).is_empty());
    }
    let stats = server.join();
    assert_eq!((stats.accepted, stats.closed(CloseReason::Drained)), (CLIENTS, CLIENTS), "{stats}");
    assert_eq!((stats.closed_total(), stats.open), (CLIENTS, 0), "{stats}");
}

/// Workers share nothing, so none could know how many clients the others have served.
#[test]
fn a_server_for_some_clients_has_a_single_worker() {
    let mut config = Config::default();
    config.accept_limit = Some(10);
    config.workers = 2;
    let error = Server::<Echo>::builder().config(config).bind(["127.0.0.1:0"]).unwrap_err();
    assert_eq!(error.to_string(), "configuration: accept_limit needs a single worker");
}

/// A message that panics when nobody takes it.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("as the test wants it");
        }
    }
}

struct TakesNoMessages;

impl Protocol for TakesNoMessages {
    type Message = Explosive;

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Explosive>) {}

    fn on_message(&mut self, message: Explosive, _: &mut Context<'_, Explosive>) {
        std::mem::forget(message);
    }
}

#[test]
fn a_worker_that_dies_takes_the_others_with_it() {
    let mut config = Config::default();
    config.workers = 2;
    let (ids, id) = channel();
    let server = Server::builder().config(config).bind(["127.0.0.1:0"]).unwrap();
    let Address::Ip(address) = server.local_addrs()[0] else { panic!("an IP address") };
    let handle = server.handle();
    let ids = Mutex::new(ids);
    let running = thread::spawn(move || {
        server.run(move |peer| {
            ids.lock().unwrap().send(peer.id).unwrap();
            Some(TakesNoMessages)
        })
    });
    let client = connect(address);
    let id = id.recv().unwrap();
    reset(client);
    eventually("the connection is gone", || handle.stats().open == 0 && handle.stats().accepted == 1);
    assert!(handle.send(id, Explosive).is_ok());
    eventually("the server has ended", || running.is_finished());
    assert!(running.join().is_err(), "the panic is handed on");
}
