//! One process takes the place of another: what both say to each other.
//!
//! ```text
//! new                                old
//! takeover 1
//!                                    {"sockets":[{"role":"serve","address":"127.0.0.1:7"}, …],"more":false}
//!                                    with a descriptor for each of the sockets
//! (it serves)
//! ready
//!                                    (it stops accepting, and drains)
//!                                    yours
//! ```
//!
//! In place of any answer there may be a line that begins with `error: `. Until `ready` everything can be called off by
//! closing the connection.

use std::{
    fmt,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::descriptors::{Lines, TOGETHER_MAX, send};
use crate::{address::Address, handle::Handle, sockets::Sockets, system::os::Inherited};

/// Other versions are refused.
pub(super) const VERSION: &str = "1";

/// How long the other one may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a new process may take until it serves: it may have much to read first.
const READY_PATIENCE: Duration = Duration::from_secs(120);

const READY: &str = "ready";
const YOURS: &str = "yours";
const ERROR: &str = "error: ";

/// The sockets of a running process, on the way to this one, which is to take its place: asked for over the other's
/// [control socket](super::Control).
///
/// ```no_run
/// use std::{path::Path, time::Duration};
/// use echoloop::{Echo, Server, ops::Takeover};
///
/// let mut takeover = Takeover::begin(Path::new("/run/echo.sock"))?;
/// let server = Server::<Echo>::builder().inherit(takeover.take("serve")).bind(["127.0.0.1:27015"])?;
/// let (handle, sockets) = (server.handle(), server.sockets());
/// std::thread::spawn(move || {
///     if let Err(error) = takeover.complete(&handle, &[sockets]) {
///         eprintln!("the other one goes on: {error}");
///         handle.drain_now();
///     }
/// });
/// server.run(|_| Some(Echo))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Takeover {
    stream: UnixStream,
    /// With what each is for.
    sockets: Vec<(String, Inherited)>,
}

impl Takeover {
    /// Asks the process whose control socket has this path for all its sockets. It goes on as before until
    /// [`complete`](Self::complete), and if this is dropped.
    ///
    /// # Errors
    ///
    /// If nobody answers at the path, or refuses: because it speaks another version of this, is ending, or is being taken
    /// over already.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let stream = super::connect(path, PATIENCE)?;
        send(&stream, &format!("takeover {VERSION}\n"), &[])?;
        let mut lines = Lines::of(&stream);
        let mut sockets = Vec::new();
        loop {
            let offer = Offer::parse(&lines.next()?)?;
            for (role, address) in offer.sockets {
                let descriptor = lines.descriptor().ok_or_else(|| invalid("a socket is missing"))?;
                let inherited = Inherited::try_from(descriptor)?;
                if inherited.address().to_string() != address {
                    return Err(invalid("a socket has another address than was said"));
                }
                sockets.push((role, inherited));
            }
            if !offer.has_more {
                break;
            }
        }
        Ok(Self { stream, sockets })
    }

    /// The sockets of a role: those that the other one has [given](super::Control::give) under this name. They can be taken
    /// once.
    pub fn take(&mut self, role: &str) -> Vec<Inherited> {
        let (wanted, others) =
            std::mem::take(&mut self.sockets).into_iter().partition::<Vec<_>, _>(|(of, _)| of == role);
        self.sockets = others;
        wanted.into_iter().map(|(_, inherited)| inherited).collect()
    }

    /// What nobody has taken so far, with what it was for.
    pub fn untaken(&self) -> impl Iterator<Item = (&str, &Address)> {
        self.sockets.iter().map(|(role, inherited)| (role.as_str(), inherited.address()))
    }

    /// Waits until every loop of the new server answers, and says that it serves. Then the other one stops accepting, and
    /// these sockets are this process's own. Not for the thread that runs the server.
    ///
    /// # Errors
    ///
    /// If a loop does not answer within ten seconds, or the other process has called it off: it goes on, and this one should
    /// drain. That the other one has gone when it was told is no error.
    pub fn complete<M>(self, handle: &Handle<M>, sockets: &[Sockets]) -> io::Result<()> {
        if handle.accepting(PATIENCE).contains(&None) {
            return Err(io::Error::new(ErrorKind::TimedOut, "an event loop does not answer"));
        }
        send(&self.stream, &format!("{READY}\n"), &[])?;
        match Lines::of(&self.stream).next() {
            Ok(line) if line == YOURS => {}
            Ok(line) => return Err(invalid(line.strip_prefix(ERROR).unwrap_or(&line))),
            Err(error) => log::warn!("takeover: the other process was told, and does not answer: {error}"),
        }
        sockets.iter().for_each(Sockets::own);
        Ok(())
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover").field("untaken", &self.sockets.len()).finish_non_exhaustive()
    }
}

