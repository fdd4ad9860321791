//! Putting a server together, and running it.

use std::{collections::HashMap, fmt, marker::PhantomData, net::TcpListener, ops::Range, sync::Arc, thread};

use crate::{
    address::Address,
    config::Config,
    error::Error,
    event_loop::{EventLoop, Parts},
    handle::{self, Handle, Mailbox},
    networks::Networks,
    peer::{Origin, Peer},
    places::Places,
    protocol::Protocol,
    stats::{Counters, Stats},
    system::{
        descriptors,
        memory_limit::memory_limit,
        os::{Os, OsEndpoint, adopt, bind, is_unavailable, threads::Threads},
    },
    tls::TlsAcceptor,
};
#[cfg(unix)]
use crate::{
    sockets::Sockets,
    system::os::{Inherited, inherit},
};

/// A server that listens and is ready to run.
///
/// The steps are those of the tutorial: [`bind`](Builder::bind) creates the sockets, binds them and
/// listens; [`run`](Self::run) accepts, receives, sends and disconnects, for every client.
///
/// ```
/// use echoloop::{Echo, Server};
///
/// let server = Server::builder().bind(["127.0.0.1:0", "127.0.0.1:0"])?;
/// for address in server.local_addrs() {
///     println!("listening on {address}");
/// }
/// # server.handle().drain();
/// let stats = server.run(|_peer| Some(Echo))?;
/// println!("{stats}");
/// # Ok::<(), echoloop::Error>(())
/// ```
pub struct Server<P: Protocol> {
    parts: Vec<Parts<P::Message, Os>>,
    handle: Handle<P::Message>,
    counters: Vec<Arc<Counters>>,
    addresses: Vec<Address>,
    /// Listeners that have limits and a factory of their own, by position.
    listeners: HashMap<usize, Own<P>>,
    protocol: PhantomData<fn() -> P>,
}

/// Sets up a [`Server`].
pub struct Builder<P> {
    config: Config,
    /// Listeners that have limits and a factory of their own, and where.
    own: Vec<(Result<Address, Error>, Own<P>)>,
    /// Those that listen already.
    adopted: Vec<TcpListener>,
    /// Those of another process.
    #[cfg(unix)]
    inherited: Vec<Inherited>,
    protocol: PhantomData<fn() -> P>,
}

/// What a listener has of its own.
struct Own<P> {
    limits: Option<Config>,
    factory: Option<ListenerFactory<P>>,
    tls: Option<TlsAcceptor>,
}

impl<P> Clone for Own<P> {
    fn clone(&self) -> Self {
        Self { limits: self.limits.clone(), factory: self.factory.clone(), tls: self.tls.clone() }
    }
}

