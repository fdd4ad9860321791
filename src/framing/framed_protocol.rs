//! What is spoken in frames.

use super::{FrameError, Framing};
use crate::{
    close_reason::CloseReason,
    peer::Peer,
    protocol::{context::Context, timeout::Timeout},
    tls::TlsInfo,
};

/// What is spoken on one connection, as [`Protocol`](crate::Protocol), but in frames. [`Framed`](super::Framed) makes a
/// `Protocol` of it. For examples see [the module](super) and [`LengthDelimited::write`](super::LengthDelimited::write).
pub trait FramedProtocol: Sized {
    /// How the peer's frames are found.
    type Framing: Framing;

    /// What other threads and connections can send to this one; see [`Protocol::Message`](crate::Protocol::Message).
    type Message: Send + 'static;

    /// The framing of this connection's input. It is asked for before each frame, so [`on_frame`](Self::on_frame) may
    /// exchange it: for the body behind a head, for example.
    fn framing(&mut self) -> &mut Self::Framing;

    /// The connection is made.
    fn on_open(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// A frame has come. The next one comes when this one is dealt with; see [`Framed`](super::Framed) for when it
    /// has to wait.
    fn on_frame(&mut self, frame: &[u8], cx: &mut Context<'_, Self::Message>);

    /// What has come is no frame. It and everything behind it is discarded, and the connection
    /// [finishes](Context::finish) when this returns; a last reply can still be written.
    fn on_frame_error(&mut self, error: FrameError, cx: &mut Context<'_, Self::Message>) {
        let _ = (error, cx);
    }

    /// After [`Flow::Full`](crate::Flow::Full): the queue has fallen to the low-water mark, and more can be written.
    fn on_writable(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// The peer has sent its FIN, behind all frames and `rest`, which is not empty if a frame was begun and not
    /// finished. By default our side finishes too. A protocol that does otherwise may go on writing.
    fn on_eof(&mut self, rest: &[u8], cx: &mut Context<'_, Self::Message>) {
        let _ = rest;
        cx.finish();
    }

    /// A timeout ran out. By default the connection finishes; see [`Protocol::on_timeout`](crate::Protocol::on_timeout).
    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Self::Message>) {
        let _ = which;
        cx.finish();
    }

    /// A message from [`Handle::send`](crate::Handle::send) has come.
    fn on_message(&mut self, message: Self::Message, cx: &mut Context<'_, Self::Message>) {
        let _ = (message, cx);
    }

    /// An outbound connection that this one asked for is made; see
    /// [`Protocol::on_connected`](crate::Protocol::on_connected).
    fn on_connected(&mut self, label: u64, peer: &Peer<'_>, cx: &mut Context<'_, Self::Message>) {
        let _ = (label, peer, cx);
    }

    /// An outbound connection that this one asked for was not made; see
    /// [`Protocol::on_connect_failed`](crate::Protocol::on_connect_failed).
    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, cx: &mut Context<'_, Self::Message>) {
        let _ = (label, reason, cx);
    }

    /// TLS that this protocol has begun is agreed on; see [`Protocol::on_tls`](crate::Protocol::on_tls).
    fn on_tls(&mut self, tls: &TlsInfo, cx: &mut Context<'_, Self::Message>) {
        let _ = (tls, cx);
    }

    /// The server may stop soon; see [`Protocol::on_prestop`](crate::Protocol::on_prestop).
    fn on_prestop(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// The server drains. By default the connection finishes; see [`Protocol::on_drain`](crate::Protocol::on_drain).
    fn on_drain(&mut self, cx: &mut Context<'_, Self::Message>) {
        cx.finish();
    }

    /// The connection has ended, for this reason. It is the last call; see
    /// [`Protocol::on_close`](crate::Protocol::on_close).
    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, Self::Message>) {
        let _ = (reason, cx);
    }
}
