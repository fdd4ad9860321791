//! What the connections of one loop share.

use std::{fmt, rc::Rc, sync::Arc, time::Instant};

use super::drain::Drain;
use crate::{
    blocking::Blocking,
    buffers::Buffers,
    config::Config,
    connection_id::ConnectionId,
    deadlines::earliest,
    handle::Handle,
    outbox::Outbox,
    pipes::{Pipe, Pipes},
    protocol::{context::Context, requests::Requests},
    stats::Counters,
    system::transport::Addresses,
    tls::scratch::Scratch,
};

/// What the connections of one loop share.
pub struct Shared<M, K> {
    /// The time of this turn of the loop.
    pub now: Instant,
    /// The limits.
    pub limits: Config,
    /// The same, for connections that have none of their own.
    pub(crate) connection_limits: Rc<Config>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What callbacks ask of other connections.
    pub(crate) outbox: Outbox<M>,
    /// The drain that is going on.
    pub drain: Option<Drain>,
    /// Memory for the send queues.
    pub(super) buffers: Buffers,
    /// Pipes for connections that send in bulk.
    pub(super) pipes: Pipes<K>,
    /// Where input is read into.
    pub(super) buffer: Vec<u8>,
    /// Where a callback's output is gathered.
    pub(super) output: Vec<u8>,
    /// Where connections over TLS seal and open.
    pub(crate) scratch: Rc<Scratch>,
    /// How many handshakes may still go on in this turn of the loop.
    pub(crate) handshakes_left: u32,
}

/// Handshakes that go on in one turn of the loop: each may take as long as a hundred messages of others.
pub(crate) const HANDSHAKES_IN_TURN: u32 = 4;

/// Output buffers that grew past this in a spike are given back.
const OUTPUT_CAPACITY_KEPT: usize = 256 << 10;

impl<M, K: Pipe> Shared<M, K> {
    /// For connections with these limits and counters.
    pub fn new(
        now: Instant,
        limits: Config,
        counters: Arc<Counters>,
        handle: Handle<M>,
        blocking: Arc<dyn Blocking>,
    ) -> Self {
        let buffer = vec![0; limits.read_buffer_bytes];
        let buffers = Buffers::new(limits.high_water_bytes, limits.memory_limit_bytes);
        let pipes = Pipes::new(limits.pipes_max);
        let outbox = Outbox::new(limits.mailbox_capacity, handle, blocking);
        Self {
            now,
            connection_limits: Rc::new(limits.clone()),
            limits,
            counters,
            outbox,
            drain: None,
            buffers,
            pipes,
            buffer,
            output: Vec::new(),
            scratch: Rc::default(),
            handshakes_left: HANDSHAKES_IN_TURN,
        }
    }

    /// What a callback gets, on a connection that is made and has nothing queued. Its output begins anew.
    pub(crate) fn context<'a>(
        &'a mut self,
        id: ConnectionId,
        addresses: &'a dyn Addresses,
    ) -> Context<'a, M> {
        self.output.clear();
        Context {
            id,
            now: self.now,
            addresses,
            output: &mut self.output,
            outbox: &mut self.outbox,
            queued: 0,
            high_water: self.limits.high_water_bytes,
            is_draining: self.drain.is_some(),
            timers: None,
            depth: 0,
            can_forward: true,
            is_direct: true,
            requests: Requests::default(),
        }
    }

    /// Empties the output, which is dealt with.
    pub(super) fn trim_output(&mut self) {
        self.output.clear();
        if self.output.capacity() > OUTPUT_CAPACITY_KEPT {
            self.output = Vec::new();
        }
    }

    /// When [`trim`](Self::trim) has something to do.
    pub fn trim_at(&self) -> Option<Instant> {
        earliest(self.buffers.trim_at(), self.pipes.trim_at())
    }

    /// Gives memory that was not needed for a while back to the system.
    pub fn trim(&mut self) {
        self.buffers.trim(self.now);
        self.pipes.trim(self.now);
    }
}

impl<M, K> fmt::Debug for Shared<M, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("now", &self.now).field("drain", &self.drain).finish_non_exhaustive()
    }
}
