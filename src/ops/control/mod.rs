//! The control socket: operators of the same user ask a running server, steer it, and replace it.
//!
//! One request on each connection: a line `[json] COMMAND [ARGUMENT]`. The answer is a line `ok` or `error: WHY`, and what was
//! asked for behind it, until the end. Requests are few, and each has a thread while it is answered: the event loops have
//! nothing to do with them.

mod descriptors;
mod report;
mod request;
mod takeover;

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    os::unix::net::{self, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use log::LevelFilter;
use mio::{Events, Interest, Poll, Token, Waker, net::UnixListener};

pub use self::takeover::Takeover;
use self::{
    descriptors::Lines,
    report::{connections_json, connections_text, overview_json, overview_text, silence},
    request::{Command, Request},
};
use super::{Ops, PATIENCE, now, subject::Order};
use crate::{
    address::Address,
    error::Error,
    sockets::Sockets,
    status::Accepting,
    system::os::{BoundSocket, Inherited, control_listener},
};

/// How long a client may take to ask, and to take its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who asks at the same time. Others are turned away.
const CLIENTS_MAX: usize = 16;

/// At the end those are waited for who are being answered.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The threads do little.
const STACK_BYTES: usize = 512 << 10;

/// A server's control socket, to be set up: [`Ops::control`].
///
/// | request | what it does |
/// | --- | --- |
/// | `status` | what each loop is doing, and the counters |
/// | `list` | what each connection is doing |
/// | `kill ID` | resets a connection; its ID is in the list |
/// | `drain` | [`Handle::prestop`](crate::Handle::prestop): not ready any more, and serving as before |
/// | `undrain` | takes that back |
/// | `stop` | [`Handle::drain`](crate::Handle::drain): the server ends gracefully |
/// | `reload` | what [`on_reload`](Self::on_reload) was given |
/// | `log-level LEVEL` | what [`on_log_level`](Self::on_log_level) was given |
/// | `takeover VERSION` | another process takes the place of this one: [`Takeover`] |
///
/// With `json` in front the answers to `status` and `list` are JSON.
pub struct Control {
    shared: Shared,
}

struct Shared {
    ops: Ops,
    reload: Option<Reload>,
    set_log_level: Option<Box<dyn Fn(LevelFilter) + Send + Sync>>,
    given: Vec<(String, Sockets)>,
    succeed: Mutex<Option<Succeed>>,
    is_over: AtomicBool,
    clients: Clients,
}

/// Who is being answered.
#[derive(Default)]
struct Clients {
    number: Mutex<usize>,
    has_changed: Condvar,
}

/// One of them. Dropping it says that it has its answer.
struct Client(Arc<Shared>);

impl Client {
    /// `None` if there are too many.
    fn enter(shared: &Arc<Shared>) -> Option<Self> {
        let mut number = lock(&shared.clients.number);
        if *number >= CLIENTS_MAX {
            return None;
        }
        *number += 1;
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        *lock(&self.0.clients.number) -= 1;
        self.0.clients.has_changed.notify_all();
    }
}

/// Says what came of it.
type Reload = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What is done when another process serves.
type Succeed = Box<dyn FnOnce() + Send>;

/// A control socket that is listened on, and where nobody is answered yet: [`Control::bind`].
pub struct BoundControl {
    path: PathBuf,
    sockets: Sockets,
    listener: net::UnixListener,
    bound: Arc<BoundSocket>,
    shared: Shared,
}

/// A control socket where orders are taken. Dropping it ends that; who is being answered still gets the answer, if that takes no
/// longer than two seconds.
pub struct RunningControl {
    path: PathBuf,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Ops {
    /// A control socket for the server that is looked at.
    ///
    /// ```
    /// use echoloop::{Echo, Server, ops::Ops};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("control");
    /// let server = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
    /// let ops = Ops::new(server.handle(), server.local_addrs());
    /// let control = ops.control().give("serve", server.sockets()).start(&path)?;
    /// # server.handle().drain();
    /// server.run(|_| Some(Echo))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn control(&self) -> Control {
        let shared = Shared {
            ops: self.clone(),
            reload: None,
            set_log_level: None,
            given: Vec::new(),
            succeed: Mutex::new(None),
            is_over: AtomicBool::new(false),
            clients: Clients::default(),
        };
        Control { shared }
    }
}

impl Control {
    /// What `reload` does: in a few words what came of it, or why nothing did.
    #[must_use]
    pub fn on_reload(mut self, reload: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        self.shared.reload = Some(Box::new(reload));
        self
    }

    /// What `log-level` does.
    #[must_use]
    pub fn on_log_level(mut self, set: impl Fn(LevelFilter) + Send + Sync + 'static) -> Self {
        self.shared.set_log_level = Some(Box::new(set));
        self
    }

    /// A process that takes over gets these sockets, under this name. The control socket itself is `control`.
    #[must_use]
    pub fn give(mut self, role: &str, sockets: Sockets) -> Self {
        self.shared.given.push((role.to_owned(), sockets));
        self
    }

    /// What is done when another process has taken over and serves. Without this the server is told to
    /// [`drain_now`](crate::Handle::drain_now). Other servers of this process that have given sockets have to be told too.
    #[must_use]
    pub fn on_succession(self, succeed: impl FnOnce() + Send + 'static) -> Self {
        *lock(&self.shared.succeed) = Some(Box::new(succeed));
        self
    }

    /// Listens on this path, and answers, from now on. Its file can be used by this user alone (mode 0600), and where the system
    /// tells who connects (Linux) root and this user are answered, and nobody else.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the path cannot be listened on, [`Error::Loop`] if no thread can be started.
    pub fn start(self, path: &Path) -> Result<RunningControl, Error> {
        self.bind(path, Vec::new())?.start()
    }

    /// Listens on this path, and answers nobody yet: with the control socket of the process whose place this one takes, if
    /// that had one with this path ([`Takeover::take`]`("control")`). To be started when this one has
    /// [taken its place](Takeover::complete): until then orders are for the other one.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the path cannot be listened on.
    pub fn bind(mut self, path: &Path, inherited: Vec<Inherited>) -> Result<BoundControl, Error> {
        let address = Address::Unix(path.to_owned());
        let failed = |source| Error::Bind { address: address.clone(), source };
        let inherited = inherited.into_iter().find(|one| one.address() == &address);
        let (listener, bound) = control_listener(path, inherited).map_err(failed)?;
        let sockets = Sockets::new(std::iter::once(&bound));
        self.shared.given.push(("control".to_owned(), sockets.clone()));
        Ok(BoundControl { path: path.to_owned(), sockets, listener, bound, shared: self.shared })
    }
}

impl BoundControl {
    /// Answers from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Loop`] if no thread can be started.
    pub fn start(self) -> Result<RunningControl, Error> {
        let Self { path, listener, bound, shared, .. } = self;
        let failed = |source| Error::Loop { what: "cannot start the control socket", source };
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let shared = Arc::new(shared);
        let accept = {
            let (shared, waker) = (Arc::clone(&shared), Arc::clone(&waker));
            move || accept(&shared, listener, bound, poll, &waker)
        };
        let thread = thread::Builder::new().name("echoloop-control".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(accept).map_err(failed)?;
        Ok(RunningControl { path, shared, waker, thread: Some(thread) })
    }

    /// The socket on which it listens: see [`Takeover::complete`].
    #[must_use]
    pub const fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);

/// Accepts until it is over.
fn accept(
    shared: &Arc<Shared>,
    listener: net::UnixListener,
    bound: Arc<BoundSocket>,
    mut poll: Poll,
    waker: &Arc<Waker>,
) {
    let mut listener = UnixListener::from_std(listener);
    let mut events = Events::with_capacity(2);
    if let Err(error) = poll.registry().register(&mut listener, LISTENER, Interest::READABLE) {
        return log::error!("control socket: cannot watch it: {error}");
    }
    while !shared.is_over.load(Ordering::SeqCst) {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return log::error!("control socket: cannot wait for events: {error}");
            }
            _ => {}
        }
        while !shared.is_over.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => shared.serve(stream.into(), waker),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("control socket: cannot accept: {error}");
                    // What has run out may be there again by then.
                    thread::park_timeout(PATIENCE);
                }
            }
        }
    }
    // The other process has it too, or the file goes.
    let _ = poll.registry().deregister(&mut listener);
    drop(bound);
}

