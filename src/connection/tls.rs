//! TLS: what comes before the first byte, and beside the others.

use std::{
    io::{self, ErrorKind},
    mem,
    time::Instant,
};

use super::{Connection, halves::RecvHalf, shared::Shared, state::State};
use crate::{
    address::Address,
    close_reason::CloseReason,
    protocol::{Protocol, requests::Requests},
    proxy_protocol::ProxyHeaderError,
    system::{
        readiness::Readiness,
        transport::{Stirred, Transport},
    },
    tls::TlsRole,
};

/// A handshake that is under way, or is to begin.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// When it has taken too long.
    by: Option<Instant>,
    /// A client that has no protocol yet: its address, and the position of the listener that it came to.
    client: Option<(Address, usize)>,
    /// Its time is that of the header of the proxy that it comes through.
    awaits_header: bool,
    /// It begins when everything written before is sent.
    wanted: Option<TlsRole>,
    /// What was written behind the request for it.
    held: Vec<u8>,
}

impl<P: Protocol, T: Transport> Connection<P, T> {
    fn handshake(&self) -> Option<&Handshake> {
        self.extra.as_ref()?.handshake.as_deref()
    }

    pub(super) fn has_handshake(&self) -> bool {
        self.handshake().is_some()
    }

    /// Whether it is a client that has no protocol yet.
    pub(super) fn is_client(&self) -> bool {
        self.client().is_some()
    }

    /// Where a client that has no protocol yet came from, and to which listener.
    pub fn client(&self) -> Option<&(Address, usize)> {
        self.handshake()?.client.as_ref()
    }

    pub(super) fn handshake_deadline(&self) -> Option<Instant> {
        self.handshake()?.by
    }

    /// From now on its time runs. A client gets its protocol when it is over.
    pub fn begin_handshake(&mut self, client: Option<(Address, usize)>, now: Instant) {
        let awaits_header =
            client.is_some() && !self.limits.proxy_protocol.is_empty() && self.transport.proxied().is_none();
        let timeout =
            if awaits_header { Some(self.limits.proxy_timeout) } else { self.limits.handshake_timeout };
        let by = timeout.and_then(|timeout| now.checked_add(timeout));
        let handshake = Handshake { by, client, awaits_header, ..Handshake::default() };
        self.extra.get_or_insert_default().handshake = Some(Box::new(handshake));
        self.begin_account(now);
        self.deadline_moved = true;
    }

    /// When the header of a proxy has come, the time of the handshake behind it begins.
    fn note_header(&mut self, now: Instant) {
        let handshake = self.extra.as_mut().and_then(|extra| extra.handshake.as_mut());
        if let Some(handshake) = handshake
            && handshake.awaits_header
            && self.transport.proxied().is_some()
        {
            let client = handshake.client.take();
            self.begin_handshake(client, now);
        }
    }

