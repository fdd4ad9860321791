//! The commands: <https://redis.io/docs/latest/commands/>.

use std::{iter, ops::RangeInclusive, time::Duration};

use echoloop::Context;

use super::{parse::integer, store::Store};

/// The words behind a command's name.
type Words<'a> = &'a [&'a [u8]];

/// The reply is written, or it is this error: a code, and what is wrong.
type Answer = Result<(), String>;

/// What a command does.
type Run = fn(Words<'_>, &mut Store, &mut Context<'_>) -> Answer;

/// Their names, how many words may be behind them, and what they do; those first that are called most.
const COMMANDS: [(&str, RangeInclusive<usize>, Run); 12] = [
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
    ("QUIT", 0..=0, quit),
];

/// What clients ask about the server, by its first words, and the line that answers it.
const FIXED: [(&[&str], &str); 11] = [
    (&["CLIENT", "SETINFO"], OK),
    (&["CLIENT", "SETNAME"], OK),
    (&["COMMAND", "COUNT"], ":16"),
    // redis-cli then helps with the texts that it brings.
    (&["COMMAND", "DOCS"], "-ERR unknown subcommand"),
    (&["COMMAND"], "*0"),
    (&["CONFIG", "GET", "SAVE"], "*2\r\n$4\r\nsave\r\n$0\r\n"),
    (&["CONFIG", "GET", "APPENDONLY"], "*2\r\n$10\r\nappendonly\r\n$2\r\nno"),
    (&["CONFIG", "GET"], "*0"),
    (&["SELECT", "0"], OK),
    (&["SELECT"], "-ERR DB index is out of range"),
    (&["CLIENT"], "-ERR unknown subcommand"),
];

const ANY: usize = usize::MAX;

/// The values of one reply are so many bytes at most: they are all queued at once.
const REPLY_BYTES_MAX: usize = 8 << 20;

const OK: &str = "+OK";
const SYNTAX_ERROR: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Carries out the command of these words, if there are any.
pub(crate) fn execute(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) {
    let Some((name, arguments)) = words.split_first() else { return };
    store.sweep(cx.now());
    let is = |known: &str, word: &[u8]| word.eq_ignore_ascii_case(known.as_bytes());
    let begins =
        |known: &[&str]| known.len() <= words.len() && known.iter().zip(words).all(|(k, w)| is(k, w));
    let answer = if let Some((name, arity, run)) = COMMANDS.iter().find(|(known, ..)| is(known, name)) {
        if arity.contains(&arguments.len()) { run(arguments, store, cx) } else { Err(wrong_number_for(name)) }
    } else if let Some((_, answer)) = FIXED.iter().find(|(known, _)| begins(known)) {
        line(cx, answer)
    } else {
        Err(format!("ERR unknown command '{}'", name[..name.len().min(128)].escape_ascii()))
    };
    answer.or_else(|error| line(cx, &format!("-{error}"))).expect("a line can always be written");
}

fn get(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    bulk(cx, store.get(words[0], cx.now()).map(|entry| &*entry.value))
}

/// `SET key value [EX seconds | PX milliseconds] [NX | XX]`. Other options of Redis are syntax errors.
fn set(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (mut expires, mut must_exist) = (None, None);
    let mut options = words[2..].iter();
    while let Some(option) = options.next() {
        match (&*option.to_ascii_uppercase(), expires, must_exist) {
            (unit @ (b"EX" | b"PX"), None, _) => {
                let number = integer(options.next().ok_or(SYNTAX_ERROR)?).ok_or(NOT_AN_INTEGER)?;
                let unit = if unit == b"EX" { Duration::from_secs } else { Duration::from_millis };
                let delay = u64::try_from(number).ok().filter(|&number| number > 0).map(unit);
                let at = delay.and_then(|delay| cx.now().checked_add(delay));
                expires = Some(at.ok_or("ERR invalid expire time in 'set' command")?);
            }
            (b"NX", _, None) => must_exist = Some(false),
            (b"XX", _, None) => must_exist = Some(true),
            _ => return Err(SYNTAX_ERROR.into()),
        }
    }
    if must_exist.is_some_and(|must| must != store.get(words[0], cx.now()).is_some()) {
        return bulk(cx, None);
    }
    store.set(iter::once((words[0], words[1])), expires)?;
    line(cx, OK)
}

fn incr(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (number, expires) = match store.get(words[0], cx.now()) {
        Some(entry) => (integer(&entry.value).ok_or(NOT_AN_INTEGER)?, entry.expires),
        None => (0, None),
    };
    let next = number.checked_add(1).ok_or("ERR increment or decrement would overflow")?;
    store.set(iter::once((words[0], next.to_string().as_bytes())), expires)?;
    line(cx, &format!(":{next}"))
}

fn del(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let removed = words.iter().filter(|key| store.remove(key, cx.now())).count();
    line(cx, &format!(":{removed}"))
}

/// Without the options of Redis 7. Seconds that are none or less delete the key.
fn expire(words: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (key, now) = (words[0], cx.now());
    let seconds = u64::try_from(integer(words[1]).ok_or(NOT_AN_INTEGER)?).unwrap_or(0);
    let at = now.checked_add(Duration::from_secs(seconds));
    let at = at.ok_or("ERR invalid expire time in 'expire' command")?;
    let was_there = if seconds == 0 { store.remove(key, now) } else { store.expire(key, at, now) };
    line(cx, if was_there { ":1" } else { ":0" })
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
    store.set(pairs.iter().map(|&[key, value]| (key, value)), None)?;
    line(cx, OK)
}

fn ping(words: Words<'_>, _: &mut Store, cx: &mut Context<'_>) -> Answer {
    if words.is_empty() { line(cx, "+PONG") } else { bulk(cx, Some(words[0])) }
}

fn info(_: Words<'_>, store: &mut Store, cx: &mut Context<'_>) -> Answer {
    let (used, limit) = store.memory();
    bulk(cx, Some(format!("# Memory\r\nused_memory:{used}\r\nmaxmemory:{limit}\r\n").as_bytes()))
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
