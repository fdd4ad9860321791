//! When frames are handed over, when they are held back, and how what is no frame ends.

use super::*;
use crate::framing::{FrameError, Framed, FramedProtocol, Lines};

type Log = Rc<RefCell<Vec<String>>>;

const MAX_LINE: usize = 20;
const REPLY: [u8; 60] = [b'.'; 60];

/// Does what lines and messages say, and notes what it was told.
struct Obedient {
    lines: Lines,
    log: Log,
}

impl Obedient {
    fn note(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }

    fn obey(&mut self, order: &str, cx: &mut Context<'_, &'static str>) {
        self.note(order);
        match order {
            "reply" => drop(cx.write(&REPLY)),
            "pause" => cx.pause_reading(),
            "resume" => cx.resume_reading(),
            "pause and resume" => {
                cx.pause_reading();
                cx.resume_reading();
            }
            "shutdown" => cx.shutdown_write(),
            "finish" => cx.finish(),
            "abort" => cx.abort(),
            "longer" => self.lines = Lines::new(2 * MAX_LINE),
            _ => {}
        }
    }
}

impl FramedProtocol for Obedient {
    type Framing = Lines;
    type Message = &'static str;

    fn framing(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn on_frame(&mut self, line: &[u8], cx: &mut Context<'_, &'static str>) {
        self.obey(std::str::from_utf8(line).unwrap(), cx);
    }

    fn on_frame_error(&mut self, error: FrameError, cx: &mut Context<'_, &'static str>) {
        self.note(error.to_string());
        cx.write(b"sorry");
    }

    fn on_writable(&mut self, _: &mut Context<'_, &'static str>) {
        self.note("writable");
    }

    fn on_eof(&mut self, rest: &[u8], cx: &mut Context<'_, &'static str>) {
        self.note(format!("eof behind '{}'", rest.escape_ascii()));
        cx.finish();
    }

    fn on_message(&mut self, order: &'static str, cx: &mut Context<'_, &'static str>) {
        self.obey(order, cx);
    }

    fn on_close(&mut self, reason: &CloseReason, _: &mut Context<'_, &'static str>) {
        self.note(reason.name());
    }
}

struct Test {
    world: World<Framed<Obedient>>,
    peer: Peer,
    log: Log,
}

impl Test {
    /// 100 bytes of high water, 40 of low water, and a peer that takes `room` bytes.
    fn new(room: usize) -> Self {
        Self::with(Config { high_water_bytes: 100, low_water_bytes: 40, ..Config::default() }, room)
    }

    fn with(limits: Config, room: usize) -> Self {
        let log = Log::default();
        let protocol = Obedient { lines: Lines::new(MAX_LINE), log: Rc::clone(&log) };
        let mut world = World::new(limits);
        let peer = world.accept(Framed::new(protocol), room);
        Self { world, peer, log }
    }

    fn lines(&mut self, lines: &[&str]) {
        let text = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
        self.world.data(&self.peer, text.as_bytes());
    }

    fn message(&mut self, order: &'static str) {
        assert!(self.world.connections.message(self.peer.id, order, &mut FakePoller));
        self.world.settle();
    }

    fn make_room(&mut self, n: usize) {
        self.world.make_room(&self.peer, n);
    }

    fn fin(&mut self) {
        self.world.fin(&self.peer);
    }

    /// What the protocol was told since the last time.
    fn told(&self) -> Vec<String> {
        mem::take(&mut self.log.borrow_mut())
    }

