//! The small services of 1983 in one process: several listeners, a protocol for each.
//!
//! ```text
//! cargo run --release --example rfc -- HOST BASE
//! cargo run --release --example rfc -- 127.0.0.1 2000
//! ```
//!
//! `HOST` is an IP address. The services listen on their ports plus `BASE`: 0 for the real ones, which need privileges,
//! or `any` for ports that the system chooses. One line `listening on ADDR` is printed for each, in this order:
//!
//! | service                                                   | port | what it does                                   |
//! | --------------------------------------------------------- | ---: | ---------------------------------------------- |
//! | echo, [RFC 862](https://www.rfc-editor.org/rfc/rfc862)    |    7 | sends back what it receives                    |
//! | discard, [RFC 863](https://www.rfc-editor.org/rfc/rfc863) |    9 | receives, and sends nothing                    |
//! | daytime, [RFC 867](https://www.rfc-editor.org/rfc/rfc867) |   13 | sends the date and time in UTC as text         |
//! | quote, [RFC 865](https://www.rfc-editor.org/rfc/rfc865)   |   17 | sends the quote of the day                     |
//! | chargen, [RFC 864](https://www.rfc-editor.org/rfc/rfc864) |   19 | sends lines of characters until the client ends |
//! | time, [RFC 868](https://www.rfc-editor.org/rfc/rfc868)    |   37 | sends the seconds since 1900 as four bytes     |
//!
//! Daytime, quote and time end the connection themselves. They do so with `finish`: the client gets the whole answer
//! even while it sends something that nobody wants.

use std::{
    env,
    error::Error,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use echoloop::{Context, Flow, Input, Origin, Peer, Protocol, Server};

/// What is spoken on one connection: one of the services, with what it has to remember.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Echo,
    Discard,
    Daytime,
    Quote,
    Chargen {
        /// The place in the ring where the next line begins.
        next: usize,
    },
    Time,
}

impl Service {
    /// All of them, in the order of their listeners.
    pub(crate) const ALL: [Self; 6] =
        [Self::Echo, Self::Discard, Self::Daytime, Self::Quote, Self::Chargen { next: 0 }, Self::Time];

    /// The port that is assigned to it.
    const fn port(self) -> u16 {
        match self {
            Self::Echo => 7,
            Self::Discard => 9,
            Self::Daytime => 13,
            Self::Quote => 17,
            Self::Chargen { .. } => 19,
            Self::Time => 37,
        }
    }

    /// The one that listens where the peer came in.
    fn of(peer: &Peer<'_>) -> Option<Self> {
        match peer.origin {
            Origin::Listener(position) => Self::ALL.get(position).copied(),
            Origin::Connect(_) | _ => None,
        }
    }
}

impl Protocol for Service {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        let answer = match self {
            Self::Echo | Self::Discard => return,
            Self::Chargen { next } => return generate(next, cx),
            Self::Daytime => daytime(now()),
            Self::Quote => quote(now()),
            Self::Time => time(now()),
        };
        cx.write(&answer);
        cx.finish();
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_>) {
        match self {
            Self::Echo => {
                cx.forward(input);
            }
            Self::Discard | Self::Daytime | Self::Quote | Self::Chargen { .. } | Self::Time => {
                input.take();
            }
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Chargen { next } => generate(next, cx),
            Self::Echo | Self::Discard | Self::Daytime | Self::Quote | Self::Time => {}
        }
    }
}

/// The characters in a line of chargen.
const LINE: usize = 72;

/// The printable characters of ASCII, with the space.
const PRINTABLE: usize = 95;

/// They as a ring, cut open behind the last place where a line can end.
const RING: [u8; PRINTABLE + LINE] = {
    let mut ring = [b' '; PRINTABLE + LINE];
    let mut place = 1;
    while place < ring.len() {
        ring[place] = if ring[place - 1] == b'~' { b' ' } else { ring[place - 1] + 1 };
        place += 1;
    }
    ring
};

/// Writes lines, each beginning one character further in the ring, until the queue is full. It goes on when there is
/// room again, so a client that does not read costs the high-water mark and no more.
fn generate(next: &mut usize, cx: &mut Context<'_>) {
    loop {
        cx.write(&RING[*next..*next + LINE]);
        *next = (*next + 1) % PRINTABLE;
        if cx.write(b"\r\n") != Flow::Open {
            return;
        }
    }
}

/// The date and time as `2026-02-03T04:05:06Z`. The RFC leaves the form open.
fn daytime(since_1970: Duration) -> Vec<u8> {
    let date = SystemTime::UNIX_EPOCH + since_1970;
    format!("{}\r\n", humantime::format_rfc3339_seconds(date)).into_bytes()
}

/// Each shorter than the 512 characters of the RFC.
const QUOTES: [&str; 4] = [
    "Be conservative in what you do, be liberal in what you accept from others.\r\n- Jon Postel, RFC 761\r\n",
    "Simplicity is prerequisite for reliability.\r\n- Edsger W. Dijkstra, EWD 498\r\n",
    "It is always possible to add another level of indirection.\r\n- RFC 1925\r\n",
    "With sufficient thrust, pigs fly just fine.\r\n- RFC 1925\r\n",
];

/// Another one each day.
fn quote(since_1970: Duration) -> Vec<u8> {
    let day = since_1970.as_secs() / (24 * 60 * 60);
    let which = usize::try_from(day % QUOTES.len() as u64).expect("less than there are quotes");
    QUOTES[which].into()
}

/// The seconds from 1900 to 1970.
const FROM_1900_TO_1970: u64 = 2_208_988_800;

/// The seconds since 1900, the most significant byte first. Only 32 bits of them: after 2036-02-07T06:28:15Z they begin
/// again at 0, and the client has to know in which period of 136 years it lives.
fn time(since_1970: Duration) -> Vec<u8> {
    (FROM_1900_TO_1970 + since_1970.as_secs()).to_be_bytes()[4..].to_vec()
}

/// The time since 1970.
#[expect(clippy::disallowed_methods, reason = "the loop's clock does not know the date")]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Where the services listen. `BASE` is `any` or what is added to their ports.
fn addresses(host: &str, base: &str) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let host: IpAddr = host.parse().map_err(|_| format!("'{host}' is not an IP address"))?;
    if base == "any" {
        return Ok(vec![SocketAddr::new(host, 0); Service::ALL.len()]);
    }
    let offset: u16 = base.parse().map_err(|_| format!("'{base}' is neither `any` nor a port"))?;
    let port = |service: Service| offset.checked_add(service.port()).ok_or("there are no such ports");
    Service::ALL.into_iter().map(|service| Ok(SocketAddr::new(host, port(service)?))).collect()
}

fn run(host: &str, base: &str) -> Result<(), Box<dyn Error>> {
    let server = Server::builder().bind(addresses(host, base)?)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    server.run(Service::of)?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [host, base] = args.as_slice() else {
        eprintln!("usage: rfc HOST BASE");
        return ExitCode::from(2);
    };
    match run(host, base) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