/// Makes the protocols of one listener's clients, or refuses them.
type ListenerFactory<P> = Arc<dyn Fn(&Peer<'_>) -> Option<P> + Send + Sync>;

impl<P: Protocol> Builder<P> {
    /// Sets all the limits at once.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the number of loops; see [`Config::workers`].
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Listens on this address too, with a factory for its clients, instead of that of [`Server::run`], and with limits of
    /// their own, if there are any: those of [`Config`] that are about a single connection or the listener's socket
    /// (timeouts, marks, sizes, `backlog`, `nodelay`, `keepalive`); the others are the server's.
    ///
    /// Such listeners come first in [`Server::local_addrs`]. Where the protocols are of different types, the server is one
    /// for [`Boxed`](crate::Boxed) ones.
    ///
    /// ```
    /// use std::time::Duration;
    /// use echoloop::{Boxed, Config, Context, Echo, Input, Protocol, Server};
    ///
    /// struct Discard;
    ///
    /// impl Protocol for Discard {
    ///     type Message = ();
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
    ///         input.take();
    ///     }
    /// }
    ///
    /// let mut hasty = Config::default();
    /// hasty.idle_timeout = Some(Duration::from_secs(5));
    /// let server = Server::builder()
    ///     .listen("127.0.0.1:0", None, |_| Some(Boxed::new(Echo)))
    ///     .listen("127.0.0.1:0", hasty, |_| Some(Boxed::new(Discard)))
    ///     .bind([] as [&str; 0])?;
    /// # server.handle().drain();
    /// server.run(|_| None)?;
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    ///
    /// Errors in the address or the limits are told by [`bind`](Self::bind).
    #[must_use]
    pub fn listen<A>(
        mut self,
        address: A,
        limits: impl Into<Option<Config>>,
        factory: impl Fn(&Peer<'_>) -> Option<P> + Send + Sync + 'static,
    ) -> Self
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let own = Own { limits: limits.into(), factory: Some(Arc::new(factory)), tls: None };
        self.own.push((address.try_into().map_err(Error::from), own));
        self
    }

    /// Listens on this address too, for clients that speak TLS. The factory of [`Server::run`] is asked for their protocols
    /// when they have agreed with us; it sees on what in [`Peer::tls`]. Such listeners are among those of
    /// [`listen`](Self::listen), in the order in which they were given.
    ///
    /// `tls` is an `Arc<rustls::ServerConfig>`, or a [`TlsAcceptor`] that asks for one for each client. Early data is
    /// refused, whatever it says. A client that has not agreed within
    /// [`handshake_timeout`](crate::Config::handshake_timeout) is reset.
    ///
    /// At the end of a connection close_notify takes the place of FIN, and is sent behind everything else, and FIN behind
    /// that; it is never sent when something was lost. A client that ends with FIN alone gets its answer all the same, and is
    /// counted as [`Truncated`](crate::CloseReason::Truncated).
    ///
    /// Errors in the address are told by [`bind`](Self::bind).
    #[must_use]
    pub fn listen_tls<A>(mut self, address: A, tls: impl Into<TlsAcceptor>) -> Self
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let own = Own { limits: None, factory: None, tls: Some(tls.into()) };
        self.own.push((address.try_into().map_err(Error::from), own));
        self
    }

    /// Accepts from a socket that listens already: one that was inherited, or bound before privileges were given up. Several
    /// workers share it. Such listeners come after those of [`listen`](Self::listen) in [`Server::local_addrs`], and before
    /// those of [`bind`](Self::bind), which tells what is wrong with them.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use echoloop::{Address, Echo, Server};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = Address::from(listener.local_addr()?);
    /// let server = Server::<Echo>::builder().listener(listener).bind([] as [&str; 0])?;
    /// assert_eq!(server.local_addrs(), [address]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.adopted.push(listener);
        self
    }

    /// Uses sockets that another process has bound, for the addresses that they have, instead of binding new ones: those
    /// of [`listen`](Self::listen) and [`bind`](Self::bind). All of an address are used, with any number of workers; port 0
    /// is the first port among them that no address names. What is set for a listener's socket is set on them, but for the
    /// [`backlog`](Config::backlog).
    ///
    /// They are the other one's as well: a drain leaves it who waits in their backlogs, and the file of a Unix socket stays.
    /// If it goes, [`Sockets::own`] makes them this server's.
    ///
    /// One that has no address that was asked for is an error of `bind`, which says which.
    #[cfg(unix)]
    #[must_use]
    pub fn inherit(mut self, sockets: impl IntoIterator<Item = Inherited>) -> Self {
        self.inherited.extend(sockets);
        self
    }

    /// Listens on all the addresses. None at all is fine for a server that only makes outbound connections;
    /// [`Config::keep_running`] keeps it waiting for them.
    ///
    /// Of a host name it listens on every address that this machine has. Those that it has not, as `::1` where IPv6 is
    /// turned off, are skipped with a warning, unless none is left. The same goes for `:PORT`, every interface.
    ///
    /// Datagrams that come to an address of UDP are echoed (RFC 862), whatever the protocol is: each goes back to where it
    /// came from, unchanged, from the address that it was sent to, and is dropped if it cannot be sent at once. So that an
    /// echo never takes part in an endless exchange, and never answers for many, these datagrams are not answered:
    ///
    /// - from the port of one of the server's own UDP sockets, on any host: two echo servers would talk for ever. So two
    ///   servers on different ports must not be reachable for each other, or for whoever forges addresses;
    /// - from ports of services that answer anything, or an error with an error, such as echo, chargen, DNS and NTP;
    /// - from port 0, and from unspecified, multicast and broadcast addresses;
    /// - to multicast and broadcast addresses, where the system tells (Linux, Android and Apple's).
    ///
    /// [`Stats`] counts what was received, sent back and dropped.
    ///
    /// # Errors
    ///
    /// One that says which address or limit is wrong and why. Nothing is left listening then.
    ///
    /// ```
    /// use echoloop::{Echo, Server};
    ///
    /// let error = Server::<Echo>::builder().bind(["127.0.0.1"]).unwrap_err();
    /// assert!(error.to_string().starts_with("address '127.0.0.1': "));
    /// ```
    pub fn bind<A>(self, addresses: impl IntoIterator<Item = A>) -> Result<Server<P>, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        self.config.validate()?;
        let addresses: Vec<Address> =
            addresses.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let mut listening = Listeners::new(self.config.workers);
        #[cfg(unix)]
        {
            listening.inherited.extend(self.inherited);
            let own = self.own.iter().filter_map(|(address, _)| address.as_ref().ok());
            listening.asked.extend(own.chain(&addresses).cloned());
        }
        let Self { config, own, adopted, .. } = self;
        let mut listeners = HashMap::new();
        for (address, own) in own {
            let limits = own.limits.as_ref().unwrap_or(&config);
            limits.validate()?;
            let socket_limits = Config { workers: config.workers, ..limits.clone() };
            let address = address?;
            if address.is_udp() {
                return Err(Error::Config("UDP has no connections that a factory could make protocols for"));
            }
            for position in listening.bind(&address, &socket_limits)? {
                listeners.insert(position, own.clone());
            }
        }
        for listener in adopted {
            listening.adopt(listener, &config)?;
        }
        for address in addresses {
            listening.bind(&address, &config)?;
        }
        #[cfg(unix)]
        if let Some(unclaimed) = listening.inherited.first() {
            return Err(Error::Unclaimed(unclaimed.address().clone()));
        }
        Server::assemble(config, listening, listeners)
    }
}

