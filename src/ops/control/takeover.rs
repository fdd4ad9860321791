//! One process takes the place of another: what both say to each other.
//!
//! ```text
//! new                                old
//! takeover 1
//!                                    {"sockets":[{"role":"serve","address":"127.0.0.1:7"}, …],"more":false}
//!                                    with a descriptor for each of the sockets
//! (it serves)
//! ready serve …
//!                                    yours
//!                                    (it stops accepting, and drains)
//! ```
//!
//! `ready` names the roles that were taken. In place of any answer there may be a line that begins with `error: `: then the old
//! one goes on as before. Until `ready` everything can be called off by closing the connection. From then on the new one serves
//! unless it is told otherwise: an end without a line means that the old one has gone.

use std::{
    fmt,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::descriptors::{Lines, TOGETHER_MAX, send};
use crate::{
    address::Address,
    handle::Handle,
    sockets::Sockets,
    status::Accepting,
    system::os::{Inherited, SocketFile},
};

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
    /// The roles of those that are taken.
    taken: Vec<String>,
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
            for offered in offer.sockets {
                let descriptor = lines.descriptor().ok_or_else(|| invalid("a socket is missing"))?;
                let mut inherited = Inherited::try_from(descriptor)?;
                if inherited.address().to_string() != offered.address {
                    return Err(invalid("a socket has another address than was said"));
                }
                // What is at that path by now may be another one's.
                inherited.file = match (inherited.address(), offered.file) {
                    (Address::Unix(path), Some(file)) => Some(SocketFile::known(path, file)),
                    _ => None,
                };
                inherited.is_kept = offered.is_kept;
                sockets.push((offered.role, inherited));
            }
            if !offer.has_more {
                break;
            }
        }
        Ok(Self { stream, sockets, taken: Vec::new() })
    }

    /// The sockets of a role: those that the other one has [given](super::Control::give) under this name. They can be taken
    /// once. What is not taken stays the other one's, which ends it.
    pub fn take(&mut self, role: &str) -> Vec<Inherited> {
        let (wanted, others) =
            std::mem::take(&mut self.sockets).into_iter().partition::<Vec<_>, _>(|(of, _)| of == role);
        self.sockets = others;
        if !wanted.is_empty() {
            self.taken.push(role.to_owned());
        }
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
    /// If a loop does not answer within ten seconds, or the server is told to end meanwhile, or the other process has called
    /// it off: it goes on, and this one should drain. That the other one has gone is no error.
    pub fn complete<M>(self, handle: &Handle<M>, sockets: &[Sockets]) -> io::Result<()> {
        let accepting = handle.accepting(PATIENCE);
        if accepting.contains(&None) {
            return Err(io::Error::new(ErrorKind::TimedOut, "an event loop does not answer"));
        }
        if accepting.contains(&Some(Accepting::No)) || !handle.is_ready() {
            return Err(io::Error::other("this server was told to end"));
        }
        let said = send(&self.stream, &format!("{READY} {}\n", self.taken.join(" ")), &[]);
        match said.and_then(|()| Lines::of(&self.stream).next()) {
            Ok(line) if line == YOURS => {}
            Ok(line) => return Err(invalid(line.strip_prefix(ERROR).unwrap_or(&line))),
            Err(error) => {
                // It may have said so before it closed.
                if let Ok(line) = Lines::of(&self.stream).next()
                    && let Some(why) = line.strip_prefix(ERROR)
                {
                    return Err(invalid(why));
                }
                log::warn!("takeover: the other process has gone: {error}");
            }
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
    sockets: Vec<Offered>,
    has_more: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Offered {
    role: String,
    address: String,
    /// Device and inode of the file of its path.
    file: Option<(u64, u64)>,
    /// Somebody else has it as well, and keeps it.
    is_kept: bool,
}

impl Offered {
    fn parse(socket: &Value) -> Option<Self> {
        let text = |name| Some(socket.get(name)?.as_str()?.to_owned());
        let number = |name| socket.get(name)?.as_u64();
        Some(Self {
            role: text("role")?,
            address: text("address")?,
            file: number("device").zip(number("inode")),
            is_kept: socket.get("kept")?.as_bool()?,
        })
    }

    fn value(&self) -> Value {
        let (device, inode) = self.file.unzip();
        let Self { role, address, is_kept, .. } = self;
        json!({ "role": role, "address": address, "device": device, "inode": inode, "kept": is_kept })
    }
}

impl Offer {
    fn parse(line: &str) -> io::Result<Self> {
        if let Some(why) = line.strip_prefix(ERROR) {
            return Err(io::Error::other(why.to_owned()));
        }
        let parse = || {
            let offer: Value = serde_json::from_str(line).ok()?;
            let sockets =
                offer.get("sockets")?.as_array()?.iter().map(Offered::parse).collect::<Option<_>>()?;
            Some(Self { sockets, has_more: offer.get("more")?.as_bool()? })
        };
        parse().ok_or_else(|| invalid("it does not speak this protocol"))
    }

    fn line(&self) -> String {
        let sockets: Vec<Value> = self.sockets.iter().map(Offered::value).collect();
        format!("{}\n", json!({ "sockets": sockets, "more": self.has_more }))
    }
}

/// A socket for the process at the other end.
pub(super) struct Prepared(Offered, OwnedFd);

/// All that there is to give, as it is before they are [left](Sockets::leave).
pub(super) fn prepare(given: &[(String, Sockets)]) -> io::Result<Vec<Prepared>> {
    let sockets = given.iter().flat_map(|(role, sockets)| sockets.open().map(move |socket| (role, socket)));
    let prepared = sockets.map(|(role, socket)| {
        let (address, descriptor) = socket.duplicate()?;
        let file = socket.file().map(SocketFile::identity);
        let (role, address) = (role.clone(), address.to_string());
        Ok(Prepared(Offered { role, address, file, is_kept: socket.is_left() }, descriptor))
    });
    prepared.collect()
}

/// Gives all these sockets to the process at the other end, and waits until it serves. Returns the roles of those that it has
/// taken.
pub(super) fn offer(stream: &UnixStream, mut all: Vec<Prepared>) -> io::Result<Vec<String>> {
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(TOGETHER_MAX));
        let (sockets, descriptors): (Vec<_>, Vec<_>) =
            all.into_iter().map(|Prepared(offered, descriptor)| (offered, descriptor)).unzip();
        send(stream, &Offer { sockets, has_more: !rest.is_empty() }.line(), &descriptors)?;
        all = rest;
    }
    stream.set_read_timeout(Some(READY_PATIENCE))?;
    let line = Lines::of(stream).next()?;
    let mut words = line.split(' ');
    if words.next() == Some(READY) {
        Ok(words.map(str::to_owned).collect())
    } else {
        Err(invalid("it said something else than that it serves"))
    }
}

/// Everything is theirs now. If this fails they have gone, and this process goes on.
pub(super) fn let_go(stream: &UnixStream) -> io::Result<()> {
    send(stream, &format!("{YOURS}\n"), &[])
}

/// It is called off, and this process goes on as before.
pub(super) fn refuse(stream: &UnixStream, why: &str) -> io::Result<()> {
    send(stream, &refusal(why), &[])
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
        let (role, address) = ("serve".to_owned(), "unix:/tmp/a \"b\"".to_owned());
        let offered = |file, is_kept| Offered { role: role.clone(), address: address.clone(), file, is_kept };
        let sockets = vec![offered(Some((u64::MAX, 7)), false), offered(None, true)];
        let offer = Offer { sockets, has_more: true };
        assert_eq!(Offer::parse(offer.line().trim_end()).unwrap(), offer);
        let refused = Offer::parse(refusal("it is\nending").trim_end()).unwrap_err();
        assert_eq!(refused.to_string(), "it is ending");
        for bad in ["", "{}", "[]", r#"{"sockets":[{}],"more":true}"#, r#"{"sockets":[]}"#, "ok"] {
            assert!(Offer::parse(bad).is_err(), "{bad}");
        }
    }
}
