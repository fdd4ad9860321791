//! `chat`: people with `nc` and `socat`, a thousand members, and one who never reads under each policy.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
};

use super::is_installed;
use crate::util::{self, DEADLINE, Program, example};

/// The program in a room of its own.
fn room(policy: &str) -> (Program, SocketAddr) {
    let program = Program::spawn(example("chat", &["127.0.0.1:0", policy]));
    let address = program.listening();
    (program, address)
}

/// Somebody with another's program for a terminal. Dropping it kills the program.
struct Person {
    child: Child,
    heard: Receiver<String>,
}

impl Person {
    /// `None`, and a word of it, where there is no such program.
    fn with(program: &str, args: &[&str]) -> Option<Self> {
        if !is_installed(program) {
            return None;
        }
        let mut command = Command::new(program);
        let mut child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawn");
        let heard = util::lines(child.stdout.take().expect("piped"));
        Some(Self { child, heard })
    }

    fn nc(room: SocketAddr) -> Option<Self> {
        Self::with("nc", &["127.0.0.1", &room.port().to_string()])
    }

    fn socat(room: SocketAddr) -> Option<Self> {
        // Once its stdin has ended it would wait only half a second for what else is said.
        Self::with("socat", &["-t", "60", "-", &format!("TCP:{room}")])
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{line}").expect("it listens");
    }

    #[track_caller]
    fn hears(&self, line: &str) {
        assert_eq!(self.heard.recv_timeout(DEADLINE).expect("a line"), line);
    }

    /// Nothing more is heard, and the program ends with its stdin.
    #[track_caller]
    fn hangs_up(&mut self) {
        drop(self.child.stdin.take());
        assert_eq!(self.heard.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected));
        util::eventually("the program ends", || self.child.try_wait().expect("wait").is_some());
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member on a plain socket.
struct Member(BufReader<TcpStream>);

impl Member {
    /// One who is in the room, and has heard so.
    #[track_caller]
    fn joins(room: SocketAddr, nick: &str) -> Self {
        let mut member = Self(BufReader::new(util::connect(room)));
        member.hears("* what is your nick?");
        member.says(nick);
        member.hears("* welcome; there are /who, /nick NEW and /quit");
        member
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the room listens");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        assert_eq!(line.pop(), Some('\n'), "the end came after: {line}");
        line
    }

    /// The next line that is not about somebody who joined.
    #[track_caller]
    fn line_after_joins(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.ends_with(" has joined") {
                return line;
            }
        }
    }

