//! The loop in a thread of a bigger program, which drives it with a `Handle`: here from the lines of stdin.
//!
//! ```text
//! cargo run --release --example embed -- 127.0.0.1:7778
//! nc 127.0.0.1 7778
//! ```
//!
//! `stats` prints what was counted so far, and `say TEXT` sends a line to every connection. `drain` (so does the end of
//! stdin) ends them all gracefully, and `quit` resets them. Clients get back what they send.

use std::{
    env,
    error::Error,
    io::{self, BufRead},
    process::ExitCode,
    sync::Arc,
    thread,
};

use echoloop::{Context, Handle, Input, Protocol, Server};

/// An echo that also passes on what the program says.
struct Client;

impl Protocol for Client {
    type Message = Arc<str>;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Arc<str>>) {
        cx.forward(input);
    }

    fn on_message(&mut self, line: Arc<str>, cx: &mut Context<'_, Arc<str>>) {
        // Who does not receive what was said before is spared the rest: memory stays bounded.
        if !cx.is_full() {
            cx.write(line.as_bytes());
        }
    }
}

fn run(address: &str) -> Result<(), Box<dyn Error>> {
    // Errors of the set-up come before the thread is started.
    let server = Server::builder().bind([address])?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    let handle = server.handle();
    let serving = thread::spawn(move || server.run(|_peer| Some(Client)));

    let operated = operate(&handle);
    // Clients are not to suffer from a stdin that fails. After an abort this changes nothing.
    handle.drain();
    let stats = serving.join().expect("the loop does not panic")?;
    println!("{stats}");
    Ok(operated?)
}

/// Does what the lines of stdin say, whatever bytes they have.
fn operate(handle: &Handle<Arc<str>>) -> io::Result<()> {
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("stats", _) => println!("{} open; {}", handle.stats().open, handle.stats()),
            ("say", text) => {
                if let Err(error) = handle.send_all(format!("{text}\n").into()) {
                    println!("not said: {error}");
                }
            }
            ("drain", _) => break,
            ("quit", _) => {
                handle.abort();
                break;
            }
            _ => println!("there are stats, say TEXT, drain and quit"),
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [address] = args.as_slice() else {
        eprintln!("usage: embed ADDR");
        return ExitCode::from(2);
    };
    if let Err(error) = run(address) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
