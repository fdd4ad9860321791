//! From bytes to frames.

use super::{FrameError, FramedProtocol};
use crate::{
    close_reason::CloseReason,
    peer::Peer,
    protocol::{
        Protocol,
        context::{Context, Flow},
        input::Input,
        requests::{Ending, Reading},
        timeout::Timeout,
    },
    tls::TlsInfo,
};

/// A [`Protocol`] that hands the frames of its input to a [`FramedProtocol`], one by one. For an example see
/// [the module](super).
///
/// Frames are held back, and come later, while
///
/// - the output is full ([`Context::is_full`]), until it has fallen to the low-water mark: many small requests at once
///   cannot queue more than the high-water mark and one reply. Nothing is read from the peer meanwhile;
/// - the protocol has called [`Context::pause_reading`], until it calls [`Context::resume_reading`].
///
/// Frames that were held back come before the end of input, which is not noticed meanwhile. They are not handed over
/// any more once the protocol has called [`Context::finish`] or [`Context::abort`], or the connection is lost. After
/// [`Context::shutdown_write`] frames still come. [`Context::relay`] passes on the bytes behind the frame in which it was
/// called.
///
/// After a [`FrameError`] nothing more is handed over: [`FramedProtocol::on_frame_error`] can write a last reply, then the
/// connection finishes.
///
/// It is a layer like any other: see [`Context::inner`].
#[derive(Clone, Debug)]
pub struct Framed<P> {
    protocol: P,
    frames: Frames,
}

/// What becomes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frames {
    /// They are handed to the protocol.
    Come,
    /// They are held back until there is room for what they are answered with.
    AwaitRoom,
    /// They are held back until the protocol resumes.
    Paused,
    /// They are not handed over any more.
    Over,
}

impl<P: FramedProtocol> Framed<P> {
    /// For one connection.
    #[must_use]
    pub const fn new(protocol: P) -> Self {
        Self { protocol, frames: Frames::Come }
    }

    /// Whether the protocol can be handed a frame now. Where it is only room that is wanting, pauses.
    fn can_take(&mut self, cx: &mut Context<'_, P::Message>) -> bool {
        if self.frames == Frames::Come && cx.flow() == Flow::Full {
            self.frames = Frames::AwaitRoom;
            cx.pause_reading();
        }
        self.frames == Frames::Come
    }

    /// Calls the protocol, and heeds what it asked for: who pauses or resumes last has the say.
    fn call(
        &mut self,
        cx: &mut Context<'_, P::Message>,
        callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
    ) {
        let requests = cx.inner(|cx| callback(&mut self.protocol, cx));
        let is_over = requests.relay().is_some() || requests.ending.is_some_and(Ending::discards_input);
        match (self.frames, requests.reading) {
            (Frames::Over, _) => {}
            _ if is_over => self.frames = Frames::Over,
            (_, Some(Reading::Pause)) => self.frames = Frames::Paused,
            (_, Some(Reading::Resume)) => self.frames = Frames::Come,
            (Frames::Come | Frames::AwaitRoom | Frames::Paused, None) => {}
        }
        cx.request(requests);
        // Nor is there anything to wait for once nothing can be written any more.
        if self.frames == Frames::AwaitRoom && cx.flow() != Flow::Full {
            self.frames = Frames::Come;
            cx.resume_reading();
        }
    }

    fn refuse(&mut self, error: FrameError, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        log::debug!("{}: {error}", cx.id());
        input.take();
        self.call(cx, |protocol, cx| protocol.on_frame_error(error, cx));
        self.frames = Frames::Over;
        cx.finish();
    }
}

impl<P: FramedProtocol> Protocol for Framed<P> {
    type Message = P::Message;

    fn on_open(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_open(cx));
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        while !input.bytes().is_empty() && self.can_take(cx) {
            match input.frame(self.protocol.framing()) {
                Ok(Some(frame)) => self.call(cx, |protocol, cx| protocol.on_frame(frame, cx)),
                Ok(None) => return,
                Err(error) => return self.refuse(error, input, cx),
            }
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_writable(cx));
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        // It is not consumed: a relay passes it on.
        self.call(cx, |protocol, cx| protocol.on_eof(rest.bytes(), cx));
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, P::Message>) {
        if let Some(which) = which.for_inner() {
            self.call(cx, |protocol, cx| protocol.on_timeout(which, cx));
        }
    }

    fn on_message(&mut self, message: P::Message, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_message(message, cx));
    }

    fn on_connected(&mut self, label: u64, peer: &Peer<'_>, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_connected(label, peer, cx));
    }

    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_connect_failed(label, reason, cx));
    }

    fn on_tls(&mut self, tls: &TlsInfo, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_tls(tls, cx));
    }

    fn on_prestop(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_prestop(cx));
    }

    fn on_drain(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_drain(cx));
    }

    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_close(reason, cx));
    }
}
