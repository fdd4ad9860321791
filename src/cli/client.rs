//! `echoloop client`: the steps of the tutorial's client.
//!
//! One thread sends while another receives, so that a server which holds back its input until its output is
//! taken never deadlocks with it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

use echoloop::Address;

use super::{
    args::ClientArgs,
    compare::{Comparison, Difference, Received},
    failure::{Failure, hint_for},
    stderr::Stderr,
};

const BUFFER: usize = 64 << 10;

/// How often within a timeout the client looks whether anything has moved.
const LOOKS: u32 = 8;

pub(crate) fn run(args: &ClientArgs, stderr: &Stderr) -> Result<ExitCode, Failure> {
    let streams_stdin = args.message == "-";
    let socket = connect(&args.server, args.connect_timeout.0)?;
    let comparison = Arc::new(Comparison::new());
    let source: Box<dyn Read + Send> = if streams_stdin {
        Box::new(io::stdin())
    } else {
        Box::new(io::Cursor::new(args.message.clone().into_bytes()))
    };
    let sender = start_sender(source, socket.try_clone()?, Arc::clone(&comparison))?;
    let mut sink: Box<dyn Write> = if streams_stdin { Box::new(io::stdout()) } else { Box::new(io::sink()) };

    let mut exchange =
        Exchange { received: comparison.receiver(), comparison: &comparison, sender, sent: None };
    let outcome = exchange.receive_all(socket, &mut sink, args.timeout.0);
    let mut lines = vec![
        format!("Bytes sent: {}", comparison.sent()),
        format!("Bytes received: {}", exchange.received.length()),
    ];
    if outcome.is_ok() {
        lines.push("Connection closed".to_owned());
    }
    for line in lines {
        if streams_stdin {
            stderr.line(&line);
        } else {
            writeln!(io::stdout(), "{line}").map_err(stdout_failed)?;
        }
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Tries each address that the server has.
fn connect(server: &Address, timeout: Option<Duration>) -> Result<Socket, Failure> {
    let mut last = None;
    for address in server.resolve()? {
        log::debug!("connecting to {address}");
        match Socket::connect(&address, timeout) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(Failure::new(format!("cannot connect to {address}: {error}")).hint(hint_for(&error)))
}

/// Why the sender ended before its source did.
enum SendFailure {
    Source(io::Error),
    Socket(io::Error),
}

type SendOutcome = Result<(), SendFailure>;

/// Sends everything that the source gives, then shuts down the sending side.
fn start_sender(
    mut source: Box<dyn Read + Send>,
    socket: Socket,
    comparison: Arc<Comparison>,
) -> Result<Receiver<SendOutcome>, Failure> {
    let (done, outcome) = sync_channel(1);
    let mut send_all = {
        let mut socket = socket.try_clone()?;
        move || {
            let mut buffer = vec![0; BUFFER];
            loop {
                match source.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(n) => {
                        comparison.send(&buffer[..n]);
                        socket.write_all(&buffer[..n]).map_err(SendFailure::Socket)?;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(SendFailure::Source(error)),
                }
            }
        }
    };
    thread::Builder::new()
        .name("sender".to_owned())
        .spawn(move || {
            // Told before the shutdown: once the server answers that with its own end, the outcome is known. The
            // receiving thread may have ended the program meanwhile; and a shutdown that fails finds the
            // server gone, which that thread sees too.
            let _ = done.send(send_all());
            let _ = socket.shutdown_write();
        })
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
    Ok(outcome)
}

/// The receiving side of the conversation, and what it knows of the other.
struct Exchange<'a> {
    received: Received<'a>,
    comparison: &'a Comparison,
    sender: Receiver<SendOutcome>,
    sent: Option<SendOutcome>,
}

impl Exchange<'_> {
    /// Receives until the server ends, and compares.
    fn receive_all(
        &mut self,
        mut socket: Socket,
        sink: &mut dyn Write,
        timeout: Option<Duration>,
    ) -> Result<(), Failure> {
        // Looks up several times within the timeout whether anything has moved.
        let look = timeout.map(|timeout| (timeout / LOOKS).max(Duration::from_millis(1)));
        socket.set_read_timeout(look)?;
        let mut buffer = vec![0; BUFFER];
        let (mut sent_before, mut silent_looks) = (0, 0);
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    let equal = self.received.receive(&buffer[..n]);
                    // At once: someone may be waiting for a line that has no end yet.
                    sink.write_all(&buffer[..n]).and_then(|()| sink.flush()).map_err(stdout_failed)?;
                    equal.map_err(differs)?;
                    silent_looks = 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let sent = self.comparison.sent();
                    silent_looks = if sent == sent_before && self.is_owed() { silent_looks + 1 } else { 0 };
                    if silent_looks >= LOOKS {
                        let received = self.received.length();
                        return Err(Failure::new(format!(
                            "the server went silent: {received} of {sent} bytes came back"
                        )));
                    }
                    sent_before = sent;
                }
                Err(error) => return Err(self.broken(&error)),
            }
        }
        self.check_end()
    }

    /// Whether the server owes bytes, or its end of the connection.
    fn is_owed(&mut self) -> bool {
        self.sender_has_ended() || self.received.length() < self.comparison.sent()
    }

    fn sender_has_ended(&mut self) -> bool {
        if self.sent.is_none() {
            self.sent = match self.sender.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => unreachable!("the sender tells before it ends"),
            };
        }
        self.sent.is_some()
    }

    /// The server has ended: was that all?
    fn check_end(&mut self) -> Result<(), Failure> {
        self.sender_has_ended();
        let (received, sent) = (self.received.length(), self.comparison.sent());
        match &self.sent {
            Some(Err(SendFailure::Source(error))) => Err(Failure::new(format!("cannot read stdin: {error}"))),
            Some(Ok(())) if received == sent => self.received.finish().map_err(differs),
            Some(Err(SendFailure::Socket(error))) => Err(Failure::new(format!(
                "the server stopped receiving: {error}: {received} of {sent} bytes came back"
            ))),
            Some(Ok(())) | None => Err(Failure::new(format!(
                "the server closed the connection early: {received} of {sent} bytes came back"
            ))),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let (received, sent) = (self.received.length(), self.comparison.sent());
        let what = if error.kind() == ErrorKind::ConnectionReset {
            "the server reset the connection".to_owned()
        } else {
            format!("cannot receive: {error}")
        };
        Failure::new(format!("{what}: {received} of {sent} bytes came back"))
    }
}

