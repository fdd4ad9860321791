//! A memcached on tokio: the text protocol, with values in memory.
//!
//! ```sh
//! cargo run --release --manifest-path peers/Cargo.toml --example memcached -- 127.0.0.1:11211
//! printf 'set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n' | nc 127.0.0.1 11211
//! ```

use std::{
    collections::HashMap,
    env, io,
    process::ExitCode,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time,
};

const MAX_KEY_BYTES: usize = 250;
const MAX_VALUE_BYTES: usize = 1 << 20;
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Longer times are dates.
const MAX_RELATIVE_SECONDS: i64 = 30 * 24 * 60 * 60;
/// How often items that have expired are removed, though nobody asks for them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How long a client may take to end after `quit`.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

const ERROR: &str = "ERROR";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_TIME: &str = "CLIENT_ERROR invalid exptime argument";
const BAD_DELETE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk";
const NOT_A_NUMBER: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

/// What is sent back if the client wants a reply; `Err` if the command could not be carried out.
type Reply = Result<String, &'static str>;

#[derive(Debug)]
struct Item {
    flags: u32,
    value: Bytes,
    /// Changes whenever the value does.
    version: u64,
    stored: SystemTime,
    expires: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct Store {
    items: HashMap<Vec<u8>, Item>,
    last_version: u64,
    /// From this time on, what was stored before it is gone.
    flush: Option<SystemTime>,
}

impl Store {
    fn is_live(item: &Item, flush: Option<SystemTime>, now: SystemTime) -> bool {
        let is_flushed = flush.is_some_and(|at| at <= now && item.stored <= at);
        !is_flushed && item.expires.is_none_or(|at| at > now)
    }

    fn get(&mut self, key: &[u8]) -> Option<&mut Item> {
        let (flush, now) = (self.flush, SystemTime::now());
        self.items.get_mut(key).filter(|item| Self::is_live(item, flush, now))
    }

    fn put(&mut self, key: &[u8], flags: u32, expires: Option<SystemTime>, value: Bytes) {
        self.last_version += 1;
        let item = Item { flags, value, version: self.last_version, stored: SystemTime::now(), expires };
        self.items.insert(key.to_vec(), item);
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let was_live = self.get(key).is_some();
        self.items.remove(key);
        was_live
    }

    fn sweep(&mut self) {
        let (flush, now) = (self.flush, SystemTime::now());
        self.items.retain(|_, item| Self::is_live(item, flush, now));
    }

    fn store(&mut self, command: &Storage<'_>, data: Vec<u8>) -> &'static str {
        let Storage { verb, key, flags, expires, .. } = *command;
        let (mut flags, mut expires, mut value) = (flags, expires, data);
        match (verb, self.get(key)) {
            (Verb::Set, _) | (Verb::Add, None) | (Verb::Replace, Some(_)) => {}
            (Verb::Cas(version), Some(item)) if item.version == version => {}
            (Verb::Cas(_), Some(_)) => return "EXISTS",
            (Verb::Cas(_), None) => return "NOT_FOUND",
            (Verb::Append | Verb::Prepend, Some(item)) => {
                let (old, new) = (&item.value[..], &value[..]);
                let parts = if verb == Verb::Append { [old, new] } else { [new, old] };
                (flags, expires, value) = (item.flags, item.expires, parts.concat());
                if value.len() > MAX_VALUE_BYTES {
                    return TOO_LARGE;
                }
            }
            (Verb::Add, Some(_)) | (Verb::Replace | Verb::Append | Verb::Prepend, None) => {
                return "NOT_STORED";
            }
        }
        self.put(key, flags, expires, value.into());
        "STORED"
    }

    fn count(&mut self, key: &[u8], change: impl FnOnce(u64) -> u64) -> Reply {
        let Some(item) = self.get(key) else { return Ok("NOT_FOUND".to_owned()) };
        let digits = item.value.trim_ascii_end();
        let count = change(number(digits).ok_or(NOT_A_NUMBER)?).to_string();
        // A number that has become shorter is padded, as memcached does it.
        let padded = format!("{count:<width$}", width = item.value.len());
        let (flags, expires) = (item.flags, item.expires);
        self.put(key, flags, expires, padded.into());
        Ok(count)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas(u64),
}

/// A command that a block of data follows.
#[derive(Debug)]
struct Storage<'a> {
    verb: Verb,
    key: &'a [u8],
    flags: u32,
    expires: Option<SystemTime>,
    data_bytes: usize,
}

impl<'a> Storage<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Self, &'static str> {
        let (verb, &[key, flags, seconds, data_bytes, ref version @ ..]) = (words[0], &words[1..]) else {
            return Err(ERROR);
        };
        let verb = match (verb, version) {
            (b"set", []) => Verb::Set,
            (b"add", []) => Verb::Add,
            (b"replace", []) => Verb::Replace,
            (b"append", []) => Verb::Append,
            (b"prepend", []) => Verb::Prepend,
            (b"cas", [version]) => Verb::Cas(number(version).ok_or(BAD_FORMAT)?),
            _ => return Err(ERROR),
        };
        Ok(Self {
            verb,
            key: valid_key(key)?,
            flags: number(flags).ok_or(BAD_FORMAT)?,
            expires: expiry(number(seconds).ok_or(BAD_FORMAT)?),
            data_bytes: number::<i32>(data_bytes)
                .and_then(|bytes| usize::try_from(bytes).ok())
                .ok_or(BAD_FORMAT)?,
        })
    }
}

fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn valid_key(key: &[u8]) -> Result<&[u8], &'static str> {
    if key.len() <= MAX_KEY_BYTES { Ok(key) } else { Err(BAD_FORMAT) }
}

