//! A small key-value server in memory that speaks RESP2: `redis-cli` and `redis-benchmark` work with it.
//!
//! ```text
//! cargo run --release --example resp -- ADDR [MEBIBYTES]
//! cargo run --release --example resp -- 127.0.0.1:6380
//! redis-cli -p 6380
//! ```
//!
//! It knows PING, ECHO, SET (with EX, PX, NX and XX), GET, DEL, INCR, EXPIRE, TTL, MGET and MSET, and as much of CLIENT,
//! COMMAND, CONFIG, INFO, SELECT and QUIT as clients ask for. Everything is bounded: what is stored takes `MEBIBYTES`
//! at most, 256 if they are not given, and beyond that writes are refused. A connection has one command in memory that
//! has not come whole, and nothing is done for a peer that does not take the replies.
//!
//! Commands that are typed into `nc` are understood too, but without quotes. A connection on which `POST` or `Host:` comes as a
//! command is closed: that is a web browser, which a page may have told to attack this server.
//!
//! `parse` finds commands in the input, `commands` carries them out on the `store`.

mod commands;
mod parse;
pub(crate) mod store;

use std::{
    env,
    error::Error,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use echoloop::{Config, Context, Flow, Input, Protocol, Server};

use self::{parse::Stop, store::Store};

/// One client.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// Shared by all. There is one loop, so nobody ever waits for the lock.
    store: &'a Mutex<Store>,
    /// The next command is not whole before there is so much input.
    needed: usize,
}

impl<'a> Session<'a> {
    pub(crate) const fn new(store: &'a Mutex<Store>) -> Self {
        Self { store, needed: 0 }
    }
}

impl Protocol for Session<'_> {
    type Message = ();

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        if input.bytes().len() < self.needed {
            return;
        }
        self.needed = 0;
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words = Vec::new();
        loop {
            match parse::command(input.bytes(), &mut words) {
                Ok(length) => input.consume(length),
                Err(Stop::Incomplete { needed }) => {
                    self.needed = needed;
                    return;
                }
                Err(Stop::Invalid(why)) => {
                    cx.write(format!("-ERR Protocol error: {why}\r\n").as_bytes());
                    return cx.finish();
                }
            }
            commands::execute(&words, &mut store, cx);
            match cx.flow() {
                Flow::Open => {}
                Flow::Full => return cx.pause_reading(),
                Flow::Closed | _ => return,
            }
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        // The commands that were not consumed come again.
        cx.resume_reading();
    }
}

fn run(address: &str, mebibytes: &str) -> Result<(), Box<dyn Error>> {
    let limit = mebibytes.parse::<usize>().ok().and_then(|mebibytes| mebibytes.checked_mul(1 << 20));
    let store = Mutex::new(Store::new(limit.ok_or_else(|| format!("'{mebibytes}' is no size in MiB"))?));
    let mut config = Config::default();
    config.input_limit_bytes = parse::INPUT_BYTES_MAX;
    // Clients keep connections for later use. TCP's keep-alive finds those that have vanished.
    config.idle_timeout = None;
    let server = Server::builder().config(config).bind([address])?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    server.run(|_peer| Some(Session::new(&store)))?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let result = match args.as_slice() {
        [address] => run(address, "256"),
        [address, mebibytes] => run(address, mebibytes),
        _ => {
            eprintln!("usage: resp ADDR [MEBIBYTES]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
