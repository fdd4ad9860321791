//! From bytes to frames.

use super::{FrameError, FramedProtocol};
use crate::{
    close_reason::CloseReason,
    protocol::{
        Protocol, Timeout,
        context::{Context, Ending, Flow, Reading},
        input::Input,
    },
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
#[derive(Clone, Debug)]
pub struct Framed<P> {
    protocol: P,
    pause: Pause,
}

/// Why reading is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// It is not.
    Not,
    /// Frames are held back until there is room for what they are answered with.
    UntilRoom,
    /// The protocol wanted it, and has to resume.
    ByProtocol,
}

impl<P: FramedProtocol> Framed<P> {
    /// For one connection.
    #[must_use]
    pub const fn new(protocol: P) -> Self {
        Self { protocol, pause: Pause::Not }
    }

    /// Whether the protocol can be handed a frame now. Where it is only room that is wanting, pauses.
    fn can_take(&mut self, cx: &mut Context<'_, P::Message>) -> bool {
        let is_over = cx.requests.ending >= Some(Ending::Finish) || cx.requests.relay.is_some();
        if is_over || self.pause == Pause::ByProtocol {
            return false;
        }
        if cx.flow() == Flow::Full {
            self.pause = Pause::UntilRoom;
            cx.pause_reading();
        }
        self.pause == Pause::Not
    }

    /// Calls the protocol, and heeds what it asked for: who pauses or resumes last has the say.
    fn call(
        &mut self,
        cx: &mut Context<'_, P::Message>,
        callback: impl FnOnce(&mut P, &mut Context<'_, P::Message>),
    ) {
        callback(&mut self.protocol, cx);
        match cx.requests.reading {
            Some(Reading::Pause) => self.pause = Pause::ByProtocol,
            Some(Reading::Resume) => self.pause = Pause::Not,
            None => {}
        }
        // Nor is there anything to wait for once nothing can be written any more.
        if self.pause == Pause::UntilRoom && cx.flow() != Flow::Full {
            self.pause = Pause::Not;
            cx.resume_reading();
        }
    }

    fn refuse(&mut self, error: FrameError, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        log::debug!("{}: {error}", cx.id());
        input.take();
        self.protocol.on_frame_error(error, cx);
        cx.finish();
    }
}

impl<P: FramedProtocol> Protocol for Framed<P> {
    type Message = P::Message;

    fn on_open(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_open(cx));
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, P::Message>) {
        debug_assert_eq!(self.pause, Pause::Not, "no input comes while reading is paused");
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
        self.call(cx, |protocol, cx| protocol.on_timeout(which, cx));
    }

    fn on_message(&mut self, message: P::Message, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_message(message, cx));
    }

    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_connect_failed(label, reason, cx));
    }

    fn on_drain(&mut self, cx: &mut Context<'_, P::Message>) {
        self.call(cx, |protocol, cx| protocol.on_drain(cx));
    }

    fn on_close(&mut self, reason: &CloseReason) {
        self.protocol.on_close(reason);
    }
}