    #[track_caller]
    fn hears(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// Reads to a clean end.
    #[track_caller]
    fn hears_no_more(&mut self) {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("a clean end");
        assert_eq!(rest, "");
    }
}

#[test]
fn people_with_nc_and_socat_talk_to_each_other() {
    let (_program, room) = room("close");
    let (Some(mut ann), Some(mut bob)) = (Person::nc(room), Person::socat(room)) else { return };
    ann.hears("* what is your nick?");
    ann.says("ann");
    ann.hears("* welcome; there are /who, /nick NEW and /quit");
    bob.hears("* what is your nick?");
    bob.says("bob");
    bob.hears("* welcome; there are /who, /nick NEW and /quit");
    ann.hears("* bob has joined");
    ann.says("hello, bob");
    bob.hears("ann: hello, bob");
    bob.says("wie schön \x1b[31mred\x07");
    ann.hears("bob: wie schön \u{fffd}[31mred\u{fffd}");
    bob.says("/who");
    bob.hears("* 2 here: ann, bob");
    bob.says("/nick robert");
    bob.hears("* you are now robert");
    ann.hears("* bob is now robert");
    bob.says("/shrug");
    bob.hears("* there are /who, /nick NEW and /quit");
    bob.says("/quit");
    bob.hears("* good-bye");
    bob.hangs_up();
    ann.hears("* robert has left");
    drop(ann.child.stdin.take());
    drop(ann);
}

#[test]
fn what_is_piped_in_is_said_to_the_last_line() {
    let (_program, room) = room("close");
    let mut ann = Member::joins(room, "ann");
    let Some(mut bob) = Person::socat(room) else { return };
    for line in ["bob", "one", "two"] {
        bob.says(line);
    }
    drop(bob.child.stdin.take());
    for line in ["* bob has joined", "bob: one", "bob: two", "* bob has left"] {
        ann.hears(line);
    }
    bob.hears("* what is your nick?");
    bob.hears("* welcome; there are /who, /nick NEW and /quit");
    bob.hears("* good-bye");
    bob.hangs_up();
}

#[test]
fn a_nick_has_20_characters_without_spaces_and_one_bearer() {
    const RULE: &str = "* a nick is 1 to 20 visible letters, digits and signs, not / first";
    let (_program, room) = room("close");
    let _ann = Member::joins(room, "ann");
    let mut bob = Member(BufReader::new(util::connect(room)));
    bob.hears("* what is your nick?");
    for wrong in ["", "two words", "tab\tbed", "zero\u{200b}width", "/who", &"x".repeat(21)] {
        bob.says(wrong);
        bob.hears(RULE);
    }
    bob.says("ann");
    bob.hears("* ann is taken");
    bob.says(&"é".repeat(20));
    bob.hears("* welcome; there are /who, /nick NEW and /quit");
    bob.says("/nick ann");
    bob.hears("* ann is taken");
    bob.says("/nick");
    bob.hears(RULE);
}

#[test]
fn a_nick_can_be_seen() {
    const RULE: &str = "* a nick is 1 to 20 visible letters, digits and signs, not / first";
    let (_program, room) = room("close");
    let mut ann = Member(BufReader::new(util::connect(room)));
    ann.hears("* what is your nick?");
    let invisible = [
        // The Hangul fillers are letters, and invisible.
        "\u{3164}",
        "\u{ffa0}",
        "\u{115f}\u{1160}",
        "ann\u{3164}",
        // A blank hieroglyph, a blank in Braille, soft hyphen, zero-width joiner, a tag, a variation selector.
        "\u{13441}",
        "\u{2800}",
        "a\u{ad}nn",
        "a\u{200d}nn",
        "ann\u{e0041}",
        "ann\u{fe0f}",
        // A space of no width that breaks, one that does not, an unassigned character that is ignorable all the same.
        "a\u{200b}nn",
        "a\u{a0}nn",
        "ann\u{e0fff}",
        // Marks without a letter; the second one counts as a letter.
        "\u{301}",
        "\u{345}",
        "\u{93e}ann",
    ];
    for nick in invisible {
        ann.says(nick);
        assert_eq!(ann.line(), RULE, "{}", nick.escape_unicode());
    }
    for nick in ["한글", "علي", "हिना", "Zoë", "李", "٣٤", "_x_"] {
        let mut other = Member::joins(room, nick);
        other.says("/quit");
        other.hears("* good-bye");
    }
}

#[test]
fn a_nick_is_free_again_when_its_bearer_has_left_in_any_way() {
    let (_program, room) = room("close");
    let mut ann = Member::joins(room, "ann");

    let mut bob = Member::joins(room, "bob");
    ann.hears("* bob has joined");
    bob.says("/quit");
    bob.hears("* good-bye");
    bob.hears_no_more();
    ann.hears("* bob has left");

    let bob = Member::joins(room, "bob");
    ann.hears("* bob has joined");
    util::reset(bob.0.into_inner());
    // Whether what he was told last was acknowledged by then is up to his system.
    let how = ann.line();
    assert!(["* bob has left: reset", "* bob has left: reset undelivered"].contains(&how.as_str()), "{how}");

    let mut bob = Member::joins(room, "bob");
    ann.hears("* bob has joined");
    bob.says("/nick rob");
    ann.hears("* bob is now rob");
    let _bob = Member::joins(room, "bob");
    ann.hears("* bob has joined");
}

#[test]
fn whoever_sends_a_line_that_is_too_long_is_told_and_disconnected() {
    let (_program, room) = room("close");
    let (mut ann, mut bob) = (Member::joins(room, "ann"), Member::joins(room, "bob"));
    ann.hears("* bob has joined");
    let longest = "x".repeat(512);
    bob.says(&longest);
    ann.hears(&format!("bob: {longest}"));
    bob.says(&format!("{longest}x"));
    bob.hears("* a line may have 512 bytes");
    bob.hears("* good-bye");
    bob.hears_no_more();
    ann.hears("* bob has left");
}

#[test]
fn more_lines_at_once_than_the_loop_takes_messages_are_all_heard() {
    let (_program, room) = room("close");
    let (mut ann, mut bob) = (Member::joins(room, "ann"), Member::joins(room, "bob"));
    ann.hears("* bob has joined");
    let lines: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    bob.says(&lines.join("\n"));
    for line in lines {
        ann.hears(&format!("bob: {line}"));
    }
    bob.says("/quit");
    ann.hears("* bob has left");
}

#[test]
fn wrong_arguments_are_a_line_on_stderr() {
    let ended = util::Ended::run(&mut example("chat", &["127.0.0.1:0", "perhaps"]));
    assert_eq!(ended.stderr, "usage: chat ADDR [drop|close|push-back]\n");
    assert_eq!(ended.status.code(), Some(2));
}

#[cfg(target_os = "linux")]
mod many {
    use std::{
        io::ErrorKind,
        ops::Range,
        thread::{self, JoinHandle},
    };