fn differs(difference: Difference) -> Failure {
    Failure::new(match difference {
        Difference::Corrupt(range) => {
            format!("the echo differs from what was sent, between bytes {} and {}", range.start, range.end)
        }
        Difference::TooLong => "the server sent more than it was sent".to_owned(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn stdout_failed(error: io::Error) -> Failure {
    Failure::new(format!("cannot write to stdout: {error}"))
}

/// Errors of calls on the socket that do not fail in practice.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format!("socket: {error}"))
    }
}

/// A blocking socket of either family.
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

macro_rules! each {
    ($self:expr, $socket:ident => $do:expr) => {
        match $self {
            Socket::Tcp($socket) => $do,
            #[cfg(unix)]
            Socket::Unix($socket) => $do,
        }
    };
}

impl Socket {
    fn connect(address: &Address, timeout: Option<Duration>) -> io::Result<Self> {
        match address {
            Address::Ip(address) => {
                let socket = connect_tcp(address, timeout)?;
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            #[cfg(unix)]
            Address::Unix(path) => Ok(Self::Unix(std::os::unix::net::UnixStream::connect(path)?)),
            #[cfg(not(unix))]
            Address::Unix(_) => {
                Err(io::Error::new(ErrorKind::Unsupported, "Unix sockets are not available on this system"))
            }
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            #[cfg(unix)]
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        each!(self, socket => socket.set_read_timeout(timeout))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        each!(self, socket => socket.shutdown(Shutdown::Write))
    }
}

fn connect_tcp(address: &SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
    match timeout {
        Some(timeout) => TcpStream::connect_timeout(address, timeout),
        None => TcpStream::connect(address),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, socket => socket.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, socket => socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
