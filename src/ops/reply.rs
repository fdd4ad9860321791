//! What is answered over HTTP: a status and content.

use super::{date::http_date, wall_clock};

/// A status code with its reason phrase, RFC 9110 section 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UriTooLong,
    FieldsTooLarge,
    Unavailable,
    VersionNotSupported,
}

impl Status {
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::UriTooLong => "414 URI Too Long",
            Self::FieldsTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Html,
    Metrics,
}

impl Kind {
    /// The fields that say so.
    const fn fields(self) -> &'static str {
        match self {
            Self::Text => "Content-Type: text/plain; charset=utf-8\r\n",
            Self::Metrics => "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
            // Whatever came to be in the page by a mistake, it could load nothing and send nothing away.
            Self::Html => {
                "Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: default-src 'none'; \
                 style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
                 form-action 'none'; frame-ancestors 'none'\r\n"
            }
        }
    }
}

/// What [`Http`](super::Http) and [`Agent`](super::Agent) answer, found by a thread that may wait: the message that they get.
#[derive(Debug)]
pub struct Reply {
    pub(super) status: Status,
    kind: Kind,
    pub(super) content: String,
}

impl Reply {
    pub(super) const fn ok(kind: Kind, content: String) -> Self {
        Self { status: Status::Ok, kind, content }
    }

    /// A line that says why.
    pub(super) fn new(status: Status, why: String) -> Self {
        Self { status, kind: Kind::Text, content: why + "\n" }
    }

    /// No more than a status.
    pub(super) fn status(status: Status) -> Self {
        Self::new(status, status.line().to_owned())
    }

    /// The status line and the fields.
    pub(super) fn head(&self, keep_alive: bool) -> String {
        let allow = if self.status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        format!(
            "HTTP/1.1 {}\r\nDate: {}\r\n{}Content-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{allow}Connection: {}\r\n\r\n",
            self.status.line(),
            http_date(wall_clock()),
            self.kind.fields(),
            self.content.len(),
            if keep_alive { "keep-alive" } else { "close" },
        )
    }
}