/// Sockets that listen, and where.
struct Listeners {
    addresses: Vec<Address>,
    /// Those of each worker.
    sockets: Vec<Vec<OsEndpoint>>,
    /// Those of another process that are not used yet.
    #[cfg(unix)]
    inherited: Vec<Inherited>,
    /// All that is to be listened on.
    #[cfg(unix)]
    asked: Vec<Address>,
}

impl Listeners {
    fn new(workers: usize) -> Self {
        Self {
            addresses: Vec::new(),
            sockets: (0..workers).map(|_| Vec::new()).collect(),
            #[cfg(unix)]
            inherited: Vec::new(),
            #[cfg(unix)]
            asked: Vec::new(),
        }
    }

    fn adopt(&mut self, listener: TcpListener, config: &Config) -> Result<(), Error> {
        let (real, per_worker) = adopt(listener, config)?;
        self.add(real, per_worker);
        Ok(())
    }

    fn add(&mut self, real: Address, per_worker: Vec<OsEndpoint>) {
        self.addresses.push(real);
        for (worker, socket) in self.sockets.iter_mut().zip(per_worker) {
            worker.push(socket);
        }
    }

    /// Listens on what the address stands for: at these positions.
    fn bind(&mut self, address: &Address, config: &Config) -> Result<Range<usize>, Error> {
        if address.is_udp() && config.accept_limit.is_some() {
            return Err(Error::Config("accept_limit counts connections, and UDP has none"));
        }
        let first = self.addresses.len();
        let resolved = address.resolve()?;
        #[cfg(unix)]
        let resolved = self.inherit(resolved, config)?;
        if !resolved.is_empty() {
            for (real, per_worker) in bind_each(address, &resolved, config)? {
                self.add(real, per_worker);
            }
        }
        Ok(first..self.addresses.len())
    }

