//! A chat room for people with `nc`: whoever connects says a nick, and from then on each line goes to all others.
//!
//! ```text
//! cargo run --release --example chat -- ADDR [drop|close|push-back]
//! cargo run --release --example chat -- 127.0.0.1:7777
//! nc 127.0.0.1 7777
//! socat - TCP:127.0.0.1:7777
//! ```
//!
//! `/who` says who is here, `/nick NEW` changes the nick, and `/quit` or the end of input leaves. A line may have 512
//! bytes; one who sends a longer one is told so and disconnected. Control characters are replaced, and so are
//! those that change the direction of text: nobody can play tricks on the others' terminals. Nor has anybody a nick that the
//! others cannot see.
//!
//! A line is stored once, however many are to get it: what the loop hands from the speaker to the others is an
//! `Arc<str>`. Each copies it only into the output of its own connection.
//!
//! That output is why there has to be a policy for those who receive more slowly than others speak. When so much
//! of it waits that the connection is full (64 KiB), a member
//!
//! - `drop`: misses lines until most of it is taken, and then is told how many these were;
//! - `close`, the default: is reset as a slow reader with the next line;
//! - `push-back`: has the speakers wait. It sends each of them a `Hold`, and a `Release` when there is room again. Nobody
//!   misses anything, but the room is as slow as its slowest member; one who takes nothing at all for the write
//!   timeout (a minute) is disconnected. What was under way before the `Hold` came is queued too: some 1,000 lines.
//!   That a member leaves, by `/quit` or the end of input, is noticed only when it has received what waits for it, or by
//!   the write timeout.

use std::{
    collections::{BTreeSet, HashMap},
    env,
    error::Error,
    process::ExitCode,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use regex::Regex;

use echoloop::{
    CloseReason, Config, ConnectionId, Context, Flow, SendError, Server, Timeout,
    framing::{FrameError, Framed, FramedProtocol, Lines},
};

const LINE_BYTES: usize = 512;
const NICK_CHARS: usize = 20;

/// Letters, digits and signs that can be seen. Some letters cannot, as the Hangul filler U+3164: Unicode calls them
/// ignorable by default. For the blank Egyptian hieroglyphs, U+13441 and U+13442, it has no property. The first character is
/// no mark: that would be drawn onto what stands before the nick.
static NICK: LazyLock<Regex> = LazyLock::new(|| {
    let visible = r"\p{Alphabetic}\p{Number}[:punct:]&&[^\p{Default_Ignorable_Code_Point}\x{13441}\x{13442}]";
    Regex::new(&format!(r"^[{visible}&&[^\p{{Mark}}/]][{visible}]*$")).expect("it is written correctly")
});

/// What waits for one member at most. Only `push-back` comes past the high-water mark, for lines already under way.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// The key of the timer with which a member sees after what could not be done, and how long that waits.
const AGAIN: u64 = 0;
const SOON: Duration = Duration::from_millis(20);

const GREETING: &str = "* what is your nick?\n";
const WELCOME: &str = "* welcome; there are /who, /nick NEW and /quit\n";

/// What members send to each other.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A whole line for all others, and who caused it.
    Line(Arc<str>, ConnectionId),
    /// This member cannot take more lines: say no more.
    Hold(ConnectionId),
    /// It can again.
    Release(ConnectionId),
}

/// What becomes of lines for a member whose output is full.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Policy {
    Drop,
    Close,
    PushBack,
}

/// What all share.
#[derive(Debug)]
pub(crate) struct Room {
    /// Who is here, by what nick. There is one loop, so nobody ever waits for the lock.
    members: Mutex<HashMap<ConnectionId, Arc<str>>>,
    policy: Policy,
}

