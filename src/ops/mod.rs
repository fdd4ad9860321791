//! Metrics, health checks and a status page for a running server, over HTTP; HAProxy's agent-check; and a control socket, over
//! which another process can take its place. Feature `ops`.
//!
//! [`Ops`] looks at a server through its [`Handle`], whatever that server speaks. What it finds is served on an address of
//! its own, by a loop and a thread of its own: a server that is stuck, full or draining can still be asked.
//!
//! ```
//! use echoloop::{Echo, Server, ops::Ops};
//!
//! let server = Server::<Echo>::builder().bind(["127.0.0.1:0"])?;
//! let ops = Ops::new(server.handle(), server.local_addrs());
//! let http = ops.start_http("127.0.0.1:0")?;
//! println!("metrics on http://{}/", http.local_addrs()[0]);
//! # server.handle().drain();
//! server.run(|_| Some(Echo))?;
//! http.end(); // the last to close
//! # Ok::<(), echoloop::Error>(())
//! ```
//!
//! | path | what it says |
//! | --- | --- |
//! | `/metrics` | all figures, in the text format 0.0.4 of Prometheus |
//! | `/livez` | 200 if every loop has answered within a second, or else 503 |
//! | `/readyz` | 200 if clients should be sent here: [`Handle::is_ready`], and every loop answers and accepts; or else 503, from the first instant of a grace or a drain |
//! | `/` | a page for people, which needs no other file and no JavaScript |
//!
//! Everything can be read by whoever can connect, and nothing can be changed. No client's address is shown. Turns of the
//! loops are shown if they are measured: [`Config::measure_turns`](crate::Config::measure_turns).
//!
//! A server can also listen for these itself: [`Ops::http`] and [`Ops::agent`] are [`Protocol`](crate::Protocol)s.

mod agent;
mod chart;
#[cfg(unix)]
mod control;
mod date;
mod http;
mod metrics;
mod overview;
mod page;
mod reply;
mod request;
mod running;
mod samples;
mod subject;
mod units;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

#[cfg(unix)]
pub use self::control::{BoundControl, Control, RunningControl, Takeover};
pub use self::{agent::Agent, http::Http, reply::Reply, running::Running};
use self::{
    overview::Overview,
    reply::{Kind, Status},
    request::Route,
    samples::Samples,
    subject::Subject,
};
use crate::{
    address::Address,
    handle::Handle,
    status::{Accepting, ServerStatus},
    system::process::Process,
};

/// How long a loop has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// To say what all its connections do, a loop looks at each of them. However many ask, it is asked no more often.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

/// Looks at a running server, for whoever asks. Cheap to clone: the clones share what they have found.
#[derive(Clone)]
pub struct Ops(Arc<Shared>);

struct Shared {
    subject: Box<dyn Subject>,
    listeners: Vec<Address>,
    samples: Mutex<Samples>,
    status: Mutex<Option<(Instant, ServerStatus)>>,
}