    /// Uses what another process has bound to these addresses. Those that are left have to be bound.
    #[cfg(unix)]
    fn inherit(&mut self, resolved: Vec<Address>, config: &Config) -> Result<Vec<Address>, Error> {
        let mut unbound = Vec::new();
        let covered: Vec<Address> = resolved
            .iter()
            .filter(|asked| self.inherited.iter().any(|one| one.covers(asked)))
            .cloned()
            .collect();
        for asked in resolved {
            if covered.contains(&asked) {
                continue;
            }
            // Any port is none that is asked for by its number.
            let is_meant = |one: &&Inherited| {
                one.has(&asked) && (*one.address() == asked || !self.asked.contains(one.address()))
            };
            let Some(real) = self.inherited.iter().find(is_meant) else {
                unbound.push(asked);
                continue;
            };
            let real = real.address().clone();
            let (sockets, others) = std::mem::take(&mut self.inherited)
                .into_iter()
                .partition::<Vec<_>, _>(|one| one.address() == &real);
            self.inherited = others;
            let per_worker = inherit(&real, sockets, config)?;
            self.add(real, per_worker);
        }
        Ok(unbound)
    }
}

impl<P: Protocol> Server<P> {
    /// Begins with the default limits.
    #[must_use]
    pub fn builder() -> Builder<P> {
        Builder {
            config: Config::default(),
            own: Vec::new(),
            adopted: Vec::new(),
            #[cfg(unix)]
            inherited: Vec::new(),
            protocol: PhantomData,
        }
    }

    /// The addresses on which it listens, with the real ports, in the order in which they were given.
    #[must_use]
    pub fn local_addrs(&self) -> &[Address] {
        &self.addresses
    }

    /// A remote control, for other threads and for the time when it runs.
    #[must_use]
    pub fn handle(&self) -> Handle<P::Message> {
        self.handle.clone()
    }

    /// The sockets on which it listens, to give them to another process, now or when it runs.
    #[cfg(unix)]
    #[must_use]
    pub fn sockets(&self) -> Sockets {
        Sockets::new(self.parts.iter().flat_map(|parts| &parts.endpoints).flat_map(OsEndpoint::bound))
    }

