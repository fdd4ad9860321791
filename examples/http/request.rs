//! The head of a request: parsed by httparse, and believed only where no one can read it in another way.

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
    /// HEAD: the reply's content is left out.
    pub(crate) is_head: bool,
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
        Some(host)
            if host.iter().all(|&b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&b)) => {}
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
        route: route(method, target),
        is_head: method == "HEAD",
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
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BAD_REQUEST);
    }
    let length = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    match length.ok_or(Status::BAD_REQUEST)? {
        length if length <= BODY_LIMIT => Ok(Length::Known(length)),
        _ => Err(Status::CONTENT_TOO_LARGE),
    }
}

/// By path; of the absolute form that RFC 9112 §3.2.2 wants to be understood, and of a query, nothing else matters.
fn route(method: &str, target: &str) -> Route {
    let target = target.split_once('?').map_or(target, |(before, _query)| before);
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let (route, allow) = match path {
        "/" => (Route::Page, "GET, HEAD"),
        "/large" => (Route::Large, "GET, HEAD"),
        "/echo" => (Route::Echo, "POST"),
        _ => return Route::Unknown,
    };
    if allow.split(", ").any(|allowed| allowed == method) { route } else { Route::WrongMethod { allow } }
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
