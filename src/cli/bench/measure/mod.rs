//! What is measured, while a load runs and in the end.
//!
//! ```text
//! recorder      a load while it runs: samples, progress bar, log
//! samples       figures, collected at short intervals from a `Source`
//! outcome       the figures of a whole load
//! hdr_reader    the figures of logs, merged
//! hdr_line, hdr_decoder    the lines of a log, and the histograms in them
//! log_times, series        where its intervals are in time, and their figures
//! hdr_writer    the log of a load
//! progress      the progress bar
//! interval      the figures of one interval
//! measured_time    when what is due counts
//! tally         messages, bytes and latencies of a period
//! latencies     histograms
//! ends          how connections ended
//! handshakes    what TLS was agreed on, and how often
//! datagram_counts    datagrams that were lost, or came late, twice or changed
//! ```
//!
//! Nothing here knows what makes the load, which implements `Source`, or how figures are presented.

pub(crate) mod datagram_counts;
pub(crate) mod ends;
pub(crate) mod handshakes;
mod hdr_decoder;
mod hdr_line;
pub(crate) mod hdr_reader;
pub(crate) mod hdr_writer;
pub(crate) mod interval;
pub(crate) mod latencies;
mod log_times;
pub(crate) mod measured_time;
pub(crate) mod outcome;
mod progress;
pub(crate) mod recorder;
pub(crate) mod samples;
mod series;
pub(crate) mod tally;