/// Whether a block of data follows the command.
fn is_storage(verb: &[u8]) -> bool {
    matches!(verb, b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas")
}

/// Whether the client may say that it wants no reply.
fn takes_noreply(words: &[&[u8]]) -> bool {
    let [verb, _, ..] = *words else { return false };
    is_storage(verb) || matches!(verb, b"delete" | b"incr" | b"decr" | b"touch" | b"flush_all" | b"verbosity")
}

/// When something expires in so many seconds, or on this date; a negative time has passed.
fn expiry(seconds: i64) -> Option<SystemTime> {
    let duration = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0 => None,
        ..0 => Some(UNIX_EPOCH),
        1..=MAX_RELATIVE_SECONDS => Some(SystemTime::now() + duration),
        // A date beyond the clock's is never.
        _ => UNIX_EPOCH.checked_add(duration),
    }
}

struct Session {
    reader: BufReader<OwnedReadHalf>,
    writer: BufWriter<OwnedWriteHalf>,
    store: Arc<Mutex<Store>>,
}

impl Session {
    /// Serves until the client ends.
    async fn run(mut self) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            // Replies to pipelined commands are sent together.
            if !self.reader.buffer().contains(&b'\n') {
                self.writer.flush().await?;
            }
            line.clear();
            (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
            let Some(command) = line.strip_suffix(b"\n") else { break };
            let command = command.strip_suffix(b"\r").unwrap_or(command);
            let mut words: Vec<_> =
                command.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).collect();
            let is_silent = takes_noreply(&words) && words.pop_if(|word| *word == b"noreply").is_some();
            let reply = match *words {
                [b"quit"] => break,
                [b"get" | b"gets", ..] => self.retrieve(&words).await?,
                [verb, ..] if is_storage(verb) => self.store(&words).await?,
                _ => self.execute(&words),
            };
            if !is_silent {
                self.writer.write_all(reply.as_deref().unwrap_or_else(|error| error).as_bytes()).await?;
                self.writer.write_all(b"\r\n").await?;
            }
        }
        // If the socket were closed while the client still sends, a reset would destroy the replies in flight.
        self.writer.shutdown().await?;
        time::timeout(LINGER_TIMEOUT, tokio::io::copy(&mut self.reader, &mut tokio::io::sink())).await??;
        Ok(())
    }

    fn locked<T>(&self, access: impl FnOnce(&mut Store) -> T) -> T {
        access(&mut self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn retrieve(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        if words.len() == 1 {
            return Ok(Err(ERROR));
        }
        for key in &words[1..] {
            if let Err(error) = valid_key(key) {
                return Ok(Err(error));
            }
            let found = self
                .locked(|store| store.get(key).map(|item| (item.flags, item.version, item.value.clone())));
            let Some((flags, version, value)) = found else { continue };
            self.writer.write_all(b"VALUE ").await?;
            self.writer.write_all(key).await?;
            let head = match words[0] {
                b"gets" => format!(" {flags} {} {version}\r\n", value.len()),
                _ => format!(" {flags} {}\r\n", value.len()),
            };
            self.writer.write_all(head.as_bytes()).await?;
            self.writer.write_all(&value).await?;
            self.writer.write_all(b"\r\n").await?;
        }
        Ok(Ok("END".to_owned()))
    }

    async fn store(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        let command = match Storage::parse(words) {
            Ok(command) => command,
            Err(error) => return Ok(Err(error)),
        };
        let data_bytes = command.data_bytes + 2;
        if self.reader.buffer().len() < data_bytes {
            self.writer.flush().await?;
        }
        if command.data_bytes > MAX_VALUE_BYTES {
            // What was there is out of date.
            self.locked(|store| store.remove(command.key));
            let mut data = (&mut self.reader).take(data_bytes as u64);
            tokio::io::copy(&mut data, &mut tokio::io::sink()).await?;
            return Ok(Err(TOO_LARGE));
        }
        let mut data = vec![0; data_bytes];
        self.reader.read_exact(&mut data).await?;
        if !data.ends_with(b"\r\n") {
            return Ok(Err(BAD_CHUNK));
        }
        data.truncate(command.data_bytes);
        Ok(Ok(self.locked(|store| store.store(&command, data)).to_owned()))
    }

    /// Carries out a command that is a line.
    fn execute(&self, words: &[&[u8]]) -> Reply {
        Ok(match *words {
            [b"delete", key] | [b"delete", key, b"0"] => {
                let key = valid_key(key)?;
                if self.locked(|store| store.remove(key)) { "DELETED" } else { "NOT_FOUND" }.to_owned()
            }
            [b"delete", _, _] => return Err(BAD_DELETE),
            [b"incr", key, delta] => {
                let (key, delta): (_, u64) = (valid_key(key)?, number(delta).ok_or(BAD_DELTA)?);
                self.locked(|store| store.count(key, |count| count.wrapping_add(delta)))?
            }
            [b"decr", key, delta] => {
                let (key, delta): (_, u64) = (valid_key(key)?, number(delta).ok_or(BAD_DELTA)?);
                self.locked(|store| store.count(key, |count| count.saturating_sub(delta)))?
            }
            [b"touch", key, seconds] => {
                let (key, expires) = (valid_key(key)?, expiry(number(seconds).ok_or(BAD_TIME)?));
                let touched = self.locked(|store| store.get(key).map(|item| item.expires = expires));
                if touched.is_some() { "TOUCHED" } else { "NOT_FOUND" }.to_owned()
            }
            [b"flush_all"] => self.flush_all(SystemTime::now()),
            [b"flush_all", seconds] => {
                let at = expiry(number(seconds).ok_or(BAD_TIME)?);
                self.flush_all(at.unwrap_or_else(SystemTime::now))
            }
            [b"version"] => concat!("VERSION ", env!("CARGO_PKG_VERSION")).to_owned(),
            // There are no levels.
            [b"verbosity", level] => number::<u32>(level).map(|_| "OK".to_owned()).ok_or(BAD_FORMAT)?,
            _ => return Err(ERROR),
        })
    }

    fn flush_all(&self, at: SystemTime) -> String {
        self.locked(|store| store.flush = Some(at));
        "OK".to_owned()
    }
}

async fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let store = Arc::new(Mutex::new(Store::default()));
    let swept = Arc::clone(&store);
    tokio::spawn(async move {
        loop {
            time::sleep(SWEEP_INTERVAL).await;
            swept.lock().unwrap_or_else(PoisonError::into_inner).sweep();
        }
    });
    loop {
        match listener.accept().await {
            // How a client ends concerns no other.
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&store)))),
            Err(error) => {
                eprintln!("accept: {error}");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, store: Arc<Mutex<Store>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Session { reader: BufReader::new(reader), writer: BufWriter::new(writer), store }.run().await
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address] = args.as_slice() else {
        eprintln!("usage: memcached ADDR");
        return ExitCode::from(2);
    };
    match run(address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