impl Shared {
    /// Answers a client on a thread of its own.
    fn serve(self: &Arc<Self>, mut stream: UnixStream, waker: &Arc<Waker>) {
        let set_up = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(CLIENT_TIMEOUT)))
            .and_then(|()| stream.set_write_timeout(Some(CLIENT_TIMEOUT)));
        if let Err(error) = set_up {
            return log::debug!("control socket: a client is gone: {error}");
        }
        let Some(client) = Client::enter(self) else {
            let _ = stream.write_all(takeover::refusal("too many ask at the same time").as_bytes());
            return;
        };
        let waker = Arc::clone(waker);
        let answer = move || {
            if let Err(error) = client.0.answer(&stream, &waker) {
                log::debug!("control socket: {error}");
            }
        };
        let thread = thread::Builder::new().name("echoloop-answer".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(answer) {
            log::warn!("control socket: cannot start a thread: {error}");
        }
    }

    fn answer(&self, stream: &UnixStream, waker: &Waker) -> io::Result<()> {
        let result = match check_user(stream).and_then(|()| read_request(stream)) {
            Ok(Request { command: Command::Takeover(version), .. }) => {
                return self.give_way(stream, &version, waker);
            }
            Ok(request) => self.run(&request),
            Err(why) => Err(why),
        };
        let answer = match result {
            Ok(content) => format!("ok\n{content}"),
            Err(why) => takeover::refusal(&why),
        };
        let mut stream = stream;
        stream.write_all(answer.as_bytes())
    }

    /// Does what was asked, and says what came of it.
    fn run(&self, request: &Request) -> Result<String, String> {
        let subject = &self.ops.0.subject;
        match &request.command {
            Command::Status => {
                let (overview, listeners) = (self.ops.overview(), &self.ops.0.listeners);
                Ok(if request.is_json {
                    format!("{}\n", overview_json(&overview, listeners))
                } else {
                    overview_text(&overview, listeners)
                })
            }
            Command::List => {
                let list = subject.connections(PATIENCE);
                Ok(if request.is_json {
                    format!("{}\n", connections_json(&list))
                } else {
                    connections_text(&list, subject.workers())
                })
            }
            Command::Kill(id) => {
                let list = subject.connections(PATIENCE);
                let found = list.connections.iter().find(|one| one.id.to_string() == *id);
                let found = found.ok_or_else(|| {
                    let silence = silence(list.workers_silent, subject.workers());
                    let silence = silence.map(|line| format!(", but {line}")).unwrap_or_default();
                    format!("there is no connection {}{silence}", id.escape_default())
                })?;
                log::info!("control socket: connection {id} is reset");
                subject.abort_connection(found.id).map_err(|error| error.to_string())?;
                Ok(String::new())
            }
            Command::Drain => {
                log::info!("control socket: not ready from now on");
                subject.order(Order::Prestop);
                Ok(String::new())
            }
            Command::Undrain => {
                subject.order(Order::CancelPrestop);
                if !subject.is_ready() {
                    return Err("it is ending, which cannot be taken back".to_owned());
                }
                log::info!("control socket: ready again");
                Ok(String::new())
            }
            Command::Stop => {
                log::info!("control socket: stop");
                subject.order(Order::Drain);
                Ok(String::new())
            }
            Command::Reload => {
                let reload = self.reload.as_ref().ok_or("there is nothing to reload")?;
                reload().map(|outcome| format!("{outcome}\n"))
            }
            Command::LogLevel(level) => {
                let set = self.set_log_level.as_ref().ok_or("the level of the log cannot be changed")?;
                set(*level);
                log::info!("control socket: log level {level}");
                Ok(String::new())
            }
            Command::Takeover(_) => Err("it is no such request".to_owned()),
        }
    }

    /// One takes over at a time. One that has just given up may not have left yet, and is waited for.
    fn succession(&self) -> Option<MutexGuard<'_, Option<Succeed>>> {
        let begin = now();
        loop {
            match self.succeed.try_lock() {
                Ok(succeed) => return Some(succeed),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if begin.elapsed() > PATIENCE => return None,
                Err(TryLockError::WouldBlock) => thread::park_timeout(PATIENCE / 100),
            }
        }
    }

    /// Another process takes the place of this one.
    fn give_way(&self, stream: &UnixStream, version: &str, waker: &Waker) -> io::Result<()> {
        let refuse = |why: &str| {
            log::warn!("takeover: called off: {why}");
            takeover::refuse(stream, why)
        };
        if version != takeover::VERSION {
            let why = format!(
                "version {} of takeover is spoken here, not {}",
                takeover::VERSION,
                version.escape_default()
            );
            return refuse(&why);
        }
        let Some(mut succeed) = self.succession() else { return refuse("another process is taking over") };
        let is_ending =
            || self.ops.0.subject.accepting(PATIENCE).iter().all(|one| *one == Some(Accepting::No));
        if self.is_over.load(Ordering::SeqCst) || is_ending() {
            return refuse("it is ending, and has nothing to give");
        }
        let prepared = match takeover::prepare(&self.given) {
            Ok(prepared) => prepared,
            Err(error) => return refuse(&format!("cannot give its sockets: {error}")),
        };
        // A stop in between must not take from the other one what it has got.
        self.given.iter().for_each(|(_, sockets)| sockets.leave());
        let offered = takeover::offer(stream, prepared);
        let taken = match offered.and_then(|taken| takeover::let_go(stream).map(|()| taken)) {
            Ok(taken) => taken,
            Err(error) => {
                self.given.iter().for_each(|(_, sockets)| sockets.own());
                return refuse(&format!("the other process did not come to serve: {error}"));
            }
        };
        log::info!("takeover: another process serves, this one drains");
        // What it has no use for ends with this one.
        let untaken = self.given.iter().filter(|(role, _)| !taken.contains(role));
        untaken.for_each(|(_, sockets)| sockets.own());
        self.is_over.store(true, Ordering::SeqCst);
        if let Err(error) = waker.wake() {
            log::warn!("control socket: cannot wake it: {error}");
        }
        match succeed.take() {
            Some(succeed) => succeed(),
            None => self.ops.0.subject.order(Order::DrainNow),
        }
        Ok(())
    }
}

