//! Every limit of a server, with its unit and its default.

use std::time::Duration;

use crate::{error::Error, proxy_protocol::Cidr};

/// Every limit of a server. Start from [`Config::default`] and set what should differ.
///
/// A timeout of `None` is off. Sizes are in bytes. [`Server`](crate::Server) checks the values when it
/// is bound and says in one line what is out of bounds.
///
/// ```
/// use std::time::Duration;
/// use echoloop::Config;
///
/// let mut config = Config::default();
/// config.idle_timeout = Some(Duration::from_secs(30));
/// config.max_connections = Some(10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Connections that the kernel completes and queues until the loop accepts them; the system may
    /// cap it (`net.core.somaxconn`). At least 1. Default 4096. See listen(2).
    pub backlog: u32,
    /// Connections open at once, over all workers; further clients wait in the backlog. At least 1 for each worker.
    /// Default `None`: what the soft descriptor limit (`RLIMIT_NOFILE`) allows, less a reserve of 64 or an
    /// eighth of it, whichever is smaller, and two for each of the pipes. Elsewhere than on Unix `None` is 65,536.
    pub max_connections: Option<usize>,
    /// Connections open at once from one client's address, over all workers: from an IPv4 address, or from the /64 of an
    /// IPv6 address. Further clients from there are reset, and counted
    /// ([`Stats::over_ip_limit`](crate::Stats::over_ip_limit)). Clients of Unix sockets are not limited. At least 1. Default
    /// `None`: no limit.
    pub max_connections_per_ip: Option<usize>,
    /// Connections to accept in all before the listeners are closed and the server ends with the last
    /// of them. Only with a single worker, and without UDP. Default `None`: no end.
    pub accept_limit: Option<u64>,
    /// Go on when nothing is left to do (no listener and no connection) until a
    /// [`Handle`](crate::Handle) drains or aborts: for loops whose outbound connections come and go. Default off.
    pub keep_running: bool,
    /// Loops, each a thread of its own with its own listeners. They share the places of `max_connections`, and a worker
    /// that has more connections than another one leaves what it accepts to that one: few long connections are spread
    /// evenly, and many within an eighth. 1 to 1024. Default 1.
    pub workers: usize,
    /// The read buffer that the connections of a loop share. 1 byte to 1 GiB. Default 64 KiB.
    pub read_buffer_bytes: usize,
    /// Backpressure: with this much output queued, a connection's input is not read any more. 1 byte to 1 GiB. Default
    /// 64 KiB.
    pub high_water_bytes: usize,
    /// Queued output at which reading starts again. Below `high_water_bytes`. Default 16 KiB.
    pub low_water_bytes: usize,
    /// Queued output at which a connection is aborted: its protocol goes on writing in spite of
    /// [`Flow::Full`](crate::Flow::Full). At least `high_water_bytes`. Default 64 MiB.
    pub queue_limit_bytes: usize,
    /// Memory for queued output, over all connections and workers. Near the limit connections that have much queued are read
    /// no more, the largest first, until their peers have received some of it; at the limit one is read only while it has
    /// nothing queued, 4 KiB at a time. Protocols that write by themselves are not held back by it, and what
    /// [`write_shared`](crate::Context::write_shared) queues does not count. At least 1. Default `None`: half of what the
    /// container may have (`memory.max` of its cgroup), if that is limited.
    pub memory_limit_bytes: Option<usize>,
    /// Input that a protocol may leave unconsumed, waiting for more behind it. 1 byte to 1 GiB. Default 64 KiB.
    pub input_limit_bytes: usize,
    /// Bytes that one connection moves, in and out together, before the others have their turn.
    /// Those moved inside the kernel count an eighth. At least 1. Default 128 KiB.
    ///
    /// A large budget takes fewer system calls; a small one makes the others wait less. As ratios to the default,
    /// 8 connections that send 256 KiB messages beside 50 that send 64 B each 5 ms, measured by the comparison in
    /// `peers/` (`--discard budget mixed`):
    ///
    /// | budget  | bulk, bytes/s | bulk, CPU time per byte | small messages, p50 | p99    |
    /// | ------: | ------------: | ----------------------: | ------------------: | -----: |
    /// |  16 KiB |        0.29 × |                  3.43 × |              0.25 × | 0.07 × |
    /// |  64 KiB |        0.70 × |                  1.29 × |              0.81 × | 0.18 × |
    /// | 128 KiB |             1 |                       1 |       1 |      1 |
    /// | 256 KiB |        1.11 × |                  0.89 × |              1.13 × | 0.72 × |
    /// | 512 KiB |        1.00 × |                  0.86 × |              0.77 × | 2.57 × |
    /// |   4 MiB |        1.01 × |                  0.83 × |              2.02 × | 18.9 × |
    ///
    /// With less than `splice_threshold_bytes` no read brings enough for a connection's bytes to be moved in the kernel.
    pub turn_budget_bytes: usize,
    /// A connection whose reads bring at least so many bytes, several times in a row, sends in bulk. If its protocol
    /// returns every byte unchanged ([`returns_input_unchanged`](crate::Protocol::returns_input_unchanged)), its bytes
    /// are moved from the socket back to it inside the kernel (splice(2)), until it sends less. So are those of connections
    /// that are [relayed](crate::Context::relay), from one socket to the other. Up to
    /// four times `turn_budget_bytes` of it then wait in a pipe, if the peer does not receive. SIGPIPE must be ignored, as
    /// it is in every program whose `main` is in Rust. `None`: all bytes are copied; so they are if `read_buffer_bytes` or
    /// `high_water_bytes` is smaller, as no read brings so much then. At least 1. Default 32 KiB. Linux only.
    pub splice_threshold_bytes: Option<usize>,
    /// Pipes of one loop for that, two descriptors each. When all are in use, or the system refuses one, bytes are copied.
    /// 0 to 1024. Default 32; without `max_connections` fewer if there are few descriptors: at most one for
    /// each 128 of them.
    pub pipes_max: usize,
    /// Connections that a listener accepts before the connections have their turn. At least 1. Default 64.
    pub accept_burst: usize,
    /// How much one turn of a loop takes on: readiness events from the system, requests from the mailbox, messages to
    /// deliver, deadlines. 1 to 1,048,576. Default 1024.
    pub event_batch: usize,
    /// Messages and other requests that may wait for one loop before senders are told that it is
    /// full. 1 to 1,048,576. Default 1024.
    pub mailbox_capacity: usize,
    /// Threads for what blocks, over all workers: host names of [outbound connections](crate::Context::connect), and
    /// [`spawn_blocking`](crate::Context::spawn_blocking). They are started when there is work and end after 10 s
    /// without. 0 to 1024. Default 16.
    pub blocking_threads: usize,
    /// Jobs for these threads that wait or are under way. 1 to 1,048,576. Default 1024.
    pub blocking_jobs_max: usize,
    /// A connection that neither sends nor receives a byte for this long, of whose output nothing is acknowledged
    /// meanwhile, and that has nothing queued, is ended. Default 10 min.
    pub idle_timeout: Option<Duration>,
    /// A connection that receives nothing for this long is ended, whatever it sends meanwhile; not one whose protocol has
    /// [paused](crate::Context::pause_reading), or whose peer has ended. Default `None`.
    pub read_idle_timeout: Option<Duration>,
    /// A connection that sends nothing for this long is ended, whatever it receives meanwhile; for protocols that keep
    /// connections alive by sending something then. Default `None`.
    pub write_idle_timeout: Option<Duration>,
    /// A connection is reset when the peer's system acknowledges nothing of its output for this long, whether that is
    /// still queued or was taken by our own. It is noticed up to a quarter later. Where the system cannot say what is
    /// acknowledged, room for queued output counts. Default 60 s.
    pub write_timeout: Option<Duration>,
    /// Once our FIN is acknowledged, how long to wait for the peer's before the socket is closed. Default 30 s.
    pub linger_timeout: Option<Duration>,
    /// Once our FIN is acknowledged, how long the peer may be silent before the socket is closed. Default 5 s.
    pub linger_silence_timeout: Option<Duration>,
    /// After our FIN, bytes that are received and discarded before we stop waiting for the peer's FIN.
    /// Default 64 MiB.
    pub linger_limit_bytes: u64,
    /// How long a server that is to [drain](crate::Handle::drain) goes on accepting first, and tells protocols only
    /// ([`on_prestop`](crate::Protocol::on_prestop)): until load balancers have noticed that it is not
    /// [ready](crate::Handle::is_ready) any more. At most 24 h. Default `None`: the drain begins at once.
    pub grace: Option<Duration>,
    /// How long a drain may take. Connections to which not everything is delivered are then reset. Default 25 s: below
    /// the 30 s that
    /// Kubernetes gives a container; `docker stop` gives 10 s.
    pub drain_timeout: Option<Duration>,
    /// In a drain, a connection ends once everything that it sent is answered and it was silent this long, so that what
    /// is still in flight can arrive. Time that the server itself takes meanwhile does not count. Default 250 ms.
    pub drain_silence: Duration,
    /// In a drain, a connection that goes on talking ends after this long too, at the first moment when everything that
    /// it sent is answered; but not one that does not receive as fast as it is sent to: it may have sent more than has
    /// come, and must be silent first. One that never comes to such a moment is reset at `drain_timeout`. Default 2 s.
    pub drain_patience: Duration,
    /// How long an outbound connection may take to be made. Default 10 s.
    pub connect_timeout: Option<Duration>,
    /// Clients come through proxies in these networks, which say first whom they connect for: the PROXY protocol, versions 1
    /// and 2. Whoever comes from elsewhere, or says something else, is reset
    /// ([`ProxyRefused`](crate::CloseReason::ProxyRefused)); Unix sockets are trusted. Default: none, nobody says so.
    pub proxy_protocol: Vec<Cidr>,
    /// How long that may take. At least 3 s: a segment that is lost is sent again after a second or three. Default 10 s.
    pub proxy_timeout: Duration,
    /// Measure how long each turn of a loop takes ([`Stats::turn_durations`](crate::Stats::turn_durations)): one more look at
    /// the clock a turn. Default off.
    pub measure_turns: bool,
    /// Log each connection that ends at the level info instead of debug: its name and its peer, how long it was open, its
    /// bytes and the reason. Default off.
    pub log_closed: bool,
    /// What begins its lines in the log, if it is not the server itself.
    pub(crate) log_prefix: &'static str,
    /// How long a TLS handshake may take. Default 10 s.
    pub handshake_timeout: Option<Duration>,
    /// TCP_NODELAY: small messages leave at once. Default on. See tcp(7).
    pub nodelay: bool,
    /// SO_KEEPALIVE: the system notices peers that vanished. Default on. See socket(7).
    pub keepalive: bool,
    /// TCP_KEEPIDLE: how long a connection is quiet before the first probe. At least 1 s. Default `None`: what the system
    /// does, 2 h on most. See tcp(7).
    pub keepalive_time: Option<Duration>,
    /// TCP_KEEPINTVL: the time between probes. At least 1 s. Default `None`: what the system does, 75 s on most.
    pub keepalive_interval: Option<Duration>,
    /// TCP_KEEPCNT: after so many probes without an answer the connection has failed. 1 to 127. Default `None`: what the
    /// system does, 9 on most.
    pub keepalive_retries: Option<u32>,
    /// TCP_USER_TIMEOUT: how long sent data may remain unacknowledged before the system gives the connection up; beside
    /// [`write_timeout`](Self::write_timeout), which needs no such option. Default `None`. Linux only.
    pub user_timeout: Option<Duration>,
    /// The type of service of IPv4, or traffic class of IPv6: the DSCP in the upper six bits (RFC 2474). Default `None`.
    /// Linux only.
    pub tos: Option<u8>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backlog: 4096,
            max_connections: None,
            max_connections_per_ip: None,
            accept_limit: None,
            keep_running: false,
            workers: 1,
            read_buffer_bytes: 64 << 10,
            high_water_bytes: 64 << 10,
            low_water_bytes: 16 << 10,
            queue_limit_bytes: 64 << 20,
            memory_limit_bytes: None,
            input_limit_bytes: 64 << 10,
            turn_budget_bytes: 128 << 10,
            splice_threshold_bytes: Some(32 << 10),
            pipes_max: 32,
            accept_burst: 64,
            event_batch: 1024,
            mailbox_capacity: 1024,
            blocking_threads: 16,
            blocking_jobs_max: 1024,
            idle_timeout: Some(Duration::from_secs(600)),
            read_idle_timeout: None,
            write_idle_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            linger_timeout: Some(Duration::from_secs(30)),
            linger_silence_timeout: Some(Duration::from_secs(5)),
            linger_limit_bytes: 64 << 20,
            grace: None,
            drain_timeout: Some(Duration::from_secs(25)),
            drain_silence: Duration::from_millis(250),
            drain_patience: Duration::from_secs(2),
            connect_timeout: Some(Duration::from_secs(10)),
            proxy_protocol: Vec::new(),
            proxy_timeout: Duration::from_secs(10),
            measure_turns: false,
            log_closed: false,
            log_prefix: "",
            handshake_timeout: Some(Duration::from_secs(10)),
            nodelay: true,
            keepalive: true,
            keepalive_time: None,
            keepalive_interval: None,
            keepalive_retries: None,
            user_timeout: None,
            tos: None,
        }
    }
}

