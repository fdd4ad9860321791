//! An HTTP/1.1 server (RFC 9112) with the parser [httparse](https://docs.rs/httparse), of four parts: `request` is the
//! head of a request, `body` its body, `reply` what is answered, and `connection` the protocol that puts them together.
//!
//! ```text
//! cargo run --release --example http -- 127.0.0.1:8080
//! curl -v http://127.0.0.1:8080/
//! ```
//!
//! It serves `/`, `/large` (1 MiB) and `/echo`, which returns what is posted to it. It keeps connections alive, takes
//! pipelined requests no faster than their replies are received, and refuses every request that another HTTP
//! implementation might see to end elsewhere than this one does (request smuggling, RFC 9112 §11.2).
//!
//! What a public server would have besides: TLS, the field `Date` (RFC 9110 §6.6.1 excuses those without a clock only),
//! files, and logs.

mod body;
mod connection;
mod reply;
mod request;

use std::{env, error::Error, process::ExitCode, time::Duration};

use echoloop::{Config, Server};

/// From the first byte of a request until its last.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Without a request on a connection that is kept alive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

fn run(address: &str) -> Result<(), Box<dyn Error>> {
    let mut config = Config::default();
    config.idle_timeout = Some(IDLE_TIMEOUT);
    let server = Server::builder().config(config).bind([address])?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    server.run(|_peer| Some(connection::Http::new(REQUEST_TIMEOUT)))?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address] = args.as_slice() else {
        eprintln!("usage: http ADDR");
        return ExitCode::from(2);
    };
    match run(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