impl Ops {
    /// Looks at the server of this handle. `listeners` are shown on the status page: what
    /// [`Server::local_addrs`](crate::Server::local_addrs) says.
    #[must_use]
    pub fn new<M: Send + 'static>(handle: Handle<M>, listeners: &[Address]) -> Self {
        let samples = Samples::new(now(), handle.stats());
        Self(Arc::new(Shared {
            subject: Box::new(handle),
            listeners: listeners.to_vec(),
            samples: Mutex::new(samples),
            status: Mutex::new(None),
        }))
    }

    /// What is spoken with a client that asks over HTTP/1.1: GET and HEAD, and nothing that would change anything.
    ///
    /// ```
    /// use echoloop::{Server, ops::{Http, Ops}};
    ///
    /// // It looks at itself.
    /// let server = Server::<Http>::builder().bind(["127.0.0.1:0"])?;
    /// let ops = Ops::new(server.handle(), server.local_addrs());
    /// # server.handle().drain();
    /// server.run(|_| Some(ops.http()))?;
    /// # Ok::<(), echoloop::Error>(())
    /// ```
    #[must_use]
    pub fn http(&self) -> Http {
        Http::new(self.clone())
    }

    /// What is said to HAProxy's agent-check: one line, then FIN.
    ///
    /// | line | when |
    /// | --- | --- |
    /// | `up ready` | [`Handle::is_ready`] |
    /// | `drain` | a stop is announced, or a grace began, and clients are still accepted |
    /// | `stopped` | no clients are accepted any more |
    #[must_use]
    pub fn agent(&self) -> Agent {
        Agent::new(self.clone())
    }

    /// Takes a sample for the charts of the status page, which show the last five minutes. To be called once a second;
    /// [`start_http`](Self::start_http) does so by itself.
    pub fn sample(&self) {
        let stats = self.0.subject.stats();
        self.samples().add(now(), stats);
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.0.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        self.0.subject.is_ready()
    }

    /// What each worker is doing. May block.
    fn status(&self) -> ServerStatus {
        let mut known = self.0.status.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, status)) if now().saturating_duration_since(*at) < STATUS_INTERVAL => status.clone(),
            Some(_) | None => {
                let status = self.0.subject.status(PATIENCE);
                *known = Some((now(), status.clone()));
                status
            }
        }
    }

    /// What is answered to a request. May block.
    fn answer(&self, route: Route) -> Reply {
        match route {
            Route::Page => Reply::ok(Kind::Html, self.page()),
            Route::Metrics => Reply::ok(Kind::Metrics, self.metrics()),
            Route::Live => self.live(),
            Route::Ready => self.ready(),
        }
    }

    fn live(&self) -> Reply {
        match silent(&self.0.subject.accepting(PATIENCE)) {
            None => Reply::ok(Kind::Text, "live\n".to_owned()),
            Some(silent) => Reply::new(Status::Unavailable, silent),
        }
    }

    fn ready(&self) -> Reply {
        let unavailable = |why: &str| Reply::new(Status::Unavailable, why.to_owned());
        if !self.is_ready() {
            return unavailable("stopping");
        }
        let accepting = self.0.subject.accepting(PATIENCE);
        match silent(&accepting) {
            Some(silent) => unavailable(&silent),
            None if accepting.contains(&Some(Accepting::No)) => unavailable("not accepting"),
            // The order may have come meanwhile.
            None if !self.is_ready() => unavailable("stopping"),
            None => Reply::ok(Kind::Text, "ready\n".to_owned()),
        }
    }

    /// The line for HAProxy. May block unless the server is ready.
    fn agent_line(&self) -> &'static str {
        if self.is_ready() {
            return "up ready\n";
        }
        // One that does not answer may still have clients in its backlog.
        let has_stopped = self.0.subject.accepting(PATIENCE).iter().all(|one| *one == Some(Accepting::No));
        if has_stopped { "stopped\n" } else { "drain\n" }
    }

    /// May block.
    fn overview(&self) -> Overview {
        let ServerStatus { workers, workers_silent } = self.status();
        let subject = &self.0.subject;
        Overview {
            is_ready: subject.is_ready(),
            workers_total: subject.workers(),
            workers,
            workers_silent,
            stats: subject.stats(),
        }
    }

    fn metrics(&self) -> String {
        metrics::render(&self.overview(), &Process::look())
    }

    fn page(&self) -> String {
        page::render(&page::Figures {
            overview: &self.overview(),
            process: &Process::look(),
            listeners: &self.0.listeners,
            samples: &self.samples(),
            date: date::http_date(wall_clock()),
        })
    }
}

/// Which workers have not answered, if any.
fn silent(accepting: &[Option<Accepting>]) -> Option<String> {
    let silent = accepting.iter().enumerate().filter(|(_, answer)| answer.is_none());
    let numbers: Vec<String> = silent.map(|(worker, _)| worker.to_string()).collect();
    (!numbers.is_empty()).then(|| format!("workers that do not answer: {}", numbers.join(", ")))
}

#[expect(clippy::disallowed_methods, reason = "it looks from outside, in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "clients and people are told the date")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("listeners", &self.0.listeners).finish_non_exhaustive()
    }
}
