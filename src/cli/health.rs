//! `echoloop health`: asks a server how it is, for containers that have no other program to do so.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use echoloop::Address;

use super::{
    failure::Failure,
    ops::{OPS_PORT, ops_address},
    values::duration,
};

/// Ask a server with --metrics whether it lives
///
/// The exit status is 0 if it does, and 1 if not, or if it does not answer.
#[derive(Debug, Parser)]
pub(crate) struct HealthArgs {
    /// Where its metrics are: HOST:PORT, unix:PATH or http://HOST:PORT/PATH [default: 127.0.0.1:27016]
    #[arg(value_name = "URL|ADDR", value_parser = target)]
    target: Option<Target>,

    /// Ask whether clients should be sent there (/readyz)
    ///
    /// Without this it is whether every event loop answers (/livez).
    #[arg(long)]
    ready: bool,

    /// Give up after this long
    #[arg(long, value_name = "DUR", default_value = "3s", value_parser = duration)]
    timeout: Duration,
}

/// Whom to ask, and for which path, if one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    address: Address,
    path: Option<String>,
}

/// Understands both forms.
fn target(text: &str) -> Result<Target, String> {
    if text.starts_with("https://") {
        return Err("metrics are served without TLS: write http://".to_owned());
    }
    let (host, path) = match text.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => (text, ""),
    };
    let is_path = path.bytes().all(|b| b.is_ascii_graphic());
    if !is_path {
        return Err("its path has spaces or other characters that no URL has".to_owned());
    }
    let address = ops_address(host)?;
    Ok(Target { address, path: Some(path.to_owned()).filter(|path| path.len() > 1) })
}

pub(crate) fn run(args: &HealthArgs) -> Result<ExitCode, Failure> {
    let target = args
        .target
        .clone()
        .unwrap_or_else(|| Target { address: Address::Ip(([127, 0, 0, 1], OPS_PORT).into()), path: None });
    if args.ready && target.path.is_some() {
        return Err(Failure::arguments("--ready asks for /readyz, and the URL has a path of its own"));
    }
    let path = target.path.as_deref().unwrap_or(if args.ready { "/readyz" } else { "/livez" });
    let begin = now();
    let left = || args.timeout.saturating_sub(now().saturating_duration_since(begin));
    let mut last = None;
    for address in target.address.resolve()? {
        let answer = connect(&address, left()).and_then(|stream| ask(stream, &address, path, left));
        match answer.and_then(|answer| understand(&answer)) {
            Ok((200, _)) => return Ok(ExitCode::SUCCESS),
            Ok((status, why)) => {
                return Err(Failure::new(format!("{address}{path} says {status}: {why}")));
            }
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.expect("a resolved server has at least one address");
    Err(Failure::new(format!("{address}{path} does not answer: {error}")))
}

/// A stream of bytes with a timeout.
trait Stream: Read + Write {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

#[cfg(unix)]
impl Stream for std::os::unix::net::UnixStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

fn connect(address: &Address, timeout: Duration) -> io::Result<Box<dyn Stream>> {
    if timeout.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    if let Address::Ip(address) = address {
        return Ok(Box::new(TcpStream::connect_timeout(address, timeout)?));
    }
    #[cfg(unix)]
    if let Address::Unix(path) = address {
        return Ok(Box::new(std::os::unix::net::UnixStream::connect(path)?));
    }
    Err(ErrorKind::Unsupported.into())
}

/// More than any answer has that says no more than how it is.
const ANSWER_MAX: usize = 64 << 10;

/// The whole answer, or as much of it as matters.
fn ask(
    mut stream: Box<dyn Stream>,
    address: &Address,
    path: &str,
    left: impl Fn() -> Duration,
) -> io::Result<Vec<u8>> {
    let host = if let Address::Ip(address) = address { address.to_string() } else { "localhost".to_owned() };
    let set_timeout = |stream: &dyn Stream| match left() {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => stream.set_timeout(left),
    };
    set_timeout(&*stream)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while answer.len() < ANSWER_MAX {
        set_timeout(&*stream)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What a timeout of a socket is called on Unix, and on Windows.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// The status, and the first line of what is said.
fn understand(answer: &[u8]) -> io::Result<(u16, String)> {
    let answer = String::from_utf8_lossy(answer);
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "that is no HTTP"))?;
    let content = answer.split_once("\r\n\r\n").map_or("", |(_, content)| content);
    let line: String =
        content.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect();
    Ok((status, line))
}

#[expect(clippy::disallowed_methods, reason = "it waits in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_or_a_url() {
        for (text, address, path) in [
            ("localhost", "localhost:27016", None),
            (":9100", "127.0.0.1:9100", None),
            ("unix:/tmp/a/b", "unix:/tmp/a/b", None),
            ("http://127.0.0.1:9100", "127.0.0.1:9100", None),
            ("http://127.0.0.1:9100/", "127.0.0.1:9100", None),
            ("http://[::1]/readyz?x", "[::1]:27016", Some("/readyz?x")),
        ] {
            let target = target(text).unwrap();
            assert_eq!(
                (target.address.to_string().as_str(), target.path.as_deref()),
                (address, path),
                "{text}"
            );
        }
        for bad in ["https://x/", "http://", "http://x/a b", "udp:127.0.0.1:7", ""] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let said = |answer: &str| understand(answer.as_bytes()).ok();
        assert_eq!(said("HTTP/1.1 200 OK\r\nA: b\r\n\r\nlive\n"), Some((200, "live".to_owned())));
        assert_eq!(said("HTTP/1.0 503 X\r\n\r\n"), Some((503, String::new())));
        for bad in ["", "HTTP/1.1 20", "SSH-2.0-x", "HTTP/2.0 200 OK"] {
            assert_eq!(said(bad), None, "{bad}");
        }
    }
}
