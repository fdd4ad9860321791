//! What is spoken on a connection: the trait to implement, and what its callbacks get.

pub(crate) mod boxed;
pub(crate) mod context;
pub(crate) mod echo;
mod inner;
pub(crate) mod input;
pub(crate) mod requests;
pub(crate) mod timeout;

use self::{boxed::Boxed, context::Context, input::Input, timeout::Timeout};
use crate::{close_reason::CloseReason, peer::Peer, tls::TlsInfo};

/// What is spoken on one connection. The loop makes one value per connection, calls it when something
/// happens, and drops it when the connection has ended.
///
/// Callbacks never run inside one another and must not block: all connections of the loop wait
/// meanwhile. One that panics loses its own connection and no other's.
///
/// ```
/// use echoloop::{Context, Input, Protocol};
///
/// /// Sends back each line in upper case.
/// struct Shout;
///
/// impl Protocol for Shout {
///     type Message = ();
///
///     fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
///         while let Some(end) = input.bytes().iter().position(|&b| b == b'\n') {
///             cx.write(&input.bytes()[..=end].to_ascii_uppercase());
///             input.consume(end + 1);
///         }
///     }
/// }
/// ```
pub trait Protocol: Sized {
    /// What other threads and connections can send to this one through a [`Handle`](crate::Handle); `()`
    /// where unused.
    type Message: Send + 'static;

    /// Whether it sends back every byte unchanged, in order, by itself, and does nothing else with it. The loop
    /// may then move bytes back to the socket inside the kernel, without calling
    /// [`on_data`](Self::on_data); see [`Config::splice_threshold_bytes`](crate::Config::splice_threshold_bytes).
    /// [`Context::forward`] in `on_data` must do the same for all other bytes. Default: it does not.
    fn returns_input_unchanged(&self) -> bool {
        false
    }

    /// For [`Boxed`]: whether a protocol of any type can be one of this.
    #[doc(hidden)]
    fn from_boxed(boxed: Boxed<Self::Message>) -> Option<Self> {
        drop(boxed);
        None
    }

    /// The connection is made.
    fn on_open(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// Bytes have come. What is not consumed comes again with more behind it.
    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self::Message>);

    /// After [`Flow::Full`](crate::Flow::Full): the queue has fallen to the low-water mark, and more can be written.
    fn on_writable(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// The peer has sent its FIN; `rest` is what was left unconsumed, for the last time. By default
    /// our side finishes too. A protocol that does otherwise may go on writing; if it is
    /// [relayed](Context::relay) then or later, what it leaves even now is passed on.
    ///
    /// The default finishes even while an answer is awaited, such as that of [`connect`](Context::connect) or of
    /// [`spawn_blocking`](Context::spawn_blocking): a client that asks, half-closes and waits would get nothing. A protocol
    /// whose answers come later overrides it:
    ///
    /// ```
    /// use echoloop::{Context, Input, Protocol, testing::Loop};
    ///
    /// /// Answers a request with its length, which takes a while to find out.
    /// struct Slow;
    ///
    /// impl Protocol for Slow {
    ///     type Message = usize;
    ///
    ///     fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_, usize>) {}
    ///
    ///     /// The request is whole.
    ///     fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_, usize>) {
    ///         let request = rest.take().to_vec();
    ///         if cx.spawn_blocking(move || request.len()).is_err() {
    ///             cx.abort_because("too busy");
    ///         }
    ///     }
    ///
    ///     fn on_message(&mut self, length: usize, cx: &mut Context<'_, usize>) {
    ///         writeln!(cx, "{length}");
    ///         cx.finish();
    ///     }
    /// }
    ///
    /// let net = Loop::new(|_| Some(Slow));
    /// let client = net.connect();
    /// client.send_and_end("request");
    /// net.next_job().expect("it counts").finish();
    /// assert_eq!(client.received_text(), "7\n");
    /// assert!(client.has_fin());
    /// ```
    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_, Self::Message>) {
        let _ = rest;
        cx.finish();
    }

    /// A timeout ran out. By default the connection finishes, with everything written so far.
    /// After an idle timeout that does not finish, the idle time begins anew.
    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Self::Message>) {
        let _ = which;
        cx.finish();
    }

    /// A message has come, from [`Handle::send`](crate::Handle::send) or [`Context::send`] or one of those to all.
    fn on_message(&mut self, message: Self::Message, cx: &mut Context<'_, Self::Message>) {
        let _ = (message, cx);
    }

    /// An outbound connection that this one asked for with [`Context::connect`] is made, and its own protocol was told so. It
    /// can be [relayed](Context::relay) with now, by its [`id`](Peer::id), after a reply was written.
    fn on_connected(&mut self, label: u64, peer: &Peer<'_>, cx: &mut Context<'_, Self::Message>) {
        let _ = (label, peer, cx);
    }

    /// An outbound connection that this one asked for with [`Context::connect`] could not be made, or the factory
    /// refused it, or its protocol panicked or aborted when it was told that it is made.
    fn on_connect_failed(&mut self, label: u64, reason: &CloseReason, cx: &mut Context<'_, Self::Message>) {
        let _ = (label, reason, cx);
    }

    /// TLS that this protocol has [begun](Context::start_tls) is agreed on: from here on everything is secret. What was
    /// written since goes out now.
    fn on_tls(&mut self, tls: &TlsInfo, cx: &mut Context<'_, Self::Message>) {
        let _ = (tls, cx);
    }

    /// The server drains, and what this peer had sent has been dealt with. By default the connection
    /// finishes. One that goes on is cut off by the drain timeout.
    fn on_drain(&mut self, cx: &mut Context<'_, Self::Message>) {
        cx.finish();
    }

    /// The connection has ended, for this reason. It is the last call, and the only one where an outbound
    /// connection could not be made. Nothing can be written any more, but others can be told:
    /// [`Context::send`], [`Context::send_all`], [`Context::handle`].
    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, Self::Message>) {
        let _ = (reason, cx);
    }
}