    fn forget_handshake(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.handshake = None;
            self.deadline_moved = true;
        }
    }

    /// Whether a handshake may go on in this turn: so much work is bounded. It is done all the same when time is up, so that
    /// nobody pays for the others.
    pub(super) fn may_handshake(&self, shared: &mut Shared<P::Message, T::Pipe>) -> bool {
        let is_due = self.handshake_deadline().is_some_and(|by| by <= shared.now);
        if shared.handshakes_left == 0 && !is_due {
            return false;
        }
        shared.handshakes_left = shared.handshakes_left.saturating_sub(1);
        true
    }

    /// Goes on with the handshake of a connection that is being made. True when it is over.
    pub(super) fn try_handshake(&mut self, shared: &Shared<P::Message, T::Pipe>) -> bool {
        if !self.has_handshake() {
            self.begin_handshake(None, shared.now);
        }
        match self.transport.handshake() {
            Ok(true) => {
                // A client's address is still needed.
                if !self.is_client() {
                    self.forget_handshake();
                }
                true
            }
            Ok(false) => {
                self.note_header(shared.now);
                // An event tells when it can go on.
                self.ready.rest();
                if self.transport.has_input() {
                    self.ready.insert(Readiness::READ);
                }
                false
            }
            Err(error) => {
                self.fail_handshake(&error, shared);
                false
            }
        }
    }

    /// What a peer is told of a handshake that fails is sent, and FIN behind it, as any other last word.
    pub(super) fn fail_handshake(&mut self, error: &io::Error, shared: &Shared<P::Message, T::Pipe>) {
        log::debug!(connection:% = self.id; "{}: handshake: {error}", self.id);
        if error.get_ref().is_some_and(|error| error.is::<ProxyHeaderError>()) {
            return self.close(CloseReason::ProxyRefused, shared);
        }
        let is_refused = error.kind() == ErrorKind::InvalidData;
        if self.state == State::Connecting && !self.is_client() {
            return self.close(CloseReason::ConnectFailed(error.kind()), shared);
        }
        if !is_refused {
            return self.close(CloseReason::HandshakeAbandoned, shared);
        }
        if self.queued() + self.held() > 0 {
            return self.close(CloseReason::HandshakeFailed, shared);
        }
        self.forget_handshake();
        if self.state == State::Connecting {
            self.set_state(self.state.connected());
        }
        self.ready.insert(Readiness::READ | Readiness::WRITE);
        self.finish(CloseReason::HandshakeFailed);
        self.settle(shared);
    }

    /// A client whose handshake is over gets its protocol.
    pub fn admit(&mut self, protocol: P, shared: &mut Shared<P::Message, T::Pipe>) {
        self.forget_handshake();
        self.protocol = Some(protocol);
        self.made(shared);
    }

    /// There is none for it: it is reset, as one that is refused before there is a connection, and not counted as one that
    /// has ended.
    pub fn drop_client(&mut self) {
        self.set_state(State::Closed(CloseReason::Cancelled));
        self.extra = None;
        self.transport.reset_on_close();
    }

    /// The protocol wants TLS from here on. Until it begins, what comes waits.
    pub(super) fn want_tls(&mut self, role: TlsRole) {
        if self.state.is_closed() || self.has_handshake() {
            return;
        }
        let handshake = Handshake { wanted: Some(role), ..Handshake::default() };
        self.extra.get_or_insert_default().handshake = Some(Box::new(handshake));
        if self.recv.is_open() {
            self.set_recv(RecvHalf::Paused);
        }
    }

    /// Takes what was written behind a request for TLS, of this callback or an earlier one, out of what is sent: it is not for
    /// everyone to see.
    #[cold]
    pub(super) fn hold_back_secrets(
        &mut self,
        requests: &mut Requests,
        input: &[u8],
        shared: &mut Shared<P::Message, T::Pipe>,
    ) {
        let mut held = Vec::new();
        let wanted = requests.rare.as_mut().and_then(|rare| rare.tls.take());
        let (at, before) = match &wanted {
            _ if self.holds_output() => {
                held.extend_from_slice(&input[mem::take(&mut requests.forward)]);
                (0, 0)
            }
            Some(wanted) => (wanted.at, wanted.pieces),
            None => return,
        };
        let mut from = at;
        for (at, bytes) in requests.rare.iter_mut().flat_map(|rare| rare.shared.drain(before..)) {
            held.extend_from_slice(&shared.output[from..at]);
            held.extend_from_slice(&bytes);
            from = at;
        }
        held.extend_from_slice(&shared.output[from..]);
        shared.output.truncate(at);
        if let Some(wanted) = wanted {
            self.want_tls(wanted.role);
        }
        if !held.is_empty() {
            self.hold(held, shared);
        }
    }

    /// Keeps what was written until TLS is agreed on.
    fn hold(&mut self, bytes: Vec<u8>, shared: &Shared<P::Message, T::Pipe>) {
        let is_lost = self.send.fault().is_some() || self.state.is_closed();
        let handshake = self.extra.as_mut().and_then(|extra| extra.handshake.as_mut());
        let Some(handshake) = handshake.filter(|_| !is_lost) else {
            return self.lose(bytes.len(), shared);
        };
        handshake.held.extend(bytes);
        if handshake.held.len() > self.limits.queue_limit_bytes {
            log::warn!("{}: the protocol wrote more than its limit before TLS has begun", self.id);
            self.close(CloseReason::QueueLimit, shared);
        }
    }

    /// Whether what is written now waits for TLS.
    pub(super) fn holds_output(&self) -> bool {
        self.has_handshake() && self.state.is_made()
    }

    /// Bytes that are kept until TLS is agreed on.
    pub(crate) fn held(&self) -> usize {
        self.handshake().map_or(0, |handshake| handshake.held.len())
    }

    pub(super) fn take_held(&mut self) -> Vec<u8> {
        let handshake = self.extra.as_mut().and_then(|extra| extra.handshake.as_mut());
        handshake.map(|handshake| mem::take(&mut handshake.held)).unwrap_or_default()
    }

    pub(super) fn wants_tls(&self) -> bool {
        self.handshake().is_some_and(|handshake| handshake.wanted.is_some())
    }

    /// What comes before anything else in a turn. False if others have theirs first.
    #[inline(never)]
    pub(super) fn begin_secure_turn(&mut self, shared: &mut Shared<P::Message, T::Pipe>) -> bool {
        let may_go_on = !self.transport.is_handshaking() || self.may_handshake(shared);
        // Where something is to be read, what is to be sent goes with the answer, or at the end of the turn. To one that is put off
        // nobody would come back for it.
        if !may_go_on || self.has_handshake() || !self.ready.has(Readiness::READ) {
            self.go_on_with_tls(shared);
        }
        may_go_on
    }

    /// A record is on its way, or something that is for nobody here: the connection is not idle, nor is the peer silent.
    pub(super) fn note_stirred(&mut self, now: Instant) {
        let stirred = self.transport.take_stirred();
        if stirred == Stirred::default() {
            return;
        }
        self.last_activity = now;
        if stirred.sent {
            self.note_owed();
        }
        if let Some(extra) = &mut self.extra {
            if stirred.received {
                extra.stamp_received(now);
            }
            if stirred.sent {
                extra.stamp_sent(now);
            }
        }
        if let Some(queue) = self.queue.as_mut().filter(|_| stirred.sent) {
            queue.progress = now;
        }
    }

    /// Sends what nobody has written, and tells the protocol when the handshake that it has begun is over.
    #[inline(never)]
    pub(super) fn go_on_with_tls(&mut self, shared: &mut Shared<P::Message, T::Pipe>) {
        if self.transport.has_output() && self.ready.has(Readiness::WRITE) && self.state.is_made() {
            self.note_owed();
            match self.transport.flush() {
                Ok(()) => self.last_activity = shared.now,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.remove(Readiness::WRITE),
                Err(error) => self.break_send(&error, shared),
            }
        }
        self.note_stirred(shared.now);
        if self.state.is_made()
            && self.has_handshake()
            && !self.wants_tls()
            && !self.transport.is_handshaking()
        {
            let held = self.take_held();
            self.forget_handshake();
            self.ready.insert(Readiness::WRITE);
            if !held.is_empty() {
                self.enqueue(&held, &[], shared);
            }
            let Some(tls) = self.transport.tls() else { return };
            let requests = self.call(shared, |protocol, cx| protocol.on_tls(&tls, cx));
            self.apply(shared, requests, &[], CloseReason::Finished);
        }
    }

    /// Begins with TLS when everything written before it is sent.
    pub(super) fn begin_tls_if_wanted(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if self.wants_tls() && self.queued() == 0 && self.state.is_made() {
            self.begin_tls(shared);
        }
    }

    fn begin_tls(&mut self, shared: &Shared<P::Message, T::Pipe>) {
        if self.recv == RecvHalf::Discarded && self.held() == 0 {
            // It has ended before it was begun.
            return self.forget_handshake();
        }
        let handshake = self.extra.as_mut().and_then(|extra| extra.handshake.as_mut());
        let Some(role) = handshake.and_then(|handshake| handshake.wanted.take()) else { return };
        if self.unconsumed() > 0 {
            // Whoever can put plaintext before the handshake could speak for the peer (CVE-2011-0411).
            log::warn!("{}: input was left behind the request for TLS", self.id);
            return self.close(CloseReason::HandshakeFailed, shared);
        }
        if !self.recv.matters() || !self.send.is_open() || self.transport.tls().is_some() {
            return self.close(CloseReason::HandshakeAbandoned, shared);
        }
        let begun = role.session().and_then(|session| self.transport.secure(session, &shared.scratch));
        if let Err(error) = begun {
            log::warn!("{}: TLS cannot begin: {error}", self.id);
            return self.close(CloseReason::HandshakeFailed, shared);
        }
        let held = self.take_held();
        self.begin_handshake(None, shared.now);
        if !held.is_empty() {
            self.hold(held, shared);
        }
        self.set_recv(RecvHalf::Open);
        self.ready.insert(Readiness::READ | Readiness::WRITE);
    }
}