impl Room {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { members: Mutex::default(), policy }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<ConnectionId, Arc<str>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a member in, or changes its nick.
    fn name(&self, id: ConnectionId, nick: &Arc<str>) -> Result<(), String> {
        if nick.chars().count() > NICK_CHARS || !NICK.is_match(nick) {
            return Err(format!(
                "a nick is 1 to {NICK_CHARS} visible letters, digits and signs, not / first"
            ));
        }
        let mut members = self.members();
        if members.values().any(|taken| taken == nick) {
            return Err(format!("{nick} is taken"));
        }
        members.insert(id, Arc::clone(nick));
        Ok(())
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    room: &'a Room,
    id: ConnectionId,
    lines: Lines,
    /// `None` before it has one, and after it has left.
    nick: Option<Arc<str>>,
    /// Its line that the loop had no room for.
    unsent: Option<Message>,
    /// With `drop`: how many lines it has missed.
    missed: u64,
    /// With `push-back`: whom it holds.
    holds: BTreeSet<ConnectionId>,
    /// With `push-back`: who holds it. It is not read from while anybody does.
    held_by: BTreeSet<ConnectionId>,
}

impl<'a> Member<'a> {
    pub(crate) const fn new(room: &'a Room, id: ConnectionId) -> Self {
        Self {
            room,
            id,
            lines: Lines::new(LINE_BYTES),
            nick: None,
            unsent: None,
            missed: 0,
            holds: BTreeSet::new(),
            held_by: BTreeSet::new(),
        }
    }

    fn call_it(&mut self, nick: &str, cx: &mut Context<'_, Message>) {
        let nick = Arc::from(nick);
        if let Err(why) = self.room.name(self.id, &nick) {
            cx.write(format!("* {why}\n").as_bytes());
            return;
        }
        let news = if let Some(old) = &self.nick {
            cx.write(format!("* you are now {nick}\n").as_bytes());
            format!("* {old} is now {nick}\n")
        } else {
            cx.write(WELCOME.as_bytes());
            format!("* {nick} has joined\n")
        };
        self.nick = Some(nick);
        self.say(news, cx);
    }

    fn tell_who_is_here(&self, cx: &mut Context<'_, Message>) {
        let members = self.room.members();
        let mut nicks: Vec<&str> = members.values().map(|nick| &**nick).collect();
        nicks.sort_unstable();
        cx.write(format!("* {} here: {}\n", nicks.len(), nicks.join(", ")).as_bytes());
    }

    /// Sends a line to all others.
    fn say(&mut self, line: String, cx: &mut Context<'_, Message>) {
        self.unsent = Some(Message::Line(line.into(), self.id));
        self.go_on(cx);
    }

    /// Sends what is unsent, and reads on if nothing stands in the way.
    fn go_on(&mut self, cx: &mut Context<'_, Message>) {
        if let Some(line) = self.unsent.take()
            && let Err(SendError::Full(line)) = cx.send_all(line)
        {
            self.unsent = Some(line);
        }
        if self.unsent.is_none() && self.held_by.is_empty() {
            cx.resume_reading();
        } else {
            cx.pause_reading();
            cx.set_timer(AGAIN, SOON);
        }
    }

    fn hear(&mut self, line: &str, speaker: ConnectionId, cx: &mut Context<'_, Message>) {
        if self.nick.is_none() {
            return;
        }
        match self.room.policy {
            // Once it has missed one it misses all until `on_writable`: there is one gap, and it is told where.
            Policy::Drop if self.missed > 0 || cx.is_full() => self.missed += 1,
            Policy::Close if cx.is_full() => cx.give_up(),
            Policy::Drop | Policy::Close => _ = cx.write(line.as_bytes()),
            Policy::PushBack => {
                let is_full = cx.write(line.as_bytes()) == Flow::Full;
                let is_new = !self.holds.contains(&speaker);
                // If this cannot be sent, the next line is another occasion.
                if is_full && is_new && cx.send(speaker, Message::Hold(self.id)).is_ok() {
                    self.holds.insert(speaker);
                }
            }
        }
    }

    fn tell_what_it_missed(&mut self, cx: &mut Context<'_, Message>) {
        if self.missed > 0 {
            cx.write(format!("* you missed {} lines\n", self.missed).as_bytes());
            self.missed = 0;
        }
    }

    fn release_all(&mut self, cx: &mut Context<'_, Message>) {
        self.holds.retain(|&speaker| cx.send(speaker, Message::Release(self.id)).is_err());
        if !self.holds.is_empty() {
            cx.set_timer(AGAIN, SOON);
        }
    }