    use super::*;
    use crate::util::procfs::{descriptors_for_connections, resident_bytes};

    #[test]
    fn a_thousand_members_hear_what_one_says() {
        const MEMBERS: usize = 1000;
        if descriptors_for_connections() < MEMBERS {
            return util::skip("too few descriptors for a thousand members");
        }
        echoloop::raise_descriptor_limit().expect("to the hard limit");
        let (_program, room) = room("close");
        let mut members: Vec<Member> = (0..MEMBERS).map(|n| Member::joins(room, &format!("m{n}"))).collect();
        members[0].says("to all 999");
        for member in &mut members[1..] {
            assert_eq!(member.line_after_joins(), "m0: to all 999");
        }
        members[0].says("/who");
        assert!(members[0].line_after_joins().starts_with("* 1000 here: m0, m1, m10, m100, "));
    }

    /// Lines that fill the buffers of the kernel many times over, and that our server must not keep.
    const FLOOD: usize = 24 << 10;

    /// So many are said at a time, and heard by who reads: their bytes are below the high-water mark.
    const BATCH: usize = 96;

    /// More than the limit for one member's queue and what the allocator makes of it, less than the flood.
    const GROWTH_BYTES: u64 = 6 << 20;

    fn numbered(n: usize) -> String {
        format!("{n:0>500}")
    }

    /// A room with one who speaks, one who listens, and one who does not read.
    struct Crowd {
        program: Program,
        speaker: Member,
        listener: Member,
        sleeper: Member,
        bytes_before: u64,
    }

    impl Crowd {
        fn gather(policy: &str) -> Self {
            let (program, room) = room(policy);
            let mut speaker = Member::joins(room, "speaker");
            let mut listener = Member::joins(room, "listener");
            let sleeper = Member::joins(room, "sleeper");
            listener.hears("* sleeper has joined");
            speaker.hears("* listener has joined");
            speaker.hears("* sleeper has joined");
            let bytes_before = resident_bytes(program.child.id());
            Self { program, speaker, listener, sleeper, bytes_before }
        }

        /// Says these lines. The listener has heard them all before more are said than it can be behind.
        fn flood(&mut self, lines: Range<usize>) {
            for begin in lines.clone().step_by(BATCH) {
                let batch = begin..lines.end.min(begin + BATCH);
                let said: Vec<String> = batch.clone().map(numbered).collect();
                self.speaker.says(&said.join("\n"));
                for n in batch {
                    self.listener.hears(&format!("speaker: {}", numbered(n)));
                }
            }
        }
    }

    #[track_caller]
    fn assert_little_memory(program: &Program, bytes_before: u64) {
        let grown = resident_bytes(program.child.id()).saturating_sub(bytes_before);
        assert!(grown < GROWTH_BYTES, "{grown} bytes more than before the flood");
    }

    #[test]
    fn dropping_lets_a_slow_reader_miss_lines_and_says_how_many() {
        let mut crowd = Crowd::gather("drop");
        crowd.flood(0..FLOOD);
        assert_little_memory(&crowd.program, crowd.bytes_before);

        let mut heard = 0;
        let missed: usize = loop {
            let line = crowd.sleeper.line();
            if let Some(missed) = line.strip_prefix("* you missed ") {
                break missed.strip_suffix(" lines").and_then(|n| n.parse().ok()).expect("a number");
            }
            assert_eq!(line, format!("speaker: {}", numbered(heard)));
            heard += 1;
        };
        assert_eq!(heard + missed, FLOOD);
        crowd.speaker.says("good morning");
        crowd.sleeper.hears("speaker: good morning");
    }

