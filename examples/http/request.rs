//! The head of a request: parsed by httparse, and believed only where no one can read it in another way.

use std::net::Ipv6Addr;

use super::{
    body::{BODY_LIMIT, Length},
    reply::Status,
};

/// The request line and the fields, in bytes.
const HEAD_LIMIT: usize = 8 << 10;

const FIELDS_MAX: usize = 64;

/// What the head of a request says, as far as this server acts on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) route: Route,
    pub(crate) keep_alive: bool,
    /// The client waits with the body until it is told to continue.
    pub(crate) expects_continue: bool,
    pub(crate) length: Length,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    Page,
    Large,
    Echo,
    WrongMethod { allow: &'static str },
    UnknownMethod,
    Unknown,
}

/// A request whose head `bytes` begin with, and the head's length; `None` if more must come.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Status> {
    use httparse::Error::{HeaderName, HeaderValue, NewLine, Token, TooManyHeaders, Version};
    let bytes = &bytes[..bytes.len().min(HEAD_LIMIT)];
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if has_bare_line_feed(&bytes[..length]) => {
            Err(Status::BAD_REQUEST)
        }
        Ok(httparse::Status::Complete(length)) => Ok(Some((understand(&head)?, length))),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => Ok(None),
        Ok(httparse::Status::Partial) if !bytes.contains(&b'\n') => Err(Status::URI_TOO_LONG),
        Ok(httparse::Status::Partial) | Err(TooManyHeaders) => Err(Status::FIELDS_TOO_LARGE),
        Err(Version) if names_a_version(bytes) => Err(Status::VERSION_NOT_SUPPORTED),
        Err(Version | HeaderName | HeaderValue | NewLine | httparse::Error::Status | Token) => {
            Err(Status::BAD_REQUEST)
        }
    }
}

/// httparse takes a LF alone for the end of a line, as RFC 9112 §2.2 allows. Not everyone does.
pub(crate) fn has_bare_line_feed(lines: &[u8]) -> bool {
    lines.split_inclusive(|&b| b == b'\n').any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n"))
}

/// Whether what is behind the second space of the request line is a version of HTTP, and no nonsense.
fn names_a_version(bytes: &[u8]) -> bool {
    let version = bytes.splitn(3, |&b| b == b' ').nth(2).and_then(|rest| rest.strip_prefix(b"HTTP/"));
    version.and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

fn understand(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let method = head.method.expect("the head is complete");
    let target = head.path.expect("the head is complete");
    let is_http_1_0 = head.version == Some(0);
    // RFC 9112 §3.2: without a valid host, or with two, a request is refused. HTTP/1.0 had none.
    match the_only(head, "host")? {
        Some(host) if str::from_utf8(host).is_ok_and(is_host) => {}
        None if is_http_1_0 => {}
        Some(_) | None => return Err(Status::BAD_REQUEST),
    }
    let length = length(head, is_http_1_0)?;
    // RFC 9110 §10.1.1: there is one expectation, which HTTP/1.0 did not know.
    let mut expectations = list(head, "expect").peekable();
    let expects_continue = expectations.peek().is_some() && !is_http_1_0;
    if !expectations.all(|one| one.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Status::EXPECTATION_FAILED);
    }
    let connection = |option: &[u8]| list(head, "connection").any(|one| one.eq_ignore_ascii_case(option));
    Ok(Request {
        route: route(method, target)?,
        keep_alive: !connection(b"close") && (!is_http_1_0 || connection(b"keep-alive")),
        expects_continue,
        length,
    })
}

/// RFC 9112 §6.3, at its strictest: what gives a recipient a choice is refused.
fn length(head: &httparse::Request<'_, '_>, is_http_1_0: bool) -> Result<Length, Status> {
    let content_length = the_only(head, "content-length")?;
    let codings: Vec<&[u8]> = list(head, "transfer-encoding").collect();
    let Some((last, others)) = codings.split_last() else {
        return content_length.map_or(Ok(Length::Known(0)), known_length);
    };
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let is_malformed = !is_chunked(last) || others.iter().any(|&other| other.is_empty() || is_chunked(other));
    if is_malformed || content_length.is_some() || is_http_1_0 {
        return Err(Status::BAD_REQUEST);
    }
    if others.is_empty() { Ok(Length::Chunked) } else { Err(Status::NOT_IMPLEMENTED) }
}

/// Digits and nothing else, RFC 9110 §8.6.
fn known_length(value: &[u8]) -> Result<Length, Status> {
    // The standard parser would take a sign.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BAD_REQUEST);
    }
    let length = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    // One that does not fit into a number is too large too.
    length.filter(|&length| length <= BODY_LIMIT).map(Length::Known).ok_or(Status::CONTENT_TOO_LARGE)
}

/// RFC 9110 §7.2: a name or an address, one of IPv6 in brackets, and perhaps a port.
fn is_host(value: &str) -> bool {
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        Some(_) | None => (value, ""),
    };
    let is_port =
        port.bytes().all(|b| b.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok());
    is_port
        && match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_name(host),
        }
}

/// RFC 3986 §3.2.2, but not empty (RFC 9110 §4.2.1).
fn is_name(host: &str) -> bool {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b);
    !host.is_empty() && host.bytes().all(is_allowed) && host.split('%').skip(1).all(is_escape)
}

/// By path. A method that no path allows is none of this server's.
fn route(method: &str, target: &str) -> Result<Route, Status> {
    if !["GET", "HEAD", "POST"].contains(&method) {
        return Ok(Route::UnknownMethod);
    }
    let (route, allow) = match path(target)? {
        "/" => (Route::Page, "GET, HEAD"),
        "/large" => (Route::Large, "GET, HEAD"),
        "/echo" => (Route::Echo, "POST"),
        _ => return Ok(Route::Unknown),
    };
    let is_allowed = allow.split(", ").any(|allowed| allowed == method);
    Ok(if is_allowed { route } else { Route::WrongMethod { allow } })
}

/// The path of a target: of the absolute form that RFC 9112 §3.2.2 wants to be understood, and of a query, nothing else
/// matters.
fn path(target: &str) -> Result<&str, Status> {
    let target = target.split_once('?').map_or(target, |(before, _query)| before);
    if target.starts_with('/') {
        return Ok(target);
    }
    let (scheme, rest) = target.split_at_checked("http://".len()).ok_or(Status::BAD_REQUEST)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !scheme.eq_ignore_ascii_case("http://") || !is_host(host) {
        return Err(Status::BAD_REQUEST);
    }
    Ok(if path.is_empty() { "/" } else { path })
}

fn values<'a>(head: &'a httparse::Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a field that must not be repeated.
fn the_only<'a>(head: &'a httparse::Request<'_, '_>, name: &'a str) -> Result<Option<&'a [u8]>, Status> {
    let mut values = values(head, name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Status::BAD_REQUEST),
    }
}

/// The members of a field that is a list, which may be spread over several lines (RFC 9110 §5.3).
fn list<'a>(head: &'a httparse::Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    values(head, name).flat_map(|value| value.split(|&b| b == b',')).map(<[u8]>::trim_ascii)
}
