//! The commands, and what memcached 1.6 answers to them.

use std::{
    borrow::Cow,
    str::FromStr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use echoloop::Context;

use super::store::Store;

const MAX_KEY_BYTES: usize = 250;
pub(crate) const MAX_VALUE_BYTES: usize = 1 << 20;
/// A reply to a `get` of keys that have more is cut off.
const MAX_REPLY_BYTES: usize = 16 << 20;
/// Longer times are dates.
const MAX_RELATIVE_SECONDS: i64 = 30 * 24 * 60 * 60;

const ERROR: &str = "ERROR";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_TIME: &str = "CLIENT_ERROR invalid exptime argument";
const BAD_DELETE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
pub(crate) const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk";
const NOT_A_NUMBER: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";
pub(crate) const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
const TOO_MANY: &str = "SERVER_ERROR out of memory writing get response";

/// What is sent back if the client wants a reply; `Err` if the command could not be carried out.
pub(crate) type Reply = Result<Cow<'static, str>, &'static str>;

#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas(u64),
}

/// A command that a block of data follows.
pub(crate) struct Storage {
    verb: Verb,
    pub(crate) key: Vec<u8>,
    flags: u32,
    expires: Option<Instant>,
    pub(crate) data_bytes: usize,
    pub(crate) is_silent: bool,
}

impl Storage {
    pub(crate) fn parse(words: &[&[u8]], is_silent: bool, now: Instant) -> Result<Self, &'static str> {
        let &[verb, key, flags, seconds, data_bytes, ref version @ ..] = words else { return Err(ERROR) };
        let verb = match (verb, version) {
            (b"set", []) => Verb::Set,
            (b"add", []) => Verb::Add,
            (b"replace", []) => Verb::Replace,
            (b"append", []) => Verb::Append,
            (b"prepend", []) => Verb::Prepend,
            (b"cas", [version]) => Verb::Cas(number(version).ok_or(BAD_FORMAT)?),
            _ => return Err(ERROR),
        };
        let data_bytes = number::<i32>(data_bytes).and_then(|bytes| usize::try_from(bytes).ok());
        Ok(Self {
            verb,
            key: valid_key(key)?.to_vec(),
            flags: number(flags).ok_or(BAD_FORMAT)?,
            expires: expiry(number(seconds).ok_or(BAD_FORMAT)?, now),
            data_bytes: data_bytes.ok_or(BAD_FORMAT)?,
            is_silent,
        })
    }

    /// Carries it out, with this data.
    pub(crate) fn execute(&self, data: &[u8], store: &mut Store, now: Instant) -> Reply {
        let Self { verb, ref key, flags, expires, .. } = *self;
        match (verb, store.get(key, now)) {
            (Verb::Set, _) | (Verb::Add, None) | (Verb::Replace, Some(_)) => {
                store.put(key, flags, expires, data);
            }
            (Verb::Cas(version), Some(item)) if item.version == version => {
                store.put(key, flags, expires, data)
            }
            (Verb::Cas(_), Some(_)) => return Ok("EXISTS".into()),
            (Verb::Cas(_), None) => return Ok("NOT_FOUND".into()),
            (Verb::Append | Verb::Prepend, Some(item)) => {
                let parts = if verb == Verb::Append { [&item.value, data] } else { [data, &item.value] };
                let (value, flags, expires) = (parts.concat(), item.flags, item.expires);
                if value.len() > MAX_VALUE_BYTES {
                    return Err(TOO_LARGE);
                }
                store.put(key, flags, expires, &value);
            }
            (Verb::Add, Some(_)) | (Verb::Replace | Verb::Append | Verb::Prepend, None) => {
                return Ok("NOT_STORED".into());
            }
        }
        Ok("STORED".into())
    }
}

fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn valid_key(key: &[u8]) -> Result<&[u8], &'static str> {
    if key.len() <= MAX_KEY_BYTES { Ok(key) } else { Err(BAD_FORMAT) }
}