    /// Serves until a [`Handle`] says otherwise, or until nothing is left to do: no listener and no connection.
    /// `factory` is called once for each connection and makes its protocol, or refuses it with `None`: a client that is
    /// refused is reset, so that it does not take the end for a clean one, and counted.
    ///
    /// The first worker runs on the calling thread, each further one on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if the operating system fails a loop; all workers are then aborted.
    pub fn run<F>(self, factory: F) -> Result<Stats, Error>
    where
        F: Fn(&Peer<'_>) -> Option<P> + Sync,
    {
        let Self { mut parts, handle, counters, listeners, .. } = self;
        let listeners = &listeners;
        let others = parts.split_off(1);
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(others.len());
            for parts in others {
                let name = format!("echoloop-{}", parts.worker);
                let (handle, factory) = (&handle, &factory);
                let spawned = thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || run_one(parts, handle, listeners, factory));
                match spawned {
                    Ok(thread) => threads.push(thread),
                    Err(source) => {
                        handle.abort();
                        return Err(Error::Loop { what: "cannot start a worker", source });
                    }
                }
            }
            let mut result =
                parts.into_iter().try_for_each(|parts| run_one(parts, &handle, listeners, &factory));
            for thread in threads {
                result = result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            result
        })?;
        Ok(sum(&counters))
    }

    /// As [`run`](Self::run), for a single worker: the factory and the protocols may share what is not `Sync`, such as a
    /// `Cell` or an `Rc`, as they all run on this thread.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use echoloop::{Context, Input, Protocol, Server};
    ///
    /// /// Says how many came before.
    /// struct Ticket<'a>(&'a Cell<u64>);
    ///
    /// impl Protocol for Ticket<'_> {
    ///     type Message = ();
    ///
    ///     fn on_open(&mut self, cx: &mut Context<'_>) {
    ///         writeln!(cx, "{}", self.0.replace(self.0.get() + 1));
    ///         cx.finish();
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
    /// }
    ///
    /// let served = Cell::new(0);
    /// let server = Server::builder().bind(["127.0.0.1:0"])?;
    /// # server.handle().drain();
    /// server.run_local(|_peer| Some(Ticket(&served)))?;
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `run`, and [`Error::Config`] if there are several [workers](Config::workers).
    pub fn run_local<F>(self, factory: F) -> Result<Stats, Error>
    where
        F: Fn(&Peer<'_>) -> Option<P>,
    {
        if self.parts.len() > 1 {
            return Err(Error::Config("run_local needs a single worker"));
        }
        for parts in self.parts {
            run_one(parts, &self.handle, &self.listeners, &factory)?;
        }
        Ok(sum(&self.counters))
    }

    fn assemble(
        config: Config,
        listening: Listeners,
        listeners: HashMap<usize, Own<P>>,
    ) -> Result<Self, Error> {
        let Listeners { addresses, sockets, .. } = listening;
        let failed = |source| Error::Loop { what: "cannot create a poller", source };
        let mut systems = Vec::with_capacity(config.workers);
        let mut channels = Vec::with_capacity(config.workers);
        let mut counters = Vec::with_capacity(config.workers);
        for _ in 0..config.workers {
            let (system, waker) = Os::new(&config).map_err(failed)?;
            systems.push(system);
            counters.push(Arc::new(Counters::default()));
            channels.push((waker, Arc::clone(counters.last().expect("one was just pushed"))));
        }
        let (handle, mailboxes) = handle::channel(config.mailbox_capacity, channels);
        let blocking = Threads::new(config.blocking_threads, config.blocking_jobs_max);
        let memory = config.memory_limit_bytes.or_else(|| Some(memory_limit()? / 2));
        let networks = config.max_connections_per_ip.map(Networks::new);
        let (connections, pipes) = shares(&config);
        let places = Places::new(connections, mailboxes.iter().map(Mailbox::waker));
        let table_bytes =
            descriptors::address_space_limit().map(|limit| limit / TABLES_SHARE / config.workers);
        let parts = systems.into_iter().zip(sockets).zip(mailboxes).zip(&counters).enumerate().map(
            |(worker, (((system, endpoints), mailbox), counters))| Parts {
                worker: u32::try_from(worker).expect("there are at most 1024 workers"),
                system,
                endpoints,
                mailbox,
                handle: handle.clone(),
                blocking: Arc::new(blocking.clone()),
                counters: Arc::clone(counters),
                networks: networks.clone(),
                places: Arc::clone(&places),
                table_bytes,
                limits: Config {
                    pipes_max: pipes / config.workers,
                    memory_limit_bytes: memory.map(|bytes| (bytes / config.workers).max(1)),
                    ..config.clone()
                },
            },
        );
        Ok(Self {
            parts: parts.collect(),
            handle: handle.clone(),
            counters,
            addresses,
            listeners,
            protocol: PhantomData,
        })
    }
}

/// Where it listens, with the real port, and a socket for each worker.
type Listening = (Address, Vec<OsEndpoint>);

/// Listens on what `address` stands for. What this machine lacks is skipped, unless nothing else is left.
fn bind_each(address: &Address, resolved: &[Address], config: &Config) -> Result<Vec<Listening>, Error> {
    let mut listening = Vec::with_capacity(resolved.len());
    let mut unavailable = Vec::new();
    for resolved in resolved {
        match bind(resolved, config) {
            Ok(bound) => listening.push(bound),
            Err(Error::Bind { address, source }) if is_unavailable(&source) => {
                unavailable.push(Error::Bind { address, source });
            }
            Err(error) => return Err(error),
        }
    }
    if listening.is_empty()
        && let Some(first) = unavailable.drain(..).next()
    {
        return Err(first);
    }
    for error in unavailable {
        log::warn!("{address}: {error}; skipped");
    }
    Ok(listening)
}

