//! A protocol of any type.

use std::fmt;

use super::{Protocol, context::Context, input::Input, timeout::Timeout};
use crate::{close_reason::CloseReason, peer::Peer, tls::TlsInfo};

/// A protocol of any type, for servers that speak more than one: on several listeners, or on outbound connections. All have
/// the same [`Message`](Protocol::Message).
///
/// It costs an allocation for each connection, and an indirect call for each callback: about 1 % of an echo without a system
/// call (`benches/base.rs`). An enum that calls the protocols costs nothing.
///
/// ```
/// use echoloop::{Boxed, Context, Echo, Input, Origin, Protocol, testing::Loop};
///
/// struct Discard;
///
/// impl Protocol for Discard {
///     type Message = ();
///
///     fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
///         input.take();
///     }
/// }
///
/// let net = Loop::new(|peer| {
///     Some(if peer.origin == Origin::Listener(0) { Boxed::new(Echo) } else { Boxed::new(Discard) })
/// });
/// let (echo, discard) = (net.connect(), net.client().listener(1).connect());
/// echo.send("hello");
/// discard.send("hello");
/// assert_eq!((echo.received(), discard.received()), (b"hello".to_vec(), Vec::new()));
/// ```
pub struct Boxed<M = ()>(Box<dyn Callbacks<M>>);

impl<M: Send + 'static> Boxed<M> {
    /// Of this protocol.
    #[must_use]
    pub fn new<P: Protocol<Message = M> + 'static>(protocol: P) -> Self {
        Self(Box::new(protocol))
    }
}

/// What the loop asks of a protocol, without its type, and that for every protocol and for those without.
macro_rules! callbacks {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        trait Callbacks<M> {
            fn returns_input_unchanged(&self) -> bool;

            $(fn $name(&mut self, $($argument: $type,)* cx: &mut Context<'_, M>);)*
        }

        impl<M, P: Protocol<Message = M>> Callbacks<M> for P {
            fn returns_input_unchanged(&self) -> bool {
                Protocol::returns_input_unchanged(self)
            }

            $(fn $name(&mut self, $($argument: $type,)* cx: &mut Context<'_, M>) {
                Protocol::$name(self, $($argument,)* cx);
            })*
        }

        impl<M: Send + 'static> Protocol for Boxed<M> {
            type Message = M;

            fn returns_input_unchanged(&self) -> bool {
                self.0.returns_input_unchanged()
            }

            fn from_boxed(boxed: Self) -> Option<Self> {
                Some(boxed)
            }

            $(fn $name(&mut self, $($argument: $type,)* cx: &mut Context<'_, M>) {
                self.0.$name($($argument,)* cx);
            })*
        }
    };
}

callbacks! {
    on_open();
    on_data(input: &mut Input<'_>);
    on_writable();
    on_eof(rest: &mut Input<'_>);
    on_timeout(which: Timeout);
    on_message(message: M);
    on_connected(label: u64, peer: &Peer<'_>);
    on_connect_failed(label: u64, reason: &CloseReason);
    on_tls(tls: &TlsInfo);
    on_prestop();
    on_drain();
    on_close(reason: &CloseReason);
}

impl<M> fmt::Debug for Boxed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}