/// The line that a client sends.
fn read_request(stream: &UnixStream) -> Result<Request, String> {
    let line = Lines::of_text(stream, request::REQUEST_MAX).next();
    Request::parse(&line.map_err(|error| format!("no request has come: {error}"))?)
}

/// The file keeps others out, if its directory is what it should be; this does anyway.
#[cfg(target_os = "linux")]
fn check_user(stream: &UnixStream) -> Result<(), String> {
    let peer = rustix::net::sockopt::socket_peercred(stream).map_err(|error| error.to_string())?;
    if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    log::warn!(
        "control socket: refused: process {} of user {}",
        peer.pid.as_raw_nonzero(),
        peer.uid.as_raw()
    );
    Err("only the user who runs the server is answered".to_owned())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "on Linux somebody may be refused")]
fn check_user(_: &UnixStream) -> Result<(), String> {
    Ok(())
}

/// A connection to a control socket.
fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

impl RunningControl {
    /// Whether another process has taken over.
    #[must_use]
    pub fn is_succeeded(&self) -> bool {
        self.shared.is_over.load(Ordering::SeqCst)
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunningControl {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let is_woken = self.waker.wake().is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_woken) {
            let _ = thread.join();
        }
        let number = lock(&self.shared.clients.number);
        // Whoever only looks on is not waited for longer.
        drop(self.shared.clients.has_changed.wait_timeout_while(number, LAST_ANSWERS, |number| *number > 0));
    }
}

impl fmt::Debug for BoundControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundControl").field("path", &self.path).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl fmt::Debug for RunningControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningControl").field("path", &self.path).finish_non_exhaustive()
    }
}
