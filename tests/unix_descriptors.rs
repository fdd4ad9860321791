//! What else than bytes a client may send over a Unix socket: a descriptor is not taken, and does not hide the bytes
//! behind it; urgent data is data like any other.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{IoSlice, Read, Write, stdin},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
    time::Duration,
};

use echoloop::{Address, Config, Echo, Server};
use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use socket2::SockRef;

#[test]
fn bytes_behind_a_passed_descriptor_are_echoed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = Server::builder().bind([Address::Unix(path.clone())]).unwrap();
    // All of it is there when the server first reads, which stops at the descriptor.
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"before ").unwrap();
    pass_stdin_with(&client, b"beside ");
    client.write_all(b"behind").unwrap();

    let handle = server.handle();
    let server = thread::spawn(move || server.run(|_| Some(Echo)).unwrap());
    // Far more than it takes. No end of input is to help the server along.
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut echo = [0; 20];
    let echoed = client.read_exact(&mut echo);
    handle.drain();
    echoed.expect("everything comes back");
    assert_eq!(&echo, b"before beside behind");
    drop(client);
    server.join().unwrap();
}

#[test]
fn urgent_bytes_are_echoed_in_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    for splice_threshold in [None, Some(1)] {
        let mut config = Config::default();
        config.splice_threshold_bytes = splice_threshold;
        let server = Server::builder().config(config).bind([Address::Unix(path.clone())]).unwrap();
        let handle = server.handle();
        let server = thread::spawn(move || server.run(|_| Some(Echo)).unwrap());
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for _ in 0..20 {
            client.write_all(b"before ").unwrap();
            if let Err(error) = SockRef::from(&client).send_out_of_band(b"!") {
                println!("no urgent data on Unix sockets here: {error}");
                break;
            }
            client.write_all(b" behind").unwrap();
            let mut echo = [0; 15];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, b"before ! behind");
        }
        drop(client);
        handle.drain();
        server.join().unwrap();
    }
}

fn pass_stdin_with(client: &UnixStream, bytes: &[u8]) {
    let stdin = stdin();
    let descriptors = [stdin.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(client, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}
