//! The echo protocol.

use super::{Context, Input, Protocol};

/// Sends every byte back, in order (RFC 862), and ends when its peer ends.
///
/// ```no_run
/// use echoloop::{Echo, Server};
///
/// Server::<Echo>::builder().bind(["127.0.0.1:27015"])?.run(|_| Some(Echo))?;
/// # Ok::<(), echoloop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echo;

impl Protocol for Echo {
    type Message = ();
    fn returns_input_unchanged(&self) -> bool {
        true
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
    }
}