    fn replies(&self) -> usize {
        self.log.borrow().iter().filter(|&line| line == "reply").count()
    }
}

const NOTHING: [&str; 0] = [];
const THREE_REPLIES: [&str; 4] = ["reply", "reply", "reply", "last"];

#[test]
fn many_requests_queue_no_more_than_the_high_water_mark_and_one_reply() {
    let mut test = Test::new(0);
    test.lines(&["reply"; 50]);
    assert_eq!(test.replies(), 2);
    for _ in 0..50 * REPLY.len() / 7 {
        let before = test.replies();
        test.make_room(7);
        assert!(test.replies() <= before + 2);
        let queued = test.replies() * REPLY.len() - test.peer.sent().len();
        assert!(queued < 100 + REPLY.len(), "{queued}");
    }
    test.make_room(1000);
    assert_eq!(test.replies(), 50);
    assert_eq!(test.peer.sent().len(), 50 * REPLY.len());
}

#[test]
fn frames_are_not_held_back_while_the_peer_takes_the_replies() {
    let mut test = Test::new(usize::MAX);
    test.lines(&["reply"; 50]);
    assert_eq!(test.replies(), 50);
    assert_eq!(test.peer.sent().len(), 50 * REPLY.len());
}

#[test]
fn frames_held_back_come_before_the_end_of_input() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    test.fin();
    assert_eq!(test.told(), ["reply", "reply"]);
    test.make_room(1000);
    assert_eq!(test.told(), ["writable", "reply", "last", "eof behind ''", "peer"]);
    assert_eq!(test.peer.sent().len(), 3 * REPLY.len());
    test.world.assert_ended(CloseReason::Peer);
}

#[test]
fn the_rest_of_an_unfinished_frame_comes_with_the_end() {
    let mut test = Test::new(100);
    test.lines(&["whole", "unfinished"]);
    test.world.data(&test.peer, b"cut of");
    test.fin();
    assert_eq!(test.told(), ["whole", "unfinished", "eof behind 'cut of'", "peer"]);
}

#[test]
fn a_protocol_that_pauses_is_handed_no_frame_until_it_resumes() {
    let mut test = Test::new(100);
    test.lines(&["one", "pause", "two", "pause", "three"]);
    test.fin();
    assert_eq!(test.told(), ["one", "pause"]);
    test.message("resume");
    assert_eq!(test.told(), ["resume", "two", "pause"]);
    test.message("resume");
    assert_eq!(test.told(), ["resume", "three", "eof behind ''", "peer"]);
}

#[test]
fn a_protocol_that_pauses_and_resumes_at_once_goes_on() {
    let mut test = Test::new(100);
    test.lines(&["pause and resume", "more"]);
    assert_eq!(test.told(), ["pause and resume", "more"]);
}

#[test]
fn room_does_not_resume_what_the_protocol_has_paused() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    test.message("pause");
    assert_eq!(test.told(), ["reply", "reply", "pause"]);
    test.make_room(1000);
    test.message("something else");
    assert_eq!(test.told(), ["writable", "something else"]);
    test.message("resume");
    assert_eq!(test.told(), ["resume", "reply", "last"]);
}

#[test]
fn to_resume_without_room_brings_no_frame() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    for order in ["resume", "pause", "resume", "resume"] {
        test.message(order);
    }
    assert_eq!(test.told(), ["reply", "reply", "resume", "pause", "resume", "resume"]);
    test.make_room(1000);
    assert_eq!(test.told(), ["writable", "reply", "last"]);
}

#[test]
fn a_pause_with_full_output_is_the_protocols() {
    let mut test = Test::new(0);
    test.lines(&["reply", "reply", "pause", "last"]);
    test.make_room(1000);
    assert_eq!(test.told(), ["reply", "reply", "writable", "pause"]);
    test.message("resume");
    assert_eq!(test.told(), ["resume", "last"]);
}

#[test]
fn after_finish_no_frame_comes() {
    let mut test = Test::new(100);
    test.lines(&["reply", "finish", "reply"]);
    test.lines(&["reply"]);
    test.fin();
    assert_eq!(test.told(), ["reply", "finish", "finished"]);
    assert_eq!(test.peer.sent(), REPLY);
}

#[test]
fn after_abort_no_frame_comes() {
    let mut test = Test::new(100);
    test.lines(&["abort", "reply"]);
    assert_eq!(test.told(), ["abort", "aborted"]);
}

#[test]
fn to_finish_while_frames_are_held_back_drops_them() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    test.message("finish");
    test.make_room(1000);
    test.fin();
    assert_eq!(test.told(), ["reply", "reply", "finish", "finished"]);
    assert_eq!(test.peer.sent().len(), 2 * REPLY.len());
}

