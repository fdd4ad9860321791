//! Protocols that several of the tests speak.

use super::*;

/// Sends the first input back and finishes.
pub(super) struct OneReply;

impl Protocol for OneReply {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.forward(input);
        cx.finish();
    }
}

/// Keeps what comes, and writes a byte for each input.
pub(super) struct Sink(pub(super) Rc<RefCell<Vec<u8>>>);

impl Protocol for Sink {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.borrow_mut().extend_from_slice(input.take());
        cx.write(b".");
    }
}

/// Takes one byte, then pauses; resumes on a message.
pub(super) struct Pausing;

impl Protocol for Pausing {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        cx.write(&input.bytes()[..1]);
        input.consume(1);
        cx.pause_reading();
    }

    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
    }
}

/// Sets a timer of so many seconds, with that key, for each byte, and again when one fires.
pub(super) struct Ticking {
    pub(super) log: Rc<RefCell<Vec<Timeout>>>,
    pub(super) rearm: Option<Duration>,
}

impl Protocol for Ticking {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        for &byte in input.take() {
            cx.set_timer(byte.into(), seconds(byte.into()));
        }
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_>) {
        self.log.borrow_mut().push(which);
        if let (Timeout::Timer(key), Some(delay)) = (which, self.rearm) {
            cx.set_timer(key, delay);
        }
    }
}

/// Panics when it sees an exclamation mark.
pub(super) struct Nervous;

impl Protocol for Nervous {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        assert!(!input.bytes().contains(&b'!'), "as the test wants it");
        cx.forward(input);
    }
}

/// Writes 5 bytes at a time while it may.
pub(super) struct Generator(pub(super) Rc<Cell<usize>>);

impl Generator {
    fn generate(&self, cx: &mut Context<'_>) {
        while self.0.get() > 0 {
            self.0.set(self.0.get() - 1);
            if cx.write(b"12345") != Flow::Open {
                return;
            }
        }
        cx.finish();
    }
}

impl Protocol for Generator {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.generate(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        self.generate(cx);
    }
}

/// Waits for four bytes, then sends them back.
pub(super) struct Fours;

impl Protocol for Fours {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        while let Some(four) = input.bytes().get(..4) {
            cx.write(four);
            input.consume(4);
        }
    }
}

/// Half-closes at the first input, and keeps what comes after.
pub(super) struct HalfCloser(pub(super) Rc<RefCell<Vec<u8>>>);

impl Protocol for HalfCloser {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        self.0.borrow_mut().extend_from_slice(input.take());
        cx.write(b"bye");
        cx.shutdown_write();
    }
}

/// Leaves the end of input unanswered.
pub(super) struct Unmoved;

impl Protocol for Unmoved {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        input.take();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}
}
