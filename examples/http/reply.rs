//! What is answered: a status and content.

use std::{borrow::Cow, sync::LazyLock};

use super::request::{Request, Route};

/// A status code and its reason phrase, RFC 9110 §15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(&'static str);

impl Status {
    pub(crate) const OK: Self = Self("200 OK");
    pub(crate) const BAD_REQUEST: Self = Self("400 Bad Request");
    pub(crate) const NOT_FOUND: Self = Self("404 Not Found");
    pub(crate) const METHOD_NOT_ALLOWED: Self = Self("405 Method Not Allowed");
    pub(crate) const REQUEST_TIMEOUT: Self = Self("408 Request Timeout");
    pub(crate) const CONTENT_TOO_LARGE: Self = Self("413 Content Too Large");
    pub(crate) const URI_TOO_LONG: Self = Self("414 URI Too Long");
    pub(crate) const EXPECTATION_FAILED: Self = Self("417 Expectation Failed");
    pub(crate) const FIELDS_TOO_LARGE: Self = Self("431 Request Header Fields Too Large");
    pub(crate) const NOT_IMPLEMENTED: Self = Self("501 Not Implemented");
    pub(crate) const VERSION_NOT_SUPPORTED: Self = Self("505 HTTP Version Not Supported");
}

const PAGE: &str = "This is echoloop's example of HTTP/1.1.\n";

/// 1 MiB of numbered lines.
static LARGE: LazyLock<String> = LazyLock::new(|| (0..1 << 17).map(|line| format!("{line:07}\n")).collect());

pub(crate) struct Reply {
    status: Status,
    /// The methods that would do instead, RFC 9110 §10.2.1.
    allow: Option<&'static str>,
    pub(crate) content: Cow<'static, [u8]>,
}

impl Reply {
    /// What a request with this body gets.
    pub(crate) fn to(request: Request, body: Vec<u8>) -> Self {
        let ok = |content| Self { status: Status::OK, allow: None, content };
        match request.route {
            Route::Page => ok(Cow::Borrowed(PAGE.as_bytes())),
            Route::Large => ok(Cow::Borrowed(LARGE.as_bytes())),
            Route::Echo => ok(Cow::Owned(body)),
            Route::WrongMethod { allow } => {
                Self { allow: Some(allow), ..Self::status(Status::METHOD_NOT_ALLOWED) }
            }
            Route::UnknownMethod => Self::status(Status::NOT_IMPLEMENTED),
            Route::Unknown => Self::status(Status::NOT_FOUND),
        }
    }

    /// No more than a status, and the same to read.
    pub(crate) fn status(status: Status) -> Self {
        Self { status, allow: None, content: Cow::Borrowed(status.0.as_bytes()) }
    }

    pub(crate) fn head(&self, keep_alive: bool) -> String {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n",
            self.status.0,
            self.content.len(),
        );
        if let Some(allow) = self.allow {
            head += &format!("Allow: {allow}\r\n");
        }
        head + "\r\n"
    }
}
