//! The control socket of `serve`, and taking the place of another process.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use clap::Args;
use echoloop::{
    Address, Builder, Echo, Protocol, Server, Sockets,
    ops::{BoundControl, RunningControl, Takeover},
};

use super::{failure::Failure, logger, ops::RunningOps, systemd::Notifier};

/// What the sockets are for on which clients are served.
pub(crate) const SERVE_ROLE: &str = "serve";
const CONTROL_ROLE: &str = "control";

/// Says what came of reading files again.
pub(crate) type Reload = dyn Fn() -> Result<String, String> + Send + Sync;

/// How a running server is steered, and replaced.
#[derive(Args, Clone, Debug)]
pub(crate) struct ControlArgs {
    /// Take orders of `echoloop ctl` on this path
    ///
    /// Only root and the user who runs the server can use it. It is needed for --takeover. Off by default.
    #[arg(long, value_name = "unix:PATH", value_parser = control_path)]
    control: Option<PathBuf>,

    /// Take the place of the server with this control socket
    ///
    /// To be started with the same addresses, and the same --control for the next time: it gets the sockets of the other one,
    /// which stops accepting when this one serves, and drains. No client is refused. If this one cannot serve, the other one
    /// goes on.
    #[arg(long, value_name = "PATH", value_parser = takeover_path)]
    takeover: Option<PathBuf>,
}

/// `unix:PATH`: there is no control socket over TCP.
fn control_path(text: &str) -> Result<PathBuf, String> {
    match text.parse() {
        Ok(Address::Unix(path)) => Ok(path),
        _ => Err("a control socket is a Unix socket: write unix:PATH".to_owned()),
    }
}

/// The same, or the path alone.
pub(super) fn takeover_path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with("unix:") { control_path(text) } else { control_path(&format!("unix:{text}")) }
}

/// The process whose place this one takes, if there is one.
#[derive(Debug)]
pub(crate) struct Predecessor(Option<Takeover>);

/// The control socket, if there is one. Dropping it ends it.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    path: Option<PathBuf>,
    /// It answers when the other one's place is taken.
    bound: Option<BoundControl>,
    running: Arc<Mutex<Option<RunningControl>>>,
}

/// What came of taking the other one's place. It is known when the server has ended.
#[derive(Debug)]
pub(crate) struct Succession(mpsc::Receiver<String>);

impl ControlArgs {
    /// Gets its sockets.
    pub(crate) fn predecessor(&self) -> Result<Predecessor, Failure> {
        let Some(path) = &self.takeover else { return Ok(Predecessor(None)) };
        let takeover = Takeover::begin(path).map_err(|error| {
            let is_missing =
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            Failure::new(format!("cannot take over from the server at {}: {error}", path.display())).hint(
                is_missing
                    .then_some("no server takes orders there; the first one is started without --takeover"),
            )
        })?;
        Ok(Predecessor(Some(takeover)))
    }

    /// Listens, if that is wanted.
    pub(crate) fn start(
        &self,
        server: &Server<Echo>,
        ops: &RunningOps,
        systemd: &Notifier,
        reload: Arc<Reload>,
        predecessor: &mut Predecessor,
    ) -> Result<Controls, Failure> {
        let Some(path) = &self.control else { return Ok(Controls::default()) };
        let handles: Vec<_> = ops.running().map(|(_, running)| running.handle()).collect();
        let (handle, systemd) = (server.handle(), systemd.clone());
        let control = ops
            .ops
            .control()
            .on_reload(move || reload())
            .on_log_level(logger::set_level)
            .give(SERVE_ROLE, server.sockets())
            .on_succession(move || {
                systemd.stopping();
                // Who looks at the other one now shall not meet this one.
                handles.iter().for_each(echoloop::Handle::drain_now);
                handle.drain_now();
            });
        let control = ops
            .running()
            .fold(control, |control, (role, running)| control.give(role, running.sockets().clone()));
        let Some(takeover) = &mut predecessor.0 else {
            return Ok(Controls {
                bound: None,
                running: Arc::new(Mutex::new(Some(control.start(path)?))),
                path: Some(path.clone()),
            });
        };
        // One with another path ends with the other server.
        let is_same = takeover
            .untaken()
            .any(|(role, address)| role == CONTROL_ROLE && *address == Address::Unix(path.clone()));
        let inherited = if is_same { takeover.take(CONTROL_ROLE) } else { Vec::new() };
        Ok(Controls {
            bound: Some(control.bind(path, inherited)?),
            path: Some(path.clone()),
            ..Controls::default()
        })
    }
}

impl Controls {
    /// A line for the address.
    pub(crate) fn introduction(&self) -> Option<String> {
        self.path.as_ref().map(|path| format!("control on unix:{}", path.display()))
    }
}

impl Predecessor {
    /// Its sockets of this role are used by what is built here.
    pub(crate) fn pass_on<P: Protocol>(&mut self, role: &str, builder: Builder<P>) -> Builder<P> {
        match &mut self.0 {
            Some(takeover) => builder.inherit(takeover.take(role)),
            None => builder,
        }
    }

    /// As soon as the server serves the other one is told.
    pub(crate) fn succeed(
        self,
        server: &Server<Echo>,
        ops: &RunningOps,
        controls: &mut Controls,
    ) -> Succession {
        let (sender, outcome) = mpsc::channel();
        let Some(takeover) = self.0 else { return Succession(outcome) };
        for (role, address) in takeover.untaken() {
            log::warn!("takeover: {address} ({role}) is not taken over");
        }
        let handle = server.handle();
        let sockets: Vec<Sockets> = std::iter::once(server.sockets())
            .chain(ops.running().map(|(_, running)| running.sockets().clone()))
            .chain(controls.bound.as_ref().map(|control| control.sockets().clone()))
            .collect();
        let (control, running) = (controls.bound.take(), Arc::clone(&controls.running));
        let complete = {
            let (handle, sender) = (handle.clone(), sender.clone());
            move || match takeover.complete(&handle, &sockets) {
                Ok(()) => {
                    log::info!("takeover: this server has taken the other one's place");
                    match control.map(BoundControl::start).transpose() {
                        Ok(control) => *running.lock().unwrap_or_else(PoisonError::into_inner) = control,
                        Err(error) => log::error!("it takes no orders: {error}"),
                    }
                }
                Err(error) => {
                    // The main thread may have lost interest.
                    let _ = sender.send(error.to_string());
                    handle.drain_now();
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("takeover".to_owned()).spawn(complete) {
            let _ = sender.send(format!("cannot start a thread: {error}"));
            handle.drain_now();
        }
        Succession(outcome)
    }
}

impl Succession {
    /// An error if the other one goes on.
    pub(crate) fn outcome(self) -> Result<(), Failure> {
        match self.0.try_recv() {
            Ok(why) => Err(Failure::new(format!("takeover failed, the other server goes on: {why}"))),
            Err(_) => Ok(()),
        }
    }
}
