//! Descriptors that travel over a Unix socket, with lines of text: SCM_RIGHTS, unix(7).

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    cmsg_space,
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

/// How many go with one line. Linux takes 253 at most.
pub(super) const TOGETHER_MAX: usize = 128;

const SPACE_BYTES: usize = cmsg_space!(ScmRights(TOGETHER_MAX));

/// Nobody sends a line in more pieces. Each may take its time.
const PIECES_MAX: usize = 64;

/// Longer lines are no answers.
const LINE_MAX: usize = 64 << 10;

/// Sends a line, with descriptors that the other end gets duplicates of.
pub(super) fn send(stream: &UnixStream, line: &str, descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); SPACE_BYTES];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let sent =
            retry_on_intr(|| sendmsg(stream, &[IoSlice::new(rest)], &mut attached, SendFlags::empty()));
        rest = &rest[sent.map_err(expired)?..];
        // They went with the first byte.
        attached.clear();
    }
    Ok(())
}

/// Lines and descriptors that come.
pub(super) struct Lines<'a> {
    stream: &'a UnixStream,
    line_max: usize,
    /// None are wanted otherwise.
    has_descriptors: bool,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(stream: &'a UnixStream) -> Self {
        Self { has_descriptors: true, ..Self::of_text(stream, LINE_MAX) }
    }

    /// Those of a client that has no descriptors to send, and is not waited for long.
    pub(super) fn of_text(stream: &'a UnixStream, line_max: usize) -> Self {
        let (received, descriptors) = (Vec::new(), VecDeque::new());
        Self { stream, line_max, has_descriptors: false, received, descriptors }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if there is none, `TimedOut`, or what recvmsg(2) says.
    pub(super) fn next(&mut self) -> io::Result<String> {
        for _ in 0..PIECES_MAX {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return String::from_utf8(line[..end].to_vec()).map_err(|_| ErrorKind::InvalidData.into());
            }
            if self.received.len() > self.line_max {
                break;
            }
            self.receive()?;
        }
        Err(io::Error::new(ErrorKind::InvalidData, "the line has no end"))
    }

    /// The next descriptor that has come with the lines so far.
    pub(super) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); SPACE_BYTES];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let received =
            retry_on_intr(|| recvmsg(self.stream, &mut [IoSliceMut::new(&mut buffer)], &mut attached, FLAGS));
        let received = received.map_err(expired)?;
        for message in attached.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message
                && self.has_descriptors
            {
                self.descriptors.extend(descriptors);
            }
        }
        if received.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..received.bytes]);
        Ok(())
    }
}

/// Where it cannot be said, they may be inherited by a program that is started in that moment.
#[cfg(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris"))]
const FLAGS: RecvFlags = RecvFlags::empty();
#[cfg(not(any(target_vendor = "apple", target_os = "illumos", target_os = "solaris")))]
const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// What a timeout of a socket is called on Unix.
fn expired(error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{Shutdown, TcpListener},
    };

    use super::*;

    #[test]
    fn lines_and_descriptors_arrive_together_and_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|one| one.local_addr().unwrap().port()).collect();
        let descriptors: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
        send(&here, "first\n", &[]).unwrap();
        send(&here, "second\n", &descriptors[..2]).unwrap();
        send(&here, "third\nfourth\n", &descriptors[2..]).unwrap();
        here.shutdown(Shutdown::Write).unwrap();
        let mut lines = Lines::of(&there);
        let all: Vec<String> = (0..4).map(|_| lines.next().unwrap()).collect();
        assert_eq!(all, ["first", "second", "third", "fourth"]);
        assert_eq!(lines.next().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let arrived: Vec<u16> = std::iter::from_fn(|| lines.descriptor())
            .map(|descriptor| TcpListener::from(descriptor).local_addr().unwrap().port())
            .collect();
        assert_eq!(arrived, ports);
    }

    #[test]
    fn a_line_without_an_end_is_not_waited_for_for_ever() {
        let (mut here, there) = UnixStream::pair().unwrap();
        there.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        here.write_all(b"half a").unwrap();
        let mut lines = Lines::of(&there);
        assert_eq!(lines.next().unwrap_err().kind(), ErrorKind::TimedOut);
        let more = std::thread::spawn(move || while here.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(lines.next().unwrap_err().kind(), ErrorKind::InvalidData);
        drop(there);
        more.join().unwrap();
    }
}
