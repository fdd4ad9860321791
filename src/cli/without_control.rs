//! The program where there are no Unix sockets: it has no control socket, and no other process takes its place.

use std::convert::Infallible;

use clap::Args;
use echoloop::{Builder, Echo, Protocol, Server};

use super::{failure::Failure, ops::RunningOps, systemd::Notifier};

/// What the sockets are for on which clients are served.
pub(crate) const SERVE_ROLE: &str = "serve";

/// Says what came of reading files again.
pub(crate) type Reload = dyn Fn() -> Result<String, String> + Send + Sync;

/// No options.
#[derive(Args, Clone, Debug)]
pub(crate) struct ControlArgs {}

/// There is none.
#[derive(Debug)]
pub(crate) struct Predecessor(Option<Infallible>);

/// There is none.
#[derive(Debug)]
pub(crate) struct Controls;

/// There is none.
#[derive(Debug)]
pub(crate) struct Succession;

impl ControlArgs {
    pub(crate) const fn predecessor(&self) -> Result<Predecessor, Failure> {
        Ok(Predecessor(None))
    }

    pub(crate) fn start(
        &self,
        _: &Server<Echo>,
        _: &RunningOps,
        _: &Notifier,
        _: std::sync::Arc<Reload>,
        _: &mut Predecessor,
    ) -> Result<Controls, Failure> {
        Ok(Controls)
    }
}

impl Controls {
    pub(crate) const fn introduction(&self) -> Option<String> {
        None
    }
}

impl Predecessor {
    #[expect(clippy::needless_pass_by_ref_mut, reason = "where there is one its sockets can be taken once")]
    pub(crate) fn pass_on<P: Protocol>(&mut self, _: &str, builder: Builder<P>) -> Builder<P> {
        match self.0 {
            Some(never) => match never {},
            None => builder,
        }
    }

    pub(crate) const fn succeed(self, _: &Server<Echo>, _: &RunningOps, _: &mut Controls) -> Succession {
        Succession
    }
}

impl Succession {
    pub(crate) const fn outcome(self) -> Result<(), Failure> {
        Ok(())
    }
}
