//! What runs a load.

use crate::cli::{
    bench::measure::{hdr_writer::LatencyLog, outcome::Outcome},
    failure::Failure,
};

/// A load that is ready to run, over streams or over datagrams.
pub(crate) trait Generator {
    /// A function that ends the load early, in the documented way.
    fn interrupter(&self) -> impl Fn() + Send + 'static;

    /// A function that ends the load at once.
    fn aborter(&self) -> impl Fn() + Send + 'static;

    /// Runs the load from beginning to end. If it is aborted, its figures mean nothing.
    fn run(self, log: Option<LatencyLog<'_>>) -> Result<Outcome, Failure>;
}