/// One line of those that name sockets.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    /// Role and address.
    sockets: Vec<(String, String)>,
    has_more: bool,
}

impl Offer {
    fn parse(line: &str) -> io::Result<Self> {
        if let Some(why) = line.strip_prefix(ERROR) {
            return Err(io::Error::other(why.to_owned()));
        }
        let parse = || {
            let offer: Value = serde_json::from_str(line).ok()?;
            let socket = |socket: &Value| {
                Some((socket.get("role")?.as_str()?.to_owned(), socket.get("address")?.as_str()?.to_owned()))
            };
            let sockets = offer.get("sockets")?.as_array()?.iter().map(socket).collect::<Option<_>>()?;
            Some(Self { sockets, has_more: offer.get("more")?.as_bool()? })
        };
        parse().ok_or_else(|| invalid("it does not speak this protocol"))
    }

    fn line(&self) -> String {
        let socket = |(role, address): &(String, String)| json!({ "role": role, "address": address });
        let sockets: Vec<Value> = self.sockets.iter().map(socket).collect();
        format!("{}\n", json!({ "sockets": sockets, "more": self.has_more }))
    }
}

/// Gives all these sockets to the process at the other end, and waits until it serves. Whoever calls this has
/// [left](Sockets::leave) them.
pub(super) fn offer(stream: &UnixStream, given: &[(String, Sockets)]) -> io::Result<()> {
    let mut all: Vec<((String, String), OwnedFd)> = Vec::new();
    for (role, sockets) in given {
        let duplicates = sockets.duplicate()?.into_iter();
        all.extend(duplicates.map(|(address, socket)| ((role.clone(), address.to_string()), socket)));
    }
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(TOGETHER_MAX));
        let (sockets, descriptors): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        send(stream, &Offer { sockets, has_more: !rest.is_empty() }.line(), &descriptors)?;
        all = rest;
    }
    stream.set_read_timeout(Some(READY_PATIENCE))?;
    let line = Lines::of(stream).next()?;
    if line == READY { Ok(()) } else { Err(invalid("it said something else than that it serves")) }
}

/// Everything is theirs now.
pub(super) fn let_go(stream: &UnixStream) -> io::Result<()> {
    send(stream, &format!("{YOURS}\n"), &[])
}

/// A line that says why something is refused.
pub(super) fn refusal(why: &str) -> String {
    format!("{ERROR}{}\n", why.replace(char::is_control, " "))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_as_it_was_written_and_anything_else_is_an_error() {
        let offer =
            Offer { sockets: vec![("serve".to_owned(), "unix:/tmp/a \"b\"".to_owned())], has_more: true };
        assert_eq!(Offer::parse(offer.line().trim_end()).unwrap(), offer);
        let refused = Offer::parse(refusal("it is\nending").trim_end()).unwrap_err();
        assert_eq!(refused.to_string(), "it is ending");
        for bad in ["", "{}", "[]", r#"{"sockets":[{}],"more":true}"#, r#"{"sockets":[]}"#, "ok"] {
            assert!(Offer::parse(bad).is_err(), "{bad}");
        }
    }
}