    #[test]
    fn closing_ends_a_slow_reader_and_tells_the_others() {
        let mut crowd = Crowd::gather("close");
        for n in 0..FLOOD {
            crowd.speaker.says(&numbered(n));
            let line = crowd.listener.line();
            if line == "* sleeper has left: slow reader" {
                break;
            }
            assert_eq!(line, format!("speaker: {}", numbered(n)));
        }
        assert_little_memory(&crowd.program, crowd.bytes_before);
        // A reset, not an end: what came is not to be taken for everything.
        util::read_to_reset(crowd.sleeper.0.get_ref());
        crowd.speaker.says("/who");
        crowd.speaker.hears("* sleeper has left: slow reader");
        crowd.speaker.hears("* 2 here: listener, speaker");
    }

    /// The lines of a flood that are not said yet.
    struct Unsaid {
        stream: TcpStream,
        lines: Vec<u8>,
    }

    impl Unsaid {
        fn by(speaker: &Member) -> Self {
            let lines = (0..FLOOD).flat_map(|n| format!("{}\n", numbered(n)).into_bytes()).collect();
            Self { stream: speaker.0.get_ref().try_clone().expect("try_clone"), lines }
        }

        /// Says what the room takes now, and returns how many bytes.
        fn say_what_goes(&mut self) -> usize {
            self.stream.set_nonblocking(true).expect("set_nonblocking");
            let said = match self.stream.write(&self.lines) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                said => said.expect("the room listens"),
            };
            self.stream.set_nonblocking(false).expect("set_nonblocking");
            self.lines.drain(..said);
            said
        }

        /// Says all the rest on a thread; it goes on only as fast as it is read from.
        fn say_the_rest(mut self) -> JoinHandle<()> {
            thread::spawn(move || self.stream.write_all(&self.lines).expect("the room listens"))
        }
    }

    /// Has the flood begin, and hears its lines until the speaker is held. Returns how many.
    #[track_caller]
    fn hear_until_held(listener: &mut Member, unsaid: &mut Unsaid) -> usize {
        let mut heard = 0;
        util::until_nothing_moves(|| {
            let (said, heard_before) = (unsaid.say_what_goes(), heard);
            // Others are served meanwhile.
            listener.says("/who");
            loop {
                let line = listener.line();
                if line == "* 3 here: listener, sleeper, speaker" {
                    break;
                }
                assert_eq!(line, format!("speaker: {}", numbered(heard)));
                heard += 1;
            }
            said > 0 || heard > heard_before
        });
        assert!(!unsaid.lines.is_empty(), "nobody was held");
        heard
    }

    /// Hears the rest of the flood, and another line somewhere in it. Returns where that was.
    #[track_caller]
    fn hear_the_rest(listener: &mut Member, heard: usize, other: &str) -> usize {
        let mut lines = heard..FLOOD;
        let mut other_at = None;
        while other_at.is_none() || !lines.is_empty() {
            let line = listener.line();
            if line == other {
                other_at = Some(lines.start);
            } else {
                assert_eq!(line, format!("speaker: {}", numbered(lines.next().expect("a flood ends"))));
            }
        }
        other_at.expect("it was heard")
    }

    #[test]
    fn pushing_back_holds_the_speaker_until_the_slow_reader_has_read() {
        let Crowd { program, speaker, mut listener, mut sleeper, bytes_before } = Crowd::gather("push-back");
        let mut unsaid = Unsaid::by(&speaker);
        let heard = hear_until_held(&mut listener, &mut unsaid);
        assert_little_memory(&program, bytes_before);

        let flood = unsaid.say_the_rest();
        let sleeper = thread::spawn(move || {
            (0..FLOOD).for_each(|n| sleeper.hears(&format!("speaker: {}", numbered(n))));
            sleeper.says("what?");
        });
        hear_the_rest(&mut listener, heard, "sleeper: what?");
        sleeper.join().expect("the slow reader misses nothing");
        flood.join().expect("everything is said");
    }

    #[test]
    fn a_slow_reader_that_leaves_holds_nobody_any_more() {
        let Crowd { program: _program, speaker, mut listener, sleeper, .. } = Crowd::gather("push-back");
        let mut unsaid = Unsaid::by(&speaker);
        let heard = hear_until_held(&mut listener, &mut unsaid);
        let flood = unsaid.say_the_rest();
        util::reset(sleeper.0.into_inner());
        let left_at = hear_the_rest(&mut listener, heard, "* sleeper has left: reset undelivered");
        assert!(left_at < FLOOD, "all was said before");
        flood.join().expect("everything is said");
    }
}
