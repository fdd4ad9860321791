//! HTTP on one connection: one request after the other, and a reply to each.

use std::{borrow::Cow, mem, time::Duration};

use echoloop::{Context, Input, Protocol, Timeout};

use super::{
    body::Body,
    reply::{Reply, Status},
    request::{self, Request},
};

/// The key of the only timer.
const REQUEST: u64 = 0;

/// How much of a reply is written before it is asked whether there is room for more.
const PIECE_BYTES: usize = 16 << 10;

/// HTTP/1.1 with one client.
#[derive(Debug)]
pub(crate) struct Http {
    phase: Phase,
    request_timeout: Duration,
    /// The timer runs: some of a request has come, but not all of it.
    is_timed: bool,
    /// The method of the request under way is HEAD: no reply to it has content, whatever it says (RFC 9110 §9.3.2).
    is_head: bool,
    /// The server drains: the request under way is the last.
    is_last: bool,
}

/// ```text
/// Head ──▶ Body ──▶ Reply ──▶ Head …
///   └────────┴────────┴─────▶ Ended
/// ```
#[derive(Debug)]
enum Phase {
    /// Before or within a head, which is left in the input until it is complete.
    Head,
    /// Within the body of this request.
    Body(Request, Body),
    /// No request is looked at before the client has received the last reply, of which so much is written.
    Reply { content: Cow<'static, [u8]>, written: usize, keep_alive: bool },
    /// The last reply is written, and what comes now is no request.
    Ended,
}

impl Http {
    /// With so much time from the first byte of a request until its last.
    pub(crate) fn new(request_timeout: Duration) -> Self {
        Self { phase: Phase::Head, request_timeout, is_timed: false, is_head: false, is_last: false }
    }

    /// The next request and its body, if all of it has come.
    fn receive(
        &mut self,
        input: &mut Input<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<(Request, Body)>, Status> {
        let (request, mut body) = match mem::replace(&mut self.phase, Phase::Head) {
            Phase::Head => {
                // RFC 9112 §2.2: there may be empty lines before a request.
                while input.bytes().starts_with(b"\r\n") {
                    input.consume(2);
                }
                self.is_head = input.bytes().starts_with(b"HEAD ");
                let Some((request, length)) = request::parse(input.bytes())? else { return Ok(None) };
                input.consume(length);
                if request.expects_continue && input.bytes().is_empty() {
                    cx.write(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                (request, Body::new(request.length))
            }
            Phase::Body(request, body) => (request, body),
            phase @ (Phase::Reply { .. } | Phase::Ended) => {
                self.phase = phase;
                return Ok(None);
            }
        };
        if body.receive(input)? {
            return Ok(Some((request, body)));
        }
        self.phase = Phase::Body(request, body);
        Ok(None)
    }

    fn reply(&mut self, request: Request, body: Body, cx: &mut Context<'_>) {
        if mem::take(&mut self.is_timed) {
            cx.cancel_timer(REQUEST);
        }
        let keep_alive = request.keep_alive && !self.is_last && !cx.is_draining();
        let reply = Reply::to(request, body.into_bytes());
        cx.write(reply.head(keep_alive).as_bytes());
        let content = if self.is_head { Cow::default() } else { reply.content };
        self.send(content, 0, keep_alive, cx);
    }

    /// Writes what there is room for. Then comes the next request, the end, or a pause until there is room again:
    /// a client that sends requests without receiving the replies costs no more memory than any other.
    fn send(
        &mut self,
        content: Cow<'static, [u8]>,
        mut written: usize,
        keep_alive: bool,
        cx: &mut Context<'_>,
    ) {
        while written < content.len() && !cx.is_full() {
            let end = content.len().min(written + PIECE_BYTES);
            cx.write(&content[written..end]);
            written = end;
        }
        if written == content.len() && (!keep_alive || self.is_last) {
            self.end(cx);
        } else if cx.is_full() {
            cx.pause_reading();
            self.phase = Phase::Reply { content, written, keep_alive };
        } else {
            self.phase = Phase::Head;
        }
    }

    /// Answers with an error, and ends the connection: where the next request begins is not known. A client that
    /// is still sending can do so, and finds the answer whole.
    fn refuse(&mut self, status: Status, cx: &mut Context<'_>) {
        let reply = Reply::status(status);
        cx.write(reply.head(false).as_bytes());
        if !self.is_head {
            cx.write(&reply.content);
        }
        self.end(cx);
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.finish();
        self.phase = Phase::Ended;
    }
}

impl Protocol for Http {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        loop {
            match self.receive(input, cx) {
                Ok(Some((request, body))) => self.reply(request, body, cx),
                Ok(None) => break,
                Err(status) => self.refuse(status, cx),
            }
        }
        let is_within_request = match self.phase {
            // Half an empty line is no request.
            Phase::Head => !matches!(input.bytes(), [] | [b'\r']),
            Phase::Body(..) => true,
            Phase::Reply { .. } | Phase::Ended => false,
        };
        if is_within_request && !mem::replace(&mut self.is_timed, true) {
            cx.set_timer(REQUEST, self.request_timeout);
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        if let Phase::Reply { content, written, keep_alive } = &mut self.phase {
            let (content, written, keep_alive) = (mem::take(content), *written, *keep_alive);
            cx.resume_reading();
            self.send(content, written, keep_alive, cx);
        }
    }

    /// Who was silent between requests has no answer coming.
    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        if which == Timeout::Timer(REQUEST) {
            self.refuse(Status::REQUEST_TIMEOUT, cx);
        } else {
            self.end(cx);
        }
    }

    /// A request that has begun to come is answered yet.
    fn on_drain(&mut self, cx: &mut Context<'_>) {
        self.is_last = true;
        if matches!(self.phase, Phase::Head) && !self.is_timed {
            self.end(cx);
        }
    }
}
