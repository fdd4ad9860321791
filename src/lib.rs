//! A TCP echo server, and a base for protocols of your own, on one readiness loop that ends every connection
//! properly.
//!
//! **The promise.** No byte is lost at the end of a connection unless the connection failed or the peer reset it, a
//! limit or deadline was reached, or someone asked for an abort. Each of those is counted and logged
//! under its own name ([`CloseReason`]). Every client gets the disconnect that the
//! [Winsock tutorial](https://learn.microsoft.com/en-us/windows/win32/winsock/disconnecting-the-server)
//! documents: send everything, shut down the sending side, keep receiving until the client is done, close.
//!
//! # A server
//!
//! ```
//! use echoloop::{Echo, Server};
//!
//! let server = Server::builder().bind(["127.0.0.1:0"])?;
//! println!("listening on {}", server.local_addrs()[0]);
//! # server.handle().drain();
//! server.run(|_peer| Some(Echo))?;
//! # Ok::<(), echoloop::Error>(())
//! ```
//!
//! # A protocol of your own
//!
//! Implement [`Protocol`]: the loop calls it, and the [`Context`] is what it can do. The [tutorial](guide::tutorial)
//! goes on from here, step by step; for those who know another framework [a table](guide::coming_from) says what is what.
//!
//! ```
//! use std::io::{Read, Write};
//! use echoloop::{Context, Input, Protocol, Server};
//!
//! /// Answers each line with its length.
//! struct Measure;
//!
//! impl Protocol for Measure {
//!     type Message = ();
//!
//!     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
//!         while let Some(length) = input.bytes().iter().position(|&b| b == b'\n') {
//!             cx.write(format!("{length}\n").as_bytes());
//!             input.consume(length + 1);
//!         }
//!     }
//! }
//!
//! let server = Server::builder().bind(["127.0.0.1:0"])?;
//! let (address, handle) = (server.local_addrs()[0].to_string(), server.handle());
//! let running = std::thread::spawn(|| server.run(|_| Some(Measure)));
//!
//! let mut client = std::net::TcpStream::connect(address)?;
//! client.write_all(b"this is a test\n")?;
//! client.shutdown(std::net::Shutdown::Write)?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "14\n");
//!
//! handle.drain();
//! running.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where the bytes are lines, or messages with their length before them, [`framing`] finds them: within limits, however
//! the stream was cut, and no faster than the peer takes the replies.
//!
//! [`testing`] runs a protocol on the same core, with clients that a test plays and time that it moves: no socket, no
//! thread, no waiting.
//!
//! # What there is for it
//!
//! | what you want | where it is |
//! | --- | --- |
//! | frames: lines, length fields and others | [`framing`] |
//! | layers: compression, encryption, records | [`Context::inner`], [`Context::inner_into`] |
//! | several protocols in one server | [`Builder::listen`], [`Boxed`], [`Context::connect_with`] |
//! | timers | [`Context::set_timer`], [`Context::timer_left`], [`Protocol::on_timeout`] |
//! | idleness | [`Config::idle_timeout`], [`Config::read_idle_timeout`], [`Context::set_idle_timeout`] |
//! | backpressure | [`Flow`], [`Protocol::on_writable`], [`Context::pause_reading`] |
//! | messages to other connections, or from other threads | [`Context::send`], [`Context::send_all`], [`Handle::send`] |
//! | work that blocks | [`Context::spawn_blocking`] |
//! | outbound connections, also by name | [`Context::connect`], [`Handle::connect`] |
//! | a proxy | [`Protocol::on_connected`], [`Context::relay`] |
//! | the same bytes for many | [`Context::write_shared`] |
//! | TLS, also in the middle of a connection | [`Builder::listen_tls`], [`Context::connect_tls`], [`Context::start_tls`], [`Peer::tls`] |
//! | clients that come through a proxy | [`Config::proxy_protocol`], [`Peer::proxied`], [`ProxyHeader::encode`] |
//! | a soft stop behind a load balancer | [`Config::grace`], [`Protocol::on_prestop`], [`Handle::is_ready`] |
//! | sockets of another process: its successor takes its place, and no client notices | `Sockets`, `Builder::inherit`, [`Handle::drain_now`]; `ops::Takeover` |
//! | state of one loop without a lock | [`Server::run_local`] |
//! | metrics, health checks, a status page, a control socket | the module `ops` (feature `ops`), [`Handle::accepting`], [`Handle::status`] |
//! | to see and to end single connections | [`Handle::connections`], [`Handle::finish_connection`] |
//! | datagrams: echo over UDP | [`Builder::bind`] |
//! | tests without sockets | [`testing`] |
//! | limits and what was counted | [`Config`], [`Stats`] |
//! | several loops | [`Builder::workers`] |
//!
//! # How it ends
//!
//! | what happens | what the loop does |
//! | --- | --- |
//! | the peer sends FIN | [`Protocol::on_eof`]; by default: everything queued is sent, then FIN, then close |
//! | [`Context::finish`] | everything written is sent, then FIN; input is discarded until the peer's FIN or a linger limit; close |
//! | [`Context::shutdown_write`] | everything written is sent, then FIN; input still comes until the peer's FIN |
//! | over TLS: close_notify | as for FIN, which close_notify is sent before; FIN alone: [`Context::is_truncated`] |
//! | no byte for the idle timeout | [`Protocol::on_timeout`]; by default: as `finish` |
//! | [`Handle::drain`] | everything that peers had sent is dealt with, then [`Protocol::on_drain`]; by default: as `finish` |
//! | the peer's system acknowledges nothing of what is owed | after the write timeout: reset, so that no truncated reply looks whole |
//! | [`Context::abort`], [`Handle::abort`], a panic | reset |
//!
//! A connection is closed, its linger limits begin and a drain ends only when the peer's system has acknowledged
//! everything, FIN included; see [`CloseReason`] for systems that cannot say.
//!
//! All limits are in [`Config`], what happened is in [`Stats`].
//!
//! # Signals
//!
//! On Linux [`Echo`], and every protocol that says that it returns its input unchanged, needs SIGPIPE to be ignored
//! unless [`Config::splice_threshold_bytes`] is `None`: splice(2) cannot be told to spare the process. Every program
//! whose `main` is in Rust ignores it.
//!
//! # Features
//!
//! - `tls`: [`TlsAcceptor`] and [`TlsConnector`] are made of the configurations of rustls 0.23, with *ring*.
//! - `ops`: metrics, health checks and a status page over HTTP, HAProxy's agent-check, and a control socket.
//! - `cli`: what only the program `echoloop` needs; `cli-tls` (default): the program with TLS.
//!
//! Without any the library depends on mio, slab, log, socket2, memmap2 and, on Unix, rustix and libc; where UDP needs it, nix.

