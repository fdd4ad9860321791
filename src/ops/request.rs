//! The head of a request: parsed by httparse, and believed only where no one can read it in another way.

use super::reply::Status;

/// The request line and the fields, in bytes.
pub(super) const HEAD_LIMIT: usize = 8 << 10;

const FIELDS_MAX: usize = 64;

/// What a head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// `Err`: what is answered instead.
    pub(super) route: Result<Route, Status>,
    /// Only the head of the answer is wanted.
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
}

/// What there is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Metrics,
    Live,
    Ready,
}

/// A request whose head `bytes` begin with, and the head's length; `None` if more must come. After an error nobody knows
/// where the next request begins.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Status> {
    use httparse::Error::{HeaderName, HeaderValue, NewLine, Token, TooManyHeaders, Version};
    let bytes = &bytes[..bytes.len().min(HEAD_LIMIT)];
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if has_bare_line_feed(&bytes[..length]) => {
            Err(Status::BadRequest)
        }
        Ok(httparse::Status::Complete(length)) => Ok(Some((understand(&head)?, length))),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => Ok(None),
        Ok(httparse::Status::Partial) if !bytes.contains(&b'\n') => Err(Status::UriTooLong),
        Ok(httparse::Status::Partial) | Err(TooManyHeaders) => Err(Status::FieldsTooLarge),
        Err(Version) if names_a_version(bytes) => Err(Status::VersionNotSupported),
        Err(Version | HeaderName | HeaderValue | NewLine | httparse::Error::Status | Token) => {
            Err(Status::BadRequest)
        }
    }
}

/// httparse takes a LF alone for the end of a line, as RFC 9112 section 2.2 allows. Not everyone does.
fn has_bare_line_feed(lines: &[u8]) -> bool {
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
    // RFC 9112 section 3.2: without a host, or with two, a request is refused. HTTP/1.0 had none.
    let hosts = values(head, "host").count();
    if hosts > 1 || (hosts == 0 && !is_http_1_0) {
        return Err(Status::BadRequest);
    }
    let is_allowed = ["GET", "HEAD"].contains(&method);
    // Nothing here wants content. Only that there is none can be read in one way.
    let has_content = values(head, "transfer-encoding").next().is_some()
        || values(head, "content-length").any(|length| length != b"0");
    if has_content && is_allowed {
        return Err(Status::BadRequest);
    }
    let connection = |option: &[u8]| {
        let options = values(head, "connection").flat_map(|value| value.split(|&b| b == b','));
        options.map(<[u8]>::trim_ascii).any(|one| one.eq_ignore_ascii_case(option))
    };
    let keep_alive = !connection(b"close") && (!is_http_1_0 || connection(b"keep-alive"));
    Ok(Request {
        route: if is_allowed { route(path(target)?) } else { Err(Status::MethodNotAllowed) },
        is_head: method == "HEAD",
        // Whatever comes behind another method may be its content.
        keep_alive: keep_alive && is_allowed,
    })
}

fn route(path: &str) -> Result<Route, Status> {
    match path {
        "/" => Ok(Route::Page),
        "/metrics" => Ok(Route::Metrics),
        "/livez" => Ok(Route::Live),
        "/readyz" => Ok(Route::Ready),
        _ => Err(Status::NotFound),
    }
}

/// The path of a target: of the absolute form that RFC 9112 section 3.2.2 wants to be understood, and of a query, nothing
/// else matters.
fn path(target: &str) -> Result<&str, Status> {
    let target = target.split_once('?').map_or(target, |(before, _query)| before);
    if target.starts_with('/') {
        return Ok(target);
    }
    let (scheme, rest) = target.split_at_checked("http://".len()).ok_or(Status::BadRequest)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !scheme.eq_ignore_ascii_case("http://") || host.is_empty() {
        return Err(Status::BadRequest);
    }
    Ok(if path.is_empty() { "/" } else { path })
}

fn values<'a>(head: &'a httparse::Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(text: &str) -> Result<Request, Status> {
        let head = format!("{text}\r\n\r\n");
        for cut in 0..head.len() {
            assert!(!matches!(parse(&head.as_bytes()[..cut]), Ok(Some(_))), "{text:?} cut at {cut}");
        }
        parse(head.as_bytes()).map(|request| {
            let (request, length) = request.expect("it is whole");
            assert_eq!(length, head.len());
            request
        })
    }

    #[test]
    fn paths_are_found_in_every_form_of_target() {
        for (target, route) in [
            ("/", Ok(Route::Page)),
            ("/?refresh", Ok(Route::Page)),
            ("/metrics?x=/livez", Ok(Route::Metrics)),
            ("/livez", Ok(Route::Live)),
            ("HTTP://x:1/readyz", Ok(Route::Ready)),
            ("http://x", Ok(Route::Page)),
            ("/livez/", Err(Status::NotFound)),
            ("//", Err(Status::NotFound)),
            ("/../metrics", Err(Status::NotFound)),
        ] {
            let request = parsed(&format!("GET {target} HTTP/1.1\r\nHost: x"));
            assert_eq!(request, Ok(Request { route, is_head: false, keep_alive: true }), "{target}");
        }
        for target in ["*", "metrics", "http://", "http:///livez", "https://x/"] {
            let request = parsed(&format!("GET {target} HTTP/1.1\r\nHost: x"));
            assert_eq!(request, Err(Status::BadRequest), "{target}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for fields in [
            "",
            "Host: x\r\nHost: x",
            "Host: x\r\nContent-Length: 1",
            "Host: x\r\nContent-Length: 00",
            "Host: x\r\nContent-Length: 0, 1",
            "Host: x\r\nContent-Length: 0\r\nContent-Length: 5",
            "Host: x\r\nTransfer-Encoding: chunked",
            "Host: x\r\n folded: y",
            "Host: x\nY: z",
            "Host : x",
        ] {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(parse(head.as_bytes()), Err(Status::BadRequest), "{fields:?}");
        }
        assert_eq!(parse(b"\x16\x03\x01\0\xa5\x01\0\0"), Err(Status::BadRequest), "TLS");
        assert!(parsed("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0").is_ok());
    }

    #[test]
    fn other_methods_and_versions_are_named_as_such() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"] {
            let request = parsed(&format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5"));
            let refused = Request { route: Err(Status::MethodNotAllowed), is_head: false, keep_alive: false };
            assert_eq!(request, Ok(refused), "{method}");
        }
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/3"] {
            let head = format!("GET / {version}\r\nHost: x\r\n\r\n");
            assert_eq!(parse(head.as_bytes()), Err(Status::VersionNotSupported), "{version}");
        }
    }

    #[test]
    fn a_connection_is_kept_as_the_client_wants() {
        for (head, keep_alive) in [
            ("GET / HTTP/1.1\r\nHost: x", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, CLOSE", false),
            ("GET / HTTP/1.0", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive", true),
        ] {
            assert_eq!(parsed(head).map(|request| request.keep_alive), Ok(keep_alive), "{head:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = "x".repeat(9000);
        assert_eq!(parse(format!("GET /{long}").as_bytes()), Err(Status::UriTooLong));
        assert_eq!(parse(format!("GET / HTTP/1.1\r\nX: {long}").as_bytes()), Err(Status::FieldsTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(64));
        assert_eq!(parse(many.as_bytes()), Err(Status::FieldsTooLarge));
    }
}
