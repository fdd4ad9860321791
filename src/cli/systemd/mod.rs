//! systemd: what it is told of a server, sd_notify(3), and the sockets that it passes, sd_listen_fds(3). Without
//! `NOTIFY_SOCKET` in the environment nobody is told anything.

mod listen;
mod messages;
#[cfg_attr(target_os = "linux", path = "passed.rs")]
#[cfg_attr(not(target_os = "linux"), path = "without_passed.rs")]
mod passed;
#[cfg_attr(target_os = "linux", path = "socket.rs")]
#[cfg_attr(not(target_os = "linux"), path = "without_socket.rs")]
mod socket;
mod timetable;

use std::{
    env, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use echoloop::Handle;

pub(crate) use self::{
    listen::{Listen, listen},
    passed::{Passed, PassedSockets},
};
use self::{
    messages::{Figures, Messages},
    socket::Socket,
    timetable::Timetable,
};

/// It does little, and memory may be scarce.
const STACK_BYTES: usize = 256 << 10;

/// Tells systemd how the server is. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    socket: Socket,
    handle: Handle<()>,
    /// How long it goes on accepting after a stop.
    grace: Duration,
    /// Messages are sent under its lock, and so in their order.
    messages: Mutex<Messages>,
}

/// The thread that renews the status and feeds the watchdog. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Watch {
    _end: Option<Sender<()>>,
}

impl Notifier {
    /// For a server with this handle, which goes on accepting for `grace` after a stop.
    pub(crate) fn from_env(handle: Handle<()>, grace: Option<Duration>) -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        match Socket::to(&name) {
            Ok(socket) => {
                let (grace, messages) = (grace.unwrap_or_default(), Mutex::default());
                Self(Some(Arc::new(Inner { socket, handle, grace, messages })))
            }
            Err(error) => {
                log::warn!("cannot notify systemd: NOTIFY_SOCKET={}: {error}", name.display());
                Self(None)
            }
        }
    }

    /// The listeners listen, and signals are handled. From now on the status is renewed and the watchdog is fed.
    pub(crate) fn ready(&self) -> Watch {
        let Some(inner) = &self.0 else { return Watch { _end: None } };
        inner.tell(|messages, figures| Some(messages.ready(figures)));
        let (end, ended) = channel();
        let inner = Arc::clone(inner);
        let work = move || inner.watch(&ended, watchdog());
        if let Err(error) =
            thread::Builder::new().name("systemd".to_owned()).stack_size(STACK_BYTES).spawn(work)
        {
            log::warn!("systemd's watchdog is not fed: {error}");
        }
        Watch { _end: Some(end) }
    }

    /// The server is told to stop.
    pub(crate) fn stopping(&self) {
        if let Some(inner) = &self.0 {
            inner.tell(|messages, figures| messages.stopping(inner.grace, figures));
        }
    }

    /// The server has ended, if nobody has told it to.
    pub(crate) fn ended(&self) {
        if let Some(inner) = &self.0 {
            inner.tell(|messages, figures| messages.stopping(Duration::ZERO, figures));
        }
    }

    /// A reload begins. Each is to be followed by a call of [`reloaded`](Self::reloaded).
    pub(crate) fn reloading(&self) {
        if let Some(inner) = &self.0 {
            inner.tell(|messages, _| messages.reloading(socket::monotonic_usec()));
        }
    }

    /// A reload is over, in a few words. If it failed, the status says so until another one succeeds.
    pub(crate) fn reloaded(&self, outcome: Result<&str, String>) {
        if let Some(inner) = &self.0 {
            inner.tell(|messages, figures| messages.reloaded(outcome, figures));
        }
    }
}

impl Inner {
    fn tell(&self, message: impl FnOnce(&mut Messages, &Figures) -> Option<String>) {
        let mut messages = self.messages();
        if let Some(message) = message(&mut messages, &self.figures()) {
            note(self.socket.send(&message));
        }
    }

    /// This waits for nobody: whoever has more to say would wait for it.
    fn renew_status(&self) {
        let mut messages = self.messages();
        if let Some(message) = messages.status(&self.figures()) {
            let sent = self.socket.try_send(&message);
            if sent.is_err() {
                messages.forget_status();
            }
            note(sent);
        }
    }

    fn figures(&self) -> Figures {
        let stats = self.handle.stats();
        Figures { open: stats.open, accepted: stats.accepted, now: now() }
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until `ended` is closed.
    fn watch(&self, ended: &Receiver<()>, watchdog: Option<Duration>) {
        let mut timetable = Timetable::new(now(), watchdog);
        while ended.recv_timeout(timetable.wait(now())) == Err(RecvTimeoutError::Timeout) {
            let due = timetable.due(now());
            if due.status {
                self.renew_status();
            }
            if let Some(patience) = due.watchdog {
                self.feed_watchdog(patience);
            }
        }
    }

    /// A loop that does not answer is stuck: then systemd hears nothing, and does what its unit says.
    fn feed_watchdog(&self, patience: Duration) {
        let answers = self.handle.accepting(patience);
        match answers.iter().filter(|answer| answer.is_none()).count() {
            // Its place among the others means nothing.
            0 => note(self.socket.send("WATCHDOG=1\n")),
            silent => log::warn!(
                "systemd's watchdog is not fed: {silent} of {} event loops did not answer within {patience:?}",
                answers.len()
            ),
        }
    }
}

fn note(sent: io::Result<()>) {
    if let Err(error) = sent {
        log::warn!("cannot notify systemd: {error}");
    }
}

/// How often this process has to give a sign of life, if it has to: sd_watchdog_enabled(3).
fn watchdog() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    timetable::watchdog_period(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

#[expect(clippy::disallowed_methods, reason = "systemd waits in real time")]
fn now() -> Instant {
    Instant::now()
}