/// Whether a block of data follows the command.
pub(crate) fn is_storage(verb: &[u8]) -> bool {
    matches!(verb, b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas")
}

/// Whether the client may say that it wants no reply.
pub(crate) fn takes_noreply(words: &[&[u8]]) -> bool {
    let [verb, _, ..] = *words else { return false };
    is_storage(verb) || matches!(verb, b"delete" | b"incr" | b"decr" | b"touch" | b"flush_all" | b"verbosity")
}

/// When something expires in so many seconds, or on this date; at once if that has passed.
#[expect(clippy::disallowed_methods, reason = "the loop's clock does not know the date")]
fn expiry(seconds: i64, now: Instant) -> Option<Instant> {
    let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let delay = match seconds {
        0 => return None,
        ..=MAX_RELATIVE_SECONDS => duration,
        _ => duration.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
    };
    // Beyond the range of the clock is never.
    now.checked_add(delay)
}

/// Carries out `get` and `gets`.
pub(crate) fn retrieve(words: &[&[u8]], store: &mut Store, cx: &mut Context<'_>) -> Reply {
    let (verb, keys @ [_, ..]) = (words[0], &words[1..]) else { return Err(ERROR) };
    for key in keys {
        let Some(item) = store.get(valid_key(key)?, cx.now()) else { continue };
        if cx.queued() > MAX_REPLY_BYTES {
            return Err(TOO_MANY);
        }
        cx.write(b"VALUE ");
        cx.write(key);
        write!(cx, " {} {}", item.flags, item.value.len());
        if verb == b"gets" {
            write!(cx, " {}", item.version);
        }
        cx.write(b"\r\n");
        cx.write(&item.value);
        cx.write(b"\r\n");
    }
    Ok("END".into())
}

/// Carries out a command that is a line.
pub(crate) fn execute(words: &[&[u8]], store: &mut Store, now: Instant) -> Reply {
    match *words {
        [b"delete", key] | [b"delete", key, b"0"] => delete(valid_key(key)?, store, now),
        [b"delete", _, _] => Err(BAD_DELETE),
        [verb @ (b"incr" | b"decr"), key, delta] => {
            let change = if verb == b"incr" { u64::wrapping_add } else { u64::saturating_sub };
            count(valid_key(key)?, change, number(delta).ok_or(BAD_DELTA)?, store, now)
        }
        [b"touch", key, seconds] => {
            let (key, seconds) = (valid_key(key)?, number(seconds).ok_or(BAD_TIME)?);
            touch(key, expiry(seconds, now), store, now)
        }
        [b"flush_all"] => flush_all(now, store),
        [b"flush_all", seconds] => {
            flush_all(expiry(number(seconds).ok_or(BAD_TIME)?, now).unwrap_or(now), store)
        }
        [b"version"] => Ok(concat!("VERSION ", env!("CARGO_PKG_VERSION")).into()),
        // There are no levels.
        [b"verbosity", level] => number::<u32>(level).map(|_| "OK".into()).ok_or(BAD_FORMAT),
        _ => Err(ERROR),
    }
}

fn delete(key: &[u8], store: &mut Store, now: Instant) -> Reply {
    let was_live = store.get(key, now).is_some();
    store.remove(key);
    Ok(if was_live { "DELETED" } else { "NOT_FOUND" }.into())
}

fn count(key: &[u8], change: fn(u64, u64) -> u64, delta: u64, store: &mut Store, now: Instant) -> Reply {
    let Some(item) = store.get(key, now) else { return Ok("NOT_FOUND".into()) };
    let count = change(number(item.value.trim_ascii_end()).ok_or(NOT_A_NUMBER)?, delta).to_string();
    // A number that has become shorter is padded, as memcached does it.
    let padded = format!("{count:<width$}", width = item.value.len());
    let (flags, expires) = (item.flags, item.expires);
    store.put(key, flags, expires, padded.as_bytes());
    Ok(count.into())
}

fn touch(key: &[u8], expires: Option<Instant>, store: &mut Store, now: Instant) -> Reply {
    let touched = store.get(key, now).map(|item| item.expires = expires);
    Ok(touched.map_or("NOT_FOUND", |()| "TOUCHED").into())
}

fn flush_all(at: Instant, store: &mut Store) -> Reply {
    store.flush(at);
    Ok("OK".into())
}