mod accept;
mod address;
mod blocking;
mod buffers;
mod cause;
mod channel;
mod close_reason;
mod complaints;
mod config;
mod connection;
mod connection_id;
mod connection_status;
mod connections;
mod counter;
mod datagrams;
mod deadlines;
mod error;
mod event_loop;
pub mod framing;
mod gate;
#[cfg(any(doc, doctest))]
pub mod guide;
mod handle;
mod histogram;
mod networks;
#[cfg(feature = "ops")]
pub mod ops;
mod outbox;
mod peer;
mod pipes;
mod places;
mod protocol;
mod proxy_protocol;
mod send_queue;
mod server;
mod shared_bytes;
#[cfg(unix)]
mod sockets;
mod stats;
mod status;
mod system;
pub mod testing;
mod tls;
mod wake_flag;

pub use address::{Address, AddressError};
pub use cause::Cause;
pub use close_reason::{CloseReason, EndedBy};
pub use config::Config;
pub use connection_id::ConnectionId;
pub use connection_status::{ConnectionList, ConnectionState, ConnectionStatus};
pub use error::Error;
pub use handle::{Handle, SendError};
pub use histogram::Histogram;
pub use peer::{Origin, Peer};
pub use protocol::{
    Protocol,
    boxed::Boxed,
    context::{Context, Flow},
    echo::Echo,
    input::Input,
    requests::{Ending, Reading, Requests},
    timeout::{InnerTimer, Timeout},
};
pub use proxy_protocol::{Cidr, CidrError, Proxied, ProxyAddresses, ProxyHeader, ProxyHeaderError};
pub use server::{Builder, Server};
pub use shared_bytes::SharedBytes;
#[cfg(unix)]
pub use sockets::Sockets;
pub use stats::Stats;
pub use status::{Accepting, ServerStatus, WorkerStatus};
pub use system::descriptors::raise_descriptor_limit;
#[cfg(unix)]
pub use system::os::Inherited;
pub use tls::{TlsAcceptor, TlsConnector, TlsInfo, TlsRole};

/// The layers below the loop, for simulations and benchmarks that bring their own transport and clock. No
/// promise of stability holds for what is here.
#[doc(hidden)]
pub mod internals {
    pub use crate::{
        blocking::{Blocking, Job},
        buffers::{Buffer, Buffers},
        channel::Channel,
        connection::{Connection, drain::Drain, shared::Shared, state::State},
        connections::Connections,
        counter::Counter,
        deadlines::Deadlines,
        event_loop::{EventLoop, Parts},
        handle::{Answer, Mailbox, Order, Request, channel},
        networks::Networks,
        pipes::{NoPipe, Pipe},
        places::Places,
        send_queue::SendQueue,
        stats::Counters,
        system::{
            Accept, Poller, System, Wait, Wake,
            datagrams::{Arrival, Datagrams, Destination},
            endpoint::Endpoint,
            readiness::Readiness,
            transport::{Addresses, Transport},
        },
        tls::{
            scratch::Scratch,
            session::{Plaintext, RECORD_BYTES, RECORD_PLAINTEXT, Session},
            toy::{RecordKind, TOY_HEADER, ToySession, toy_record},
        },
    };
}

/// The README's code is tested like that of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
