//! The commands: <https://redis.io/docs/latest/commands/>.

use std::{
    fmt::Display,
    iter,
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use echoloop::Context;

use super::{parse::integer, store::Store};

/// The words behind a command's name.
type Words<'a> = &'a [&'a [u8]];

/// The reply is written, or it is this error: a code, and what is wrong.
type Answer = Result<(), String>;

/// What a command does.
type Run = fn(Words<'_>, &mut Store, &mut Context<'_>) -> Answer;

/// Their names, how many words may be behind them, and what they do; those first that are called most.
const COMMANDS: [(&str, RangeInclusive<usize>, Run); 13] = [
    ("GET", 1..=1, get),
    ("SET", 2..=ANY, set),
    ("INCR", 1..=1, incr),
    ("DEL", 1..=ANY, del),
    ("EXPIRE", 2..=2, expire),
    ("TTL", 1..=1, ttl),
    ("MGET", 1..=ANY, mget),
    ("MSET", 2..=ANY, mset),
    ("PING", 0..=1, ping),
    ("ECHO", 1..=1, |words, _, cx| bulk(cx, Some(words[0]))),
    ("INFO", 0..=ANY, info),
    ("SELECT", 1..=1, select),
    ("QUIT", 0..=ANY, quit),
];

/// What clients ask about the server: a command and its subcommand, how many words may be behind them, and the line that
/// answers it. Of another subcommand, as COMMAND DOCS, it is said that it is unknown: redis-cli then helps with the
/// texts that it brings.
const FIXED: [(&[&str], RangeInclusive<usize>, &str); 8] = [
    (&["CLIENT", "SETINFO"], 2..=2, OK),
    (&["CLIENT", "SETNAME"], 1..=1, OK),
    (&["COMMAND", "COUNT"], 0..=0, ":16"),
    (&["CONFIG", "GET", "SAVE"], 0..=ANY, "*2\r\n$4\r\nsave\r\n$0\r\n"),
    (&["CONFIG", "GET", "APPENDONLY"], 0..=ANY, "*2\r\n$10\r\nappendonly\r\n$2\r\nno"),
    (&["CONFIG", "GET"], 1..=ANY, "*0"),
    (&["CONFIG", "SET"], 2..=ANY, "-ERR Unknown option or number of arguments for CONFIG SET"),
    (&["CONFIG", "RESETSTAT"], 0..=0, OK),
];

const ANY: usize = usize::MAX;

/// Words with which a line of HTTP begins: of a request with a body, and of a header that all requests have. A web page can
/// have its reader's browser send such a request here, with commands in its body (cross-protocol scripting). As Redis does,
/// this server closes the connection before it comes to those.
const HTTP: [&str; 2] = ["POST", "HOST:"];

const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The values of one reply are so many bytes at most: they are all queued at once.
const REPLY_BYTES_MAX: usize = 8 << 20;

const OK: &str = "+OK";
const SYNTAX_ERROR: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Carries out the command of these words, if there are any.
pub(crate) fn execute(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) {
    let Some((name, arguments)) = words.split_first() else { return };
    if HTTP.iter().any(|word| is(name, word)) {
        warn_of_http(cx);
        return cx.abort();
    }
    store.sweep(cx.now());
    let answer = match COMMANDS.iter().find(|(known, ..)| is(name, known)) {
        Some((_, arity, run)) if arity.contains(&arguments.len()) => run(arguments, store, cx),
        Some((known, ..)) => Err(wrong_number_for(known)),
        None => fixed(words).and_then(|answer| line(cx, answer)),
    };
    answer.or_else(|error| line(cx, &format!("-{error}"))).expect("a line can always be written");
}

/// Says on stderr, once a minute at most, that a client speaks HTTP.
fn warn_of_http(cx: &Context<'_>) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| cx.now().saturating_duration_since(last) >= WARNING_INTERVAL) {
        *last = Some(cx.now());
        let client = cx.peer_addr().map_or_else(|_| cx.id().to_string(), |address| address.to_string());
        eprintln!("{client}: closed, as it sends HTTP: possibly a web page's attack on this server");
    }
}

/// The answer to what is asked about the server.
fn fixed(words: Words<'_>) -> Result<&'static str, String> {
    let begins =
        |known: &[&str]| known.len() <= words.len() && words.iter().zip(known).all(|(word, k)| is(word, k));
    if let Some((known, arity, answer)) = FIXED.iter().find(|(known, ..)| begins(known)) {
        let is_right = arity.contains(&(words.len() - known.len()));
        return if is_right { Ok(answer) } else { Err(wrong_number_for(&known.join("|"))) };
    }
    let family = FIXED.iter().map(|(known, ..)| known[0]).find(|known| is(words[0], known));
    match (family, words) {
        (Some("COMMAND"), [_]) => Ok("*0"),
        (Some(name), [_]) => Err(wrong_number_for(name)),
        (Some(_), [_, subcommand, ..]) => Err(format!("ERR unknown subcommand '{}'", quoted(subcommand))),
        (None, _) | (_, []) => Err(format!("ERR unknown command '{}'", quoted(words[0]))),
    }
}

fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

/// What came, for an error.
fn quoted(word: &[u8]) -> impl Display {
    word[..word.len().min(128)].escape_ascii()
}

fn get(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    bulk(cx, store.get(words[0], cx.now()).map(|entry| &*entry.value))
}

/// `SET key value [EX seconds | PX milliseconds] [NX | XX]`. Other options of Redis are syntax errors.
fn set(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (mut delay, mut must_exist) = (None, None);
    let mut options = words[2..].iter();
    while let Some(option) = options.next() {
        match (&*option.to_ascii_uppercase(), delay, must_exist) {
            (b"EX", None, _) => delay = Some((options.next().ok_or(SYNTAX_ERROR)?, 1000)),
            (b"PX", None, _) => delay = Some((options.next().ok_or(SYNTAX_ERROR)?, 1)),
            (b"NX", _, None | Some(false)) => must_exist = Some(false),
            (b"XX", _, None | Some(true)) => must_exist = Some(true),
            _ => return Err(SYNTAX_ERROR.into()),
        }
    }
    // Only when the syntax is right: that is the error which Redis tells first.
    let expires = match delay {
        Some((number, unit_ms)) => Some(expiry(number, unit_ms, 1, "set", cx.now())?),
        None => None,
    };
    if must_exist.is_some_and(|must| must != store.get(words[0], cx.now()).is_some()) {
        return bulk(cx, None);
    }
    store.set(iter::once((words[0], words[1])), expires, cx.now())?;
    line(cx, OK)
}

fn incr(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (number, expires) = match store.get(words[0], cx.now()) {
        Some(entry) => (integer(&entry.value).ok_or(NOT_AN_INTEGER)?, entry.expires),
        None => (0, None),
    };
    let next = number.checked_add(1).ok_or("ERR increment or decrement would overflow")?;
    store.set(iter::once((words[0], next.to_string().as_bytes())), expires, cx.now())?;
    line(cx, &format!(":{next}"))
}

fn del(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let removed = words.iter().filter(|key| store.remove(key, cx.now())).count();
    line(cx, &format!(":{removed}"))
}

/// Without the options of Redis 7. Seconds that are none or less delete the key.
fn expire(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (key, now) = (words[0], cx.now());
    let at = expiry(words[1], 1000, i64::MIN, "expire", now)?;
    let was_there = if at == now { store.remove(key, now) } else { store.expire(key, at, now) };
    line(cx, if was_there { ":1" } else { ":0" })
}

/// When so many units of so many milliseconds are over; at once if they are none or negative. As in Redis the number has
/// a minimum, and the time, in milliseconds since 1970, must fit into 64 bits.
fn expiry(number: &[u8], unit_ms: i64, min: i64, command: &str, now: Instant) -> Result<Instant, String> {
    let number = integer(number).ok_or(NOT_AN_INTEGER)?;
    let delay_ms = Some(number).filter(|&number| number >= min).and_then(|n| n.checked_mul(unit_ms));
    let delay_ms = delay_ms.filter(|ms| ms.checked_add(unix_ms()).is_some());
    let delay = delay_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    let at = delay.and_then(|delay| now.checked_add(delay));
    at.ok_or_else(|| format!("ERR invalid expire time in '{command}' command"))
}

#[expect(clippy::disallowed_methods, reason = "the loop's clock does not know the date")]
fn unix_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// In seconds, rounded; -1 if the key does not expire, -2 if it is not there.
fn ttl(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    match store.get(words[0], cx.now()).map(|entry| entry.expires) {
        None => line(cx, ":-2"),
        Some(None) => line(cx, ":-1"),
        Some(Some(at)) => {
            let left = at - cx.now() + Duration::from_millis(500);
            line(cx, &format!(":{}", left.as_secs()))
        }
    }
}

fn mget(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let now = cx.now();
    let mut values = words.iter().map(|key| store.get(key, now).map(|entry| &*entry.value));
    if values.clone().flatten().map(<[u8]>::len).sum::<usize>() > REPLY_BYTES_MAX {
        return Err(format!("ERR the values have more than {REPLY_BYTES_MAX} bytes together"));
    }
    line(cx, &format!("*{}", words.len()))?;
    values.try_for_each(|value| bulk(cx, value))
}

fn mset(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (pairs, []) = words.as_chunks::<2>() else { return Err(wrong_number_for("mset")) };
    store.set(pairs.iter().map(|&[key, value]| (key, value)), None, cx.now())?;
    line(cx, OK)
}

fn ping(words: Words<'_>, _: &mut Store, cx: &mut Context<'_>) -> Answer {
    if words.is_empty() { line(cx, "+PONG") } else { bulk(cx, Some(words[0])) }
}

fn info(_: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (used, limit) = store.memory();
    bulk(cx, Some(format!("# Memory\r\nused_memory:{used}\r\nmaxmemory:{limit}\r\n").as_bytes()))
}

/// There is one database.
fn select(words: Words<'_>, _: &mut Store, cx: &mut Context<'_>) -> Answer {
    match integer(words[0]).ok_or(NOT_AN_INTEGER)? {
        0 => line(cx, OK),
        _ => Err("ERR DB index is out of range".into()),
    }
}

fn quit(_: Words<'_>, _: &mut Store, cx: &mut Context<'_>) -> Answer {
    line(cx, OK)?;
    cx.finish();
    Ok(())
}

fn line(cx: &mut Context<'_>, line: &str) -> Answer {
    cx.write(line.as_bytes());
    cx.write(b"\r\n");
    Ok(())
}

/// A value, if there is one.
fn bulk(cx: &mut Context<'_>, value: Option<&[u8]>) -> Answer {
    let Some(bytes) = value else { return line(cx, "$-1") };
    line(cx, &format!("${}", bytes.len()))?;
    cx.write(bytes);
    line(cx, "")
}

fn wrong_number_for(name: &str) -> String {
    format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase())
}