#[test]
fn after_shutdown_write_frames_still_come() {
    let mut test = Test::new(0);
    test.lines(&["reply", "reply, no", "reply", "shutdown", "more"]);
    assert_eq!(test.told(), ["reply", "reply, no", "reply"]);
    test.make_room(1000);
    assert_eq!(test.told(), ["writable", "shutdown", "more"]);
    test.lines(&["even more"]);
    assert_eq!(test.told(), ["even more"]);
    test.fin();
    assert_eq!(test.told(), ["eof behind ''", "finished"]);
}

#[test]
fn shutdown_write_while_frames_are_held_back_lets_them_come() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    test.message("shutdown");
    assert_eq!(test.told(), ["reply", "reply", "shutdown", "reply", "last"]);
    test.make_room(1000);
    test.fin();
    assert_eq!(test.told(), ["eof behind ''", "finished"]);
    assert_eq!(test.peer.sent().len(), 2 * REPLY.len());
}

#[test]
fn a_frame_that_is_too_long_gets_a_last_reply_and_the_documented_end() {
    let mut test = Test::new(100);
    test.lines(&["reply"]);
    for _ in 0..3 {
        test.world.data(&test.peer, b"eleven byte");
    }
    test.lines(&["", "reply"]);
    assert_eq!(test.told(), ["reply", "a frame is longer than 20 bytes"]);
    let calls = test.peer.calls();
    assert_eq!(calls[..6], ["read 6", "write 60", "read 11", "read 11", "write 5", "shutdown"], "{calls:?}");
    test.fin();
    assert_eq!(test.told(), ["finished"]);
    test.world.assert_ended(CloseReason::Finished);
}

#[test]
fn what_is_no_frame_waits_for_its_turn() {
    let mut test = Test::new(0);
    test.lines(&["reply", "reply", "this line is too long by far"]);
    assert_eq!(test.told(), ["reply", "reply"]);
    test.make_room(1000);
    assert_eq!(test.told(), ["writable", "a frame is longer than 20 bytes"]);
    assert_eq!(test.peer.sent(), [&REPLY[..], &REPLY, b"sorry"].concat());
}

#[test]
fn a_framing_can_be_exchanged_from_one_frame_to_the_next() {
    let mut test = Test::new(0);
    test.lines(&["longer", "this line is no longer too long"]);
    assert_eq!(test.told(), ["longer", "this line is no longer too long"]);
}

#[test]
fn a_frame_may_fill_the_input_limit_and_not_a_byte_more() {
    let limits = Config { input_limit_bytes: MAX_LINE + 2, ..Config::default() };
    let mut test = Test::with(limits.clone(), 100);
    for byte in b"12345678901234567890\r\n" {
        test.world.data(&test.peer, &[*byte]);
    }
    assert_eq!(test.told(), ["12345678901234567890"]);

    let mut test = Test::with(Config { input_limit_bytes: MAX_LINE, ..limits }, 100);
    test.lines(&["12345678901234567890"]);
    assert_eq!(test.told(), [CloseReason::InputLimit.name()]);
}

#[test]
fn frames_that_fill_the_input_limit_may_be_held_back() {
    let mut test = Test::with(
        Config { high_water_bytes: 50, low_water_bytes: 10, input_limit_bytes: 24, ..Config::default() },
        0,
    );
    test.lines(&["reply"; 9]);
    assert_eq!(test.replies(), 1);
    test.make_room(1000);
    assert_eq!(test.replies(), 9);
    test.world.assert_open();
}

#[test]
fn frames_held_back_are_lost_with_the_connection() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    test.peer.wire.borrow_mut().write_errors.push_back(ErrorKind::ConnectionReset);
    test.make_room(1000);
    assert_eq!(test.told(), ["reply", "reply", CloseReason::ResetUndelivered.name()]);
}

#[test]
fn a_drain_waits_for_frames_that_are_held_back() {
    let mut test = Test::new(0);
    test.lines(&THREE_REPLIES);
    test.world.begin_drain();
    test.world.pass(seconds(2));
    test.make_room(1000);
    assert_eq!(test.told(), ["reply", "reply", "writable", "reply", "last"]);
    test.world.pass(Config::default().drain_silence);
    assert_eq!(test.peer.calls().last().unwrap(), "shutdown");
    assert_eq!(test.told(), NOTHING);
}