    fn bye(&mut self, cx: &mut Context<'_, Message>) {
        self.leave("", cx);
        self.tell_what_it_missed(cx);
        cx.write(b"* good-bye\n");
        cx.finish();
    }

    /// Frees the nick, which those whom it holds will notice, and tells the others, unless the mailbox is full: first
    /// what it still had to say.
    fn leave(&mut self, why: &str, cx: &Context<'_, Message>) {
        if let Some(nick) = self.nick.take() {
            self.room.members().remove(&self.id);
            let news = Message::Line(format!("* {nick} has left{why}\n").into(), self.id);
            for message in self.unsent.take().into_iter().chain([news]) {
                // Not with what this loop has still to deliver, which may be full.
                let _ = cx.handle().send_all(message);
            }
        }
    }
}

impl FramedProtocol for Member<'_> {
    type Framing = Lines;
    type Message = Message;

    fn framing(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn on_open(&mut self, cx: &mut Context<'_, Message>) {
        cx.write(GREETING.as_bytes());
    }

    fn on_frame(&mut self, line: &[u8], cx: &mut Context<'_, Message>) {
        let line = String::from_utf8_lossy(line).replace(is_trick, "\u{fffd}");
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match (word, &self.nick) {
            ("/quit", _) => self.bye(cx),
            (_, None) => self.call_it(&line, cx),
            ("/nick", Some(_)) => self.call_it(rest, cx),
            ("/who", Some(_)) => self.tell_who_is_here(cx),
            _ if line.is_empty() => {}
            _ if line.starts_with('/') => _ = cx.write(b"* there are /who, /nick NEW and /quit\n"),
            (_, Some(nick)) => self.say(format!("{nick}: {line}\n"), cx),
        }
    }

    fn on_frame_error(&mut self, _: FrameError, cx: &mut Context<'_, Message>) {
        cx.write(format!("* a line may have {LINE_BYTES} bytes\n").as_bytes());
        self.bye(cx);
    }

    fn on_message(&mut self, message: Message, cx: &mut Context<'_, Message>) {
        match message {
            Message::Line(line, speaker) => self.hear(&line, speaker, cx),
            Message::Hold(id) => {
                self.held_by.insert(id);
                self.go_on(cx);
            }
            Message::Release(id) => {
                self.held_by.remove(&id);
                self.go_on(cx);
            }
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Message>) {
        self.tell_what_it_missed(cx);
        self.release_all(cx);
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Message>) {
        // To be in the room is enough, but nobody is waited for at the door for ever.
        if which == Timeout::Idle && self.nick.is_none() {
            return self.bye(cx);
        }
        // Who has left holds nobody.
        self.held_by.retain(|holder| self.room.members().contains_key(holder));
        if !cx.is_full() {
            self.release_all(cx);
        }
        self.go_on(cx);
    }

    fn on_eof(&mut self, rest: &[u8], cx: &mut Context<'_, Message>) {
        // A last line may lack its end.
        if !rest.is_empty() {
            self.on_frame(rest.strip_suffix(b"\r").unwrap_or(rest), cx);
        }
        self.bye(cx);
    }

    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, Message>) {
        self.leave(&format!(": {reason}"), cx);
    }
}

/// Whether a character does more to a terminal than to appear there: it controls it, ends a line, or changes the direction
/// of what follows (<https://www.unicode.org/reports/tr9/>).
fn is_trick(c: char) -> bool {
    let changes_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || changes_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

fn run(address: &str, policy: Policy) -> Result<(), Box<dyn Error>> {
    // A thousand members are more than many systems allow a process at first.
    echoloop::raise_descriptor_limit()?;
    let mut config = Config::default();
    config.queue_limit_bytes = QUEUE_BYTES_MAX;
    let server = Server::builder().config(config).bind([address])?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    let room = Room::new(policy);
    server.run(|peer| Some(Framed::new(Member::new(&room, peer.id))))?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (address, policy) = match *args {
        [address] | [address, "close"] => (address, Policy::Close),
        [address, "drop"] => (address, Policy::Drop),
        [address, "push-back"] => (address, Policy::PushBack),
        _ => {
            eprintln!("usage: chat ADDR [drop|close|push-back]");
            return ExitCode::from(2);
        }
    };
    match run(address, policy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
