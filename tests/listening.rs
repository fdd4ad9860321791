//! Of servers that want the same address at the same moment one gets it, and the others are told.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{io::ErrorKind, net::TcpListener, sync::Barrier, thread};

use echoloop::{Config, Echo, Error, Server};

const ROUNDS: usize = 50;

const RIVALS: usize = 3;

/// Several servers bind the same address at once.
fn compete(config: &Config, address: &str) -> Vec<Result<Server<Echo>, Error>> {
    let barrier = Barrier::new(RIVALS);
    let compete = || {
        barrier.wait();
        Server::builder().config(config.clone()).bind([address])
    };
    thread::scope(|scope| {
        let rivals = [(); RIVALS].map(|()| scope.spawn(compete));
        rivals.map(|rival| rival.join().unwrap()).into()
    })
}

/// One has it, and the others know why they have not.
#[track_caller]
fn the_winner(outcomes: Vec<Result<Server<Echo>, Error>>) -> Server<Echo> {
    let mut winner = None;
    for outcome in outcomes {
        match outcome {
            Ok(server) => assert!(winner.replace(server).is_none(), "two servers listen"),
            Err(Error::Bind { source, .. }) => assert_eq!(source.kind(), ErrorKind::AddrInUse, "{source}"),
            Err(other) => panic!("{other}"),
        }
    }
    winner.expect("one server listens")
}

#[test]
fn a_tcp_port_has_one_server_however_many_workers_it_has() {
    for workers in [1, 2] {
        let mut config = Config::default();
        config.workers = workers;
        config.max_connections = Some(4);
        for _ in 0..ROUNDS {
            // Free a moment ago.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let server = the_winner(compete(&config, &address.to_string()));
            assert_eq!(server.local_addrs(), [address.into()]);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_unix_path_has_one_server_whether_it_is_stale_or_fresh() {
    use std::os::unix::net::{UnixListener, UnixStream};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.sock");
    let address = format!("unix:{}", path.display());
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            // Its file stays.
            drop(UnixListener::bind(&path).unwrap());
        }
        let server = the_winner(compete(&Config::default(), &address));
        UnixStream::connect(&path).expect("the file is that of the winner");
        drop(server);
        assert!(!path.exists(), "it goes with its server");
    }
}
