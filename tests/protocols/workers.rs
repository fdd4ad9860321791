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
    util::{
        DEADLINE, Running, connect, eventually, finish, pattern, ping, read_to_end, reset, send_and_read,
    },
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
    assert_eq!(workers.len(), 4, "only {workers:?} had clients");
    server.handle.drain();
    for client in clients {
        assert!(read_to_end(&client).is_empty());
    }
    let stats = server.join();
    assert_eq!((stats.accepted, stats.closed(CloseReason::Drained)), (CLIENTS, CLIENTS), "{stats}");
    assert_eq!((stats.closed_total(), stats.open), (CLIENTS, 0), "{stats}");
}

/// The kernel gives workers clients by chance; who has more leaves them to who has fewer.
#[test]
fn few_clients_are_shared_evenly() {
    are_shared_evenly(&["127.0.0.1:0", "127.0.0.1:0"], Running::connect);
}

/// All workers wait at one socket, and try to accept the same client: who comes too late has no more by it.
#[cfg(unix)]
#[test]
fn few_clients_of_a_unix_socket_are_shared_evenly() {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    are_shared_evenly(&[&format!("unix:{}", path.display())], |_| {
        // It is read, written and shut down in the same way.
        TcpStream::from(OwnedFd::from(UnixStream::connect(&path).unwrap()))
    });
}

fn are_shared_evenly(addresses: &[&str], connect: impl Fn(&Running<Echo>) -> TcpStream) {
    for clients in [4, 8, 12] {
        let mut config = Config::default();
        config.workers = 4;
        let server = Running::start(config, addresses, |_| Some(Echo));
        let clients: Vec<TcpStream> = (0..clients)
            .map(|_| {
                let client = connect(&server);
                ping(&client, b"served");
                client
            })
            .collect();
        let open = || -> Vec<u64> {
            let workers = server.handle.status(DEADLINE).workers;
            workers.iter().map(|worker| worker.stats.open).collect()
        };
        // A client is counted before it is served.
        assert_eq!(open(), [clients.len() as u64 / 4; 4]);
        assert_eq!(server.stats().accepted, clients.len() as u64, "each counts once, where it is served");
        for client in &clients {
            assert!(finish(client).is_empty());
        }
        // No place was lost on the way, and those who had fewer have not become those who have more.
        let again: Vec<TcpStream> = (0..4).map(|_| connect(&server)).collect();
        for client in &again {
            ping(client, b"served too");
            assert!(finish(client).is_empty());
        }
        assert_eq!(server.drain().open, 0);
    }
}

/// A client whose connection is made when a drain begins is served, whoever has accepted it and whoever it is left to.
#[test]
fn a_drain_loses_no_client_that_one_worker_leaves_to_another() {
    const ROUNDS: usize = 5;
    const SERVERS: usize = 8;
    const CLIENTS: usize = 16;
    for _ in 0..ROUNDS {
        let servers: Vec<_> = (0..SERVERS)
            .map(|_| {
                let mut config = Config::default();
                config.workers = 4;
                // However late a client has its turn in this test, it is waited for.
                config.drain_silence = DEADLINE;
                config.drain_patience = DEADLINE;
                config.drain_timeout = Some(DEADLINE);
                let server = Running::echo(config);
                let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
                // They are on their way from one worker to another, or not accepted yet.
                server.handle.drain();
                (server, clients)
            })
            .collect();
        for (server, clients) in servers {
            for (n, client) in (0..).zip(&clients) {
                send_and_read(client, &pattern(n, 1000));
            }
            let stats = server.join();
            assert_eq!((stats.accepted, stats.closed_total()), (CLIENTS as u64, CLIENTS as u64), "{stats}");
        }
    }
}

/// Each worker counts for itself, so none could know how many clients the others have served.
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
