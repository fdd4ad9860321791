//! A memcached: the [text protocol](https://github.com/memcached/memcached/blob/master/doc/protocol.txt), with values in
//! memory.
//!
//! ```sh
//! cargo run --release --example memcached -- 127.0.0.1:11211
//! printf 'set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n' | nc 127.0.0.1 11211
//! ```
//!
//! Values may have 1 MiB, and all items together 64 MiB: beyond that, what was stored first is evicted first, whether it is
//! asked for or not. What has expired is gone for clients at once, and takes room until its turn comes.
//!
//! There is one loop, and the store is a [`RefCell`] that all connections borrow: no lock. The protocol is one of frames,
//! a line or the block of data that a line announces, so [`Framed`] takes no command while a client does not receive its
//! replies.
//!
//! `commands` says what is answered, and `store` keeps the items.

mod commands;
pub(crate) mod store;

use std::{cell::RefCell, env, process::ExitCode};

use echoloop::{
    Config, Context, Error, Server,
    framing::{Frame, FrameError, Framed, FramedProtocol, Framing, Lines},
};

use self::{
    commands::{
        BAD_CHUNK, MAX_VALUE_BYTES, Reply, Storage, TOO_LARGE, execute, is_storage, retrieve, takes_noreply,
    },
    store::Store,
};

const MAX_LINE_BYTES: usize = 64 << 10;
const MAX_STORE_BYTES: usize = 64 << 20;

/// What comes next from a client.
pub(crate) enum Part {
    Line(Lines),
    /// The data of this command, and a line end.
    Data(Storage),
    /// So many bytes that are too many to be stored.
    Excess {
        bytes: usize,
        is_silent: bool,
    },
}

impl Framing for Part {
    fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let length = match self {
            Self::Line(lines) => return lines.next(input),
            Self::Data(command) => command.data_bytes + 2,
            Self::Excess { bytes, .. } => input.len().min(*bytes),
        };
        Ok(input.get(..length).map(|data| Frame::new(data, length)))
    }
}

/// One client.
pub(crate) struct Session<'a> {
    /// Shared by all. There is one loop, and it calls one at a time.
    store: &'a RefCell<Store>,
    next: Part,
}

impl<'a> Session<'a> {
    pub(crate) fn new(store: &'a RefCell<Store>) -> Self {
        Self { store, next: Part::Line(Lines::new(MAX_LINE_BYTES)) }
    }

    fn on_line(&mut self, line: &[u8], cx: &mut Context<'_>) {
        let mut words: Vec<_> = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).collect();
        let is_silent = takes_noreply(&words) && words.pop_if(|word| *word == b"noreply").is_some();
        let reply = match *words {
            [b"quit"] => return cx.finish(),
            [b"get" | b"gets", ..] => retrieve(&words, &mut self.store.borrow_mut(), cx),
            [verb, ..] if is_storage(verb) => match Storage::parse(&words, is_silent, cx.now()) {
                Ok(command) => return self.expect_data(command),
                Err(error) => Err(error),
            },
            _ => execute(&words, &mut self.store.borrow_mut(), cx.now()),
        };
        answer(reply, is_silent, cx);
    }

    fn expect_data(&mut self, command: Storage) {
        if command.data_bytes <= MAX_VALUE_BYTES {
            self.next = Part::Data(command);
        } else {
            // What was there is out of date.
            self.store.borrow_mut().remove(&command.key);
            self.next = Part::Excess { bytes: command.data_bytes + 2, is_silent: command.is_silent };
        }
    }
}

fn answer(reply: Reply, is_silent: bool, cx: &mut Context<'_>) {
    if !is_silent {
        cx.write(reply.as_deref().unwrap_or_else(|error| error).as_bytes());
        cx.write(b"\r\n");
    }
}

impl FramedProtocol for Session<'_> {
    type Framing = Part;
    type Message = ();

    fn framing(&mut self) -> &mut Part {
        &mut self.next
    }

    fn on_frame(&mut self, frame: &[u8], cx: &mut Context<'_>) {
        match &mut self.next {
            Part::Line(_) => return self.on_line(frame, cx),
            Part::Data(command) => {
                let data = frame.strip_suffix(b"\r\n").ok_or(BAD_CHUNK);
                let reply =
                    data.and_then(|data| command.execute(data, &mut self.store.borrow_mut(), cx.now()));
                answer(reply, command.is_silent, cx);
            }
            Part::Excess { bytes, is_silent } => {
                *bytes -= frame.len();
                if *bytes > 0 {
                    return;
                }
                answer(Err(TOO_LARGE), *is_silent, cx);
            }
        }
        self.next = Part::Line(Lines::new(MAX_LINE_BYTES));
    }

    fn on_frame_error(&mut self, _: FrameError, cx: &mut Context<'_>) {
        answer(Err("CLIENT_ERROR line too long"), false, cx);
    }
}

fn run(address: &str) -> Result<(), Error> {
    let mut config = Config::default();
    config.input_limit_bytes = MAX_VALUE_BYTES + 2;
    // Clients keep connections for later use.
    config.idle_timeout = None;
    let server = Server::builder().config(config).bind([address])?;
    println!("listening on {}", server.local_addrs()[0]);
    let store = RefCell::new(Store::new(MAX_STORE_BYTES));
    server.run_local(|_peer| Some(Framed::new(Session::new(&store)))).map(drop)
}

fn main() -> ExitCode {
    let Some(address) = env::args().nth(1) else {
        eprintln!("usage: memcached ADDR");
        return ExitCode::from(2);
    };
    if let Err(error) = run(&address) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