impl Config {
    /// Sets the high-water mark, and the low-water mark to a quarter of it.
    ///
    /// ```
    /// let mut config = echoloop::Config::default();
    /// config.set_high_water(1 << 20);
    /// assert_eq!(config.low_water_bytes, 256 << 10);
    /// ```
    pub fn set_high_water(&mut self, bytes: usize) {
        self.high_water_bytes = bytes;
        self.low_water_bytes = bytes / 4;
        self.queue_limit_bytes = self.queue_limit_bytes.max(bytes);
    }

    /// Says what is out of bounds.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let at_least_one = [
            (self.backlog as usize, "backlog must be at least 1"),
            (self.max_connections.unwrap_or(1), "max_connections must be at least 1"),
            (self.max_connections_per_ip.unwrap_or(1), "max_connections_per_ip must be at least 1"),
            (self.memory_limit_bytes.unwrap_or(1), "memory_limit_bytes must be at least 1"),
            (self.read_buffer_bytes, "read_buffer_bytes must be at least 1"),
            (self.high_water_bytes, "high_water_bytes must be at least 1"),
            (self.input_limit_bytes, "input_limit_bytes must be at least 1"),
            (self.turn_budget_bytes, "turn_budget_bytes must be at least 1"),
            (self.splice_threshold_bytes.unwrap_or(1), "splice_threshold_bytes must be at least 1"),
            (self.accept_burst, "accept_burst must be at least 1"),
            (self.event_batch, "event_batch must be at least 1"),
            (self.mailbox_capacity, "mailbox_capacity must be at least 1"),
            (self.blocking_jobs_max, "blocking_jobs_max must be at least 1"),
        ];
        if let Some((_, why)) = at_least_one.into_iter().find(|&(value, _)| value == 0) {
            return Err(Error::Config(why));
        }
        if self.proxy_timeout < Duration::from_secs(3) {
            return Err(Error::Config("proxy_timeout must be at least 3 s"));
        }
        if self.grace.is_some_and(|grace| grace > Duration::from_secs(86_400)) {
            return Err(Error::Config("grace must be at most 24 h"));
        }
        if !(1..=1024).contains(&self.workers) {
            return Err(Error::Config("workers must be 1 to 1024"));
        }
        let bounded = [
            (self.blocking_threads, 1 << 10, "blocking_threads must be at most 1024"),
            (self.pipes_max, 1 << 10, "pipes_max must be at most 1024"),
            (self.read_buffer_bytes, 1 << 30, "read_buffer_bytes must be at most 1 GiB"),
            (self.high_water_bytes, 1 << 30, "high_water_bytes must be at most 1 GiB"),
            (self.input_limit_bytes, 1 << 30, "input_limit_bytes must be at most 1 GiB"),
            (self.event_batch, 1 << 20, "event_batch must be at most 1,048,576"),
            (self.mailbox_capacity, 1 << 20, "mailbox_capacity must be at most 1,048,576"),
            (self.blocking_jobs_max, 1 << 20, "blocking_jobs_max must be at most 1,048,576"),
        ];
        if let Some((.., why)) = bounded.into_iter().find(|&(value, most, _)| value > most) {
            return Err(Error::Config(why));
        }
        if self.accept_limit.is_some() && self.workers > 1 {
            return Err(Error::Config("accept_limit needs a single worker"));
        }
        if self.max_connections.is_some_and(|max| max < self.workers) {
            return Err(Error::Config("max_connections must be at least one for each worker"));
        }
        let too_short = |time: Option<Duration>| time.is_some_and(|time| time < Duration::from_secs(1));
        if too_short(self.keepalive_time) || too_short(self.keepalive_interval) {
            return Err(Error::Config("keepalive_time and keepalive_interval must be at least 1 s"));
        }
        if self.keepalive_retries.is_some_and(|retries| !(1..=127).contains(&retries)) {
            return Err(Error::Config("keepalive_retries must be 1 to 127"));
        }
        if !cfg!(target_os = "linux") && (self.user_timeout.is_some() || self.tos.is_some()) {
            return Err(Error::Config("user_timeout and tos are options of Linux"));
        }
        if self.low_water_bytes >= self.high_water_bytes {
            return Err(Error::Config("low_water_bytes must be below high_water_bytes"));
        }
        if self.queue_limit_bytes < self.high_water_bytes {
            return Err(Error::Config("queue_limit_bytes must be at least high_water_bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_own_bounds() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        type Spoil = fn(&mut Config);
        let spoil: [(Spoil, &str); 9] = [
            (|c| c.high_water_bytes = usize::MAX, "high_water_bytes"),
            (|c| (c.max_connections, c.workers) = (Some(1), 4), "max_connections"),
            (|c| c.backlog = 0, "backlog"),
            (|c| c.max_connections = Some(0), "max_connections"),
            (|c| c.workers = 0, "workers"),
            (|c| c.grace = Some(Duration::MAX), "grace"),
            (|c| c.proxy_timeout = Duration::from_millis(2999), "proxy_timeout"),
            (|c| c.low_water_bytes = c.high_water_bytes, "low_water_bytes"),
            (|c| c.queue_limit_bytes = 1, "queue_limit_bytes"),
        ];
        for (spoil, name) in spoil {
            let mut config = Config::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("configuration: {name}")), "{error}");
        }
    }
}
