//! The connection of a client that asks over HTTP/1.1.

use std::time::Duration;

use super::{
    Ops,
    reply::{Reply, Status},
    request::{self, Request},
};
use crate::protocol::{
    Protocol,
    context::{Context, Flow},
    input::Input,
    timeout::Timeout,
};

/// How long the head of a request may take once it has begun, and that of the first one in all.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The timer for that.
const HEAD_TIMER: u64 = 0;

/// Answers requests for what [`Ops`] sees: one value for each connection, made by [`Ops::http`].
///
/// It speaks HTTP/1.1 and 1.0, with GET and HEAD, keep-alive and pipelining. Heads of requests are at most 8 KiB long and
/// take at most 10 s, and the first one begins at once; requests with content are refused.
#[derive(Debug)]
pub struct Http {
    ops: Ops,
    /// The request that is being answered. Others wait.
    pending: Option<Request>,
    /// The rest of a head, or the first one, has its time.
    awaits_rest: bool,
    /// No further request is answered.
    is_ending: bool,
}

impl Http {
    pub(super) const fn new(ops: Ops) -> Self {
        Self { ops, pending: None, awaits_rest: false, is_ending: false }
    }

    fn begin(&mut self, request: Request, cx: &mut Context<'_, Reply>) {
        let route = match request.route {
            Ok(route) => route,
            Err(status) => return self.reply(&Reply::status(status), request, cx),
        };
        let ops = self.ops.clone();
        match cx.spawn_blocking(move || ops.answer(route)) {
            Ok(()) => self.pending = Some(request),
            Err(_) => self.reply(&Reply::new(Status::Unavailable, "too busy".to_owned()), request, cx),
        }
    }

    fn reply(&mut self, reply: &Reply, request: Request, cx: &mut Context<'_, Reply>) {
        let keep_alive = request.keep_alive && !cx.is_draining() && !self.is_ending;
        cx.write(reply.head(keep_alive).as_bytes());
        if !request.is_head {
            cx.write(reply.content.as_bytes());
        }
        if !keep_alive {
            self.is_ending = true;
            cx.finish();
        }
    }

    /// A last reply to what cannot be understood, or did not come.
    fn refuse(&mut self, status: Status, cx: &mut Context<'_, Reply>) {
        let request = Request { route: Err(status), is_head: false, keep_alive: false };
        self.reply(&Reply::status(status), request, cx);
    }

    /// The head has come, or something that is none.
    fn end_of_head(&mut self, cx: &mut Context<'_, Reply>) {
        if std::mem::take(&mut self.awaits_rest) {
            cx.cancel_timer(HEAD_TIMER);
        }
    }
}

impl Protocol for Http {
    type Message = Reply;

    fn on_open(&mut self, cx: &mut Context<'_, Reply>) {
        // Those who only keep a place give it back soon.
        self.awaits_rest = true;
        cx.set_timer(HEAD_TIMER, HEAD_TIMEOUT);
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Reply>) {
        while !self.is_ending && !input.bytes().is_empty() {
            // What waits for an answer, or for a client to take one, is read later.
            if self.pending.is_some() || cx.flow() == Flow::Full {
                return cx.pause_reading();
            }
            match request::parse(input.bytes()) {
                Ok(Some((request, length))) => {
                    input.consume(length);
                    self.end_of_head(cx);
                    self.begin(request, cx);
                }
                Ok(None) => {
                    if !std::mem::replace(&mut self.awaits_rest, true) {
                        cx.set_timer(HEAD_TIMER, HEAD_TIMEOUT);
                    }
                    return;
                }
                Err(status) => {
                    self.end_of_head(cx);
                    self.refuse(status, cx);
                }
            }
        }
        if self.pending.is_some() {
            // The end of the input is seen after the answer too: a client may half-close.
            cx.pause_reading();
        }
    }

    fn on_message(&mut self, reply: Reply, cx: &mut Context<'_, Reply>) {
        if let Some(request) = self.pending.take() {
            self.reply(&reply, request, cx);
            cx.resume_reading();
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Reply>) {
        if self.pending.is_none() {
            cx.resume_reading();
        }
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Reply>) {
        match which {
            Timeout::Timer(_) => self.refuse(Status::RequestTimeout, cx),
            Timeout::Idle | Timeout::ReadIdle | Timeout::WriteIdle | Timeout::Inner(_) => cx.finish(),
        }
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Reply>) {
        self.is_ending = true;
        if self.pending.is_none() {
            cx.finish();
        }
    }
}
