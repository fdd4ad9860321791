//! Protocols that call an inner one: layers.

use std::mem;

use super::{
    context::Context,
    requests::{Reading, Requests},
};

/// For layers: protocols that transform bytes for an inner one (compression, encryption, records) or that call it for
/// another unit than bytes, as [`Framed`](crate::framing::Framed) does.
impl<M> Context<'_, M> {
    /// Calls an inner protocol, with a context of its own. What it writes goes to the peer at once, as it is. What else
    /// it asks for is returned: the layer looks at it, and passes it on with [`request`](Self::request).
    ///
    /// Messages, outbound connections and timers that the inner protocol asks for are under way already. Its timers have
    /// keys of their own: when one fires, [`Timeout::for_inner`](crate::Timeout::for_inner) tells it from those of the layer.
    /// A [relay](Self::relay) passes on the bytes of the connection, not those that the layer has made of them: a layer that
    /// transforms them must refuse it.
    pub fn inner(&mut self, callback: impl FnOnce(&mut Context<'_, M>)) -> Requests {
        self.call_inner(None, callback)
    }

    /// The same, but what the inner protocol writes is appended to `output`, which is the layer's to transform. It counts
    /// as [queued](Self::queued) there. Where the layer must keep some of it, it says when there is room: it calls the inner
    /// protocol's [`on_writable`](crate::Protocol::on_writable) when its own is called and it has sent what it kept.
    ///
    /// ```
    /// use echoloop::{CloseReason, Context, Input, Protocol, Timeout, testing::Loop};
    ///
    /// /// Hides what is said from people who cannot read backwards: every byte is inverted, on both ways.
    /// struct Inverted<P>(P);
    ///
    /// impl<P: Protocol> Inverted<P> {
    ///     fn call(
    ///         &mut self,
    ///         cx: &mut Context<'_, P::Message>,
    ///         callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
    ///     ) {
    ///         let mut plain = Vec::new();
    ///         let mut requests = cx.inner_into(&mut plain, |cx| callback(&mut self.0, cx));
    ///         cx.write(&plain.iter().map(|byte| !byte).collect::<Vec<_>>());
    ///         if requests.take_relay().is_some() {
    ///             cx.abort_because("relay refused");
    ///         }
    ///         cx.request(requests);
    ///     }
    /// }
    ///
    /// impl<P: Protocol> Protocol for Inverted<P> {
    ///     type Message = P::Message;
    ///
    ///     fn on_open(&mut self, cx: &mut Context<'_, P::Message>) {
    ///         self.call(cx, |inner, cx| inner.on_open(cx));
    ///     }
    ///
    ///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
    ///         let plain: Vec<u8> = input.bytes().iter().map(|byte| !byte).collect();
    ///         let mut plain = Input::new(&plain);
    ///         self.call(cx, |inner, cx| inner.on_data(&mut plain, cx));
    ///         input.consume(plain.consumed());
    ///     }
    ///
    ///     fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, P::Message>) {
    ///         if let Some(which) = which.for_inner() {
    ///             self.call(cx, |inner, cx| inner.on_timeout(which, cx));
    ///         }
    ///     }
    ///
    ///     fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, P::Message>) {
    ///         self.call(cx, |inner, cx| inner.on_close(reason, cx));
    ///     }
    ///     // And the other callbacks likewise.
    /// }
    ///
    /// let net = Loop::new(|_| Some(Inverted(echoloop::Echo)));
    /// let client = net.connect();
    /// client.send([!b'a', !b'b']);
    /// assert_eq!(client.received(), [!b'a', !b'b']);
    /// ```
    pub fn inner_into(
        &mut self,
        output: &mut Vec<u8>,
        callback: impl FnOnce(&mut Context<'_, M>),
    ) -> Requests {
        self.call_inner(Some(output), callback)
    }

    /// Asks for what an inner protocol has asked for, after what was asked for before.
    pub fn request(&mut self, requests: Requests) {
        match requests.reading {
            Some(Reading::Pause) => self.pause_reading(),
            Some(Reading::Resume) => self.resume_reading(),
            None => {}
        }
        if let Some(with) = requests.relay() {
            self.relay(with);
        }
        if let Some(ending) = requests.ending {
            self.end(ending);
        }
    }

    fn call_inner(
        &mut self,
        output: Option<&mut Vec<u8>>,
        callback: impl FnOnce(&mut Context<'_, M>),
    ) -> Requests {
        let can_forward = output.is_none() && self.can_forward && self.requests.forward.is_empty();
        let is_direct = output.is_none() && self.is_direct;
        let in_between = if output.is_some() { self.output.len() } else { 0 };
        let mut requests = Requests { output_closed: self.requests.output_closed, ..Requests::default() };
        // Timers of both are together, so that both know what is set; and so is what goes on whatever the layer does.
        let relay = self.requests.take_relay();
        requests.set_rare(self.requests.take_rare());
        let mut inner = Context {
            id: self.id,
            now: self.now,
            addresses: self.addresses,
            queued: self.queued + self.requests.forward.len() + in_between,
            output: output.unwrap_or(&mut *self.output),
            outbox: &mut *self.outbox,
            high_water: self.high_water,
            is_draining: self.is_draining,
            is_stopping: self.is_stopping,
            timers: self.timers,
            depth: self.depth.saturating_add(1),
            can_forward,
            is_direct,
            requests,
        };
        callback(&mut inner);
        let mut requests = inner.requests;
        if !requests.forward.is_empty() {
            self.requests.forward = mem::take(&mut requests.forward);
        }
        self.requests.told_full |= requests.told_full;
        self.requests.refused += mem::take(&mut requests.refused);
        let wanted = requests.take_relay();
        self.requests.set_rare(requests.take_rare());
        for (requests, relay) in [(&mut self.requests, relay), (&mut requests, wanted)] {
            if relay.is_some() {
                requests.rare_mut().relay = relay;
            }
        }
        requests
    }
}
