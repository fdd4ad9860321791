//! A loop and a thread of their own for what [`Ops`] serves.

use std::{
    fmt,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Ops, agent::Agent, http::Http, reply::Reply};
#[cfg(unix)]
use crate::sockets::Sockets;
use crate::{
    address::Address,
    config::Config,
    error::Error,
    handle::Handle,
    protocol::Protocol,
    server::{Builder, Server},
};

/// A server for metrics, health checks or agent-checks that runs on a thread of its own: [`Ops::start_http`] and
/// [`Ops::start_agent`]. It is ended by [`end`](Self::end), or when it is dropped.
pub struct Running {
    addresses: Vec<Address>,
    handle: Handle<Reply>,
    #[cfg(unix)]
    sockets: Sockets,
    thread: Option<JoinHandle<()>>,
    /// Dropping it ends the thread that takes samples.
    sampler: Option<Sender<()>>,
}

/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

impl Ops {
    /// Serves HTTP at this address from now on, and takes a sample each second.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::bind`], and [`Error::Loop`] if no thread can be started.
    pub fn start_http<A>(&self, address: A) -> Result<Running, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let ops = self.clone();
        self.start_http_server(listen(self.http_server(), address.try_into()?, move || ops.http())?)
    }

    /// What the server of [`start_http`](Self::start_http) is put together with: its limits are for few clients. For one that
    /// inherits its sockets, for example.
    #[must_use]
    pub fn http_server(&self) -> Builder<Http> {
        Server::builder().config(limits("metrics: "))
    }

    /// As [`start_http`](Self::start_http), with a server that listens already.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if no thread can be started.
    pub fn start_http_server(&self, server: Server<Http>) -> Result<Running, Error> {
        let ops = self.clone();
        let mut running = start("echoloop-http", server, move || ops.http())?;
        running.sampler = Some(self.start_sampler()?);
        Ok(running)
    }

    /// Answers HAProxy's agent-checks at this address from now on.
    ///
    /// # Errors
    ///
    /// As `start_http`.
    pub fn start_agent<A>(&self, address: A) -> Result<Running, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let ops = self.clone();
        self.start_agent_server(listen(self.agent_server(), address.try_into()?, move || ops.agent())?)
    }

    /// What the server of [`start_agent`](Self::start_agent) is put together with.
    #[must_use]
    pub fn agent_server(&self) -> Builder<Agent> {
        Server::builder().config(limits("agent: "))
    }

    /// As [`start_agent`](Self::start_agent), with a server that listens already.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if no thread can be started.
    pub fn start_agent_server(&self, server: Server<Agent>) -> Result<Running, Error> {
        let ops = self.clone();
        start("echoloop-agent", server, move || ops.agent())
    }

    fn start_sampler(&self) -> Result<Sender<()>, Error> {
        let (sender, end) = channel();
        let ops = self.clone();
        let take_samples = move || {
            while end.recv_timeout(SAMPLE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                ops.sample();
            }
        };
        spawn("echoloop-sampler", take_samples)?;
        Ok(sender)
    }
}

impl Running {
    /// The addresses on which it listens, with the real ports.
    #[must_use]
    pub fn local_addrs(&self) -> &[Address] {
        &self.addresses
    }

    /// Its remote control.
    #[must_use]
    pub fn handle(&self) -> Handle<Reply> {
        self.handle.clone()
    }

    /// The sockets on which it listens, for a process that takes its place.
    #[cfg(unix)]
    #[must_use]
    pub const fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Ends it: who is being answered gets the answer, within three seconds. To be called when the server that is looked at has
    /// ended, so that its end can be watched.
    pub fn end(self) {
        drop(self);
    }

    /// Ends it at once.
    pub fn abort(self) {
        self.handle.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.sampler = None;
        self.handle.drain();
        if let Some(thread) = self.thread.take() {
            // A panic there is told by whoever hooks them.
            let _ = thread.join();
        }
    }
}

/// Few clients, who ask for little, and are not waited for.
fn limits(log_prefix: &'static str) -> Config {
    Config {
        log_prefix,
        backlog: 64,
        max_connections: Some(64),
        read_buffer_bytes: 16 << 10,
        splice_threshold_bytes: None,
        idle_timeout: Some(Duration::from_secs(150)),
        write_timeout: Some(Duration::from_secs(10)),
        linger_timeout: Some(Duration::from_secs(5)),
        linger_silence_timeout: Some(Duration::from_secs(1)),
        linger_limit_bytes: 64 << 10,
        drain_timeout: Some(Duration::from_secs(3)),
        drain_silence: Duration::from_millis(50),
        drain_patience: Duration::from_millis(200),
        ..Config::default()
    }
}

/// For clients over streams alone.
fn listen<P: Protocol>(
    builder: Builder<P>,
    address: Address,
    protocol: impl Fn() -> P + Send + Sync + 'static,
) -> Result<Server<P>, Error> {
    builder.listen(address, None, move |_| Some(protocol())).bind([] as [Address; 0])
}

fn start<P: Protocol<Message = Reply> + 'static>(
    name: &str,
    server: Server<P>,
    protocol: impl Fn() -> P + Send + Sync + 'static,
) -> Result<Running, Error> {
    let (addresses, handle) = (server.local_addrs().to_vec(), server.handle());
    #[cfg(unix)]
    let sockets = server.sockets();
    let run = move || {
        if let Err(error) = server.run(|_| Some(protocol())) {
            log::error!("metrics and health checks have ended: {error}");
        }
    };
    let thread = spawn(name, run)?;
    Ok(Running {
        addresses,
        handle,
        #[cfg(unix)]
        sockets,
        thread: Some(thread),
        sampler: None,
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|source| Error::Loop { what: "cannot start a thread", source })
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