/// Runs the loop of one worker. If that fails, all others end too.
fn run_one<P: Protocol>(
    parts: Parts<P::Message, Os>,
    handle: &Handle<P::Message>,
    listeners: &HashMap<usize, Own<P>>,
    factory: impl Fn(&Peer<'_>) -> Option<P>,
) -> Result<(), Error> {
    let mut others = AbortOthers(Some(handle));
    let factory = |peer: &Peer<'_>| match peer.origin {
        Origin::Listener(position) => match listeners.get(&position).and_then(|own| own.factory.as_ref()) {
            Some(own) => own(peer),
            None => factory(peer),
        },
        Origin::Connect(_) => factory(peer),
    };
    let mut event_loop = EventLoop::new(parts, factory)?;
    for (&position, own) in listeners {
        if let Some(limits) = &own.limits {
            event_loop.set_listener_limits(position, limits.clone());
        }
        if let Some(acceptor) = &own.tls {
            event_loop.set_listener_tls(position, acceptor.clone());
        }
    }
    event_loop.run()?;
    others.0 = None;
    Ok(())
}

fn sum(counters: &[Arc<Counters>]) -> Stats {
    let mut stats = Stats::default();
    for counters in counters {
        stats += &counters.snapshot();
    }
    stats
}

/// Aborts the other workers unless this one came to a good end.
struct AbortOthers<'a, M>(Option<&'a Handle<M>>);

impl<M> Drop for AbortOthers<'_, M> {
    fn drop(&mut self) {
        if let Some(handle) = self.0 {
            handle.abort();
        }
    }
}

/// How many connections and how many pipes there may be in all.
fn shares(config: &Config) -> (usize, usize) {
    let moves = cfg!(target_os = "linux") && config.splice_threshold_bytes.is_some();
    let per_worker = if moves { config.pipes_max } else { 0 };
    match config.max_connections {
        Some(connections) => (connections, per_worker * config.workers),
        None => descriptors::default_shares(per_worker, config.workers),
    }
}

/// Where address space is limited, tables of connections reserve this part of it at most.
const TABLES_SHARE: usize = 8;

impl<P> fmt::Debug for Builder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<P: Protocol> fmt::Debug for Server<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_counted_for_every_worker_and_only_where_bytes_are_moved() {
        let mut config = Config { max_connections: Some(10), workers: 2, pipes_max: 4, ..Config::default() };
        assert_eq!(shares(&config), (10, if cfg!(target_os = "linux") { 8 } else { 0 }));
        config.splice_threshold_bytes = None;
        assert_eq!(shares(&config), (10, 0));
    }

    #[test]
    fn of_a_name_only_what_this_machine_has_is_listened_on() {
        let parse = |text: &str| text.parse::<Address>().unwrap();
        // RFC 5737: a network for documentation.
        let (name, lacking, local) = (parse("localhost:0"), parse("192.0.2.77:0"), parse("127.0.0.1:0"));
        let config = Config::default();
        let both = bind_each(&name, &[lacking.clone(), local.clone()], &config).unwrap();
        assert!(both.len() == 1 && both[0].0.to_string().starts_with("127.0.0.1:"), "{both:?}");
        let error = bind_each(&name, std::slice::from_ref(&lacking), &config).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on 192.0.2.77:0: "), "{error}");
        // A port that somebody else has is an error in any case.
        let error = bind_each(&name, &[local, both[0].0.clone()], &config).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", both[0].0)), "{error}");
    }

    #[test]
    fn a_server_goes_to_its_thread_and_a_handle_to_all() {
        fn goes_to_another_thread<T: Send>() {}
        fn is_shared_by_threads<T: Sync + Clone>() {}
        // The protocols stay on their loop: they need not be `Send`.
        struct Local(#[expect(dead_code, reason = "its type is what matters")] std::rc::Rc<()>);
        impl Protocol for Local {
            type Message = ();
            fn on_data(&mut self, _: &mut crate::Input<'_>, _: &mut crate::Context<'_>) {}
        }
        goes_to_another_thread::<Server<Local>>();
        goes_to_another_thread::<Handle<()>>();
        is_shared_by_threads::<Handle<()>>();
    }
}
