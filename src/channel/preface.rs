//! The header in front of a connection, as it comes.

use std::io::{self, ErrorKind};

use crate::{
    address::Address,
    proxy_protocol::{HEADER_MAX, Proxied, ProxyHeader},
    system::transport::Transport,
};

/// A header that has yet to come, or what it has said.
#[derive(Debug)]
pub(crate) struct Preface {
    /// Who says it. The system need not know that any more when it is asked.
    by: Address,
    header: Header,
}

#[derive(Debug)]
enum Header {
    /// So much of it has come.
    Awaited(Vec<u8>),
    Said(ProxyHeader),
}

impl Preface {
    /// One that this proxy has yet to send.
    pub(crate) const fn of(by: Address) -> Self {
        Self { by, header: Header::Awaited(Vec::new()) }
    }

    /// Reads on. True when the whole header has come. What follows stays in the socket.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or `UnexpectedEof`, or what the system says; `WouldBlock` is none.
    pub(crate) fn read(&mut self, socket: &mut impl Transport) -> io::Result<bool> {
        let Header::Awaited(come) = &mut self.header else { return Ok(true) };
        let mut buffer = [0; HEADER_MAX];
        loop {
            let n = match unless_interrupted(|| socket.peek(&mut buffer)) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                result => result?,
            };
            let before = come.len();
            come.extend_from_slice(&buffer[..n]);
            let parsed =
                ProxyHeader::parse(come).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
            // All that has come of a header that is not complete belongs to it.
            let of_header = parsed.as_ref().map_or(n, |&(_, length)| length - before);
            let read = unless_interrupted(|| socket.read(&mut buffer[..of_header]))?;
            debug_assert_eq!(read, of_header, "it was there a moment ago");
            if let Some((header, _)) = parsed {
                self.header = Header::Said(header);
                return Ok(true);
            }
        }
    }

    /// What it has said.
    pub(crate) const fn header(&self) -> Option<&ProxyHeader> {
        match &self.header {
            Header::Awaited(_) => None,
            Header::Said(header) => Some(header),
        }
    }

    /// And who has.
    pub(crate) fn proxied(&self) -> Option<Proxied> {
        Some(Proxied { by: self.by.clone(), header: self.header()?.clone() })
    }
}

fn unless_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
