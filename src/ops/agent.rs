//! HAProxy's agent-check.

use super::{
    Ops,
    reply::{Kind, Reply},
};
use crate::protocol::{Protocol, context::Context, input::Input};

/// Says in one line whether clients should be sent here, then ends: one value for each connection, made by
/// [`Ops::agent`].
#[derive(Debug)]
pub struct Agent {
    ops: Ops,
    /// The line is being found.
    is_pending: bool,
}

impl Agent {
    pub(super) const fn new(ops: Ops) -> Self {
        Self { ops, is_pending: false }
    }
}

impl Protocol for Agent {
    type Message = Reply;

    fn on_open(&mut self, cx: &mut Context<'_, Reply>) {
        let ops = self.ops.clone();
        if !ops.is_ready() {
            let find = move || Reply::ok(Kind::Text, ops.agent_line().to_owned());
            self.is_pending = cx.spawn_blocking(find).is_ok();
        }
        if !self.is_pending {
            cx.write(if self.ops.is_ready() { b"up ready\n" } else { b"drain\n" });
            cx.finish();
        }
    }

    /// HAProxy may be told to send something, `agent-send`.
    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Reply>) {
        input.take();
    }

    fn on_message(&mut self, line: Reply, cx: &mut Context<'_, Reply>) {
        cx.write(line.content.as_bytes());
        cx.finish();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, cx: &mut Context<'_, Reply>) {
        if !self.is_pending {
            cx.finish();
        }
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Reply>) {
        if !self.is_pending {
            cx.finish();
        }
    }
}
