//! Stdin, stdout and stderr, waited for also where they are non-blocking.
//!
//! A shell or another program may have set `O_NONBLOCK` on what it hands over: the flag belongs to the open file, which
//! all who have it share. So it is not for this program to change, and each operation may say `WouldBlock`.

use std::io::{self, ErrorKind, Read, Stderr, Stdin, Stdout, Write};

/// A stream whose operations wait until they can be done.
#[derive(Debug)]
pub(super) struct Waiting<T>(pub(super) T);

/// One of the streams that are written to.
pub(super) trait Sink: Write {
    /// Waits until a write may be taken.
    fn wait(&self) -> io::Result<()>;
}

impl Sink for Stdout {
    fn wait(&self) -> io::Result<()> {
        wait_until_writable(self)
    }
}

impl Sink for Stderr {
    fn wait(&self) -> io::Result<()> {
        wait_until_writable(self)
    }
}

impl Read for Waiting<Stdin> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_until_readable(&self.0)?,
                result => return result,
            }
        }
    }
}

/// After `WouldBlock` nothing of the bytes given is taken, so that they can be given again.
impl<T: Sink> Write for Waiting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.wait()?,
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.0.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.wait()?,
                result => return result,
            }
        }
    }
}

#[cfg(unix)]
use self::unix::{wait_until_readable, wait_until_writable};

#[cfg(unix)]
mod unix {
    use std::{io, os::fd::AsFd};

    use rustix::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
    };

    pub(super) fn wait_until_readable(stdin: impl AsFd) -> io::Result<()> {
        wait(stdin, PollFlags::IN)
    }

    pub(super) fn wait_until_writable(stdout: impl AsFd) -> io::Result<()> {
        wait(stdout, PollFlags::OUT)
    }

    /// Waits with poll(2), which also returns when the other side is gone or when a signal has come; the operation then
    /// tells.
    fn wait(file: impl AsFd, events: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&file, events)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where standard streams always block.
#[cfg(not(unix))]
fn wait_until_readable(_: &Stdin) -> io::Result<()> {
    Err(ErrorKind::WouldBlock.into())
}

/// Where standard streams always block.
#[cfg(not(unix))]
fn wait_until_writable<T>(_: &T) -> io::Result<()> {
    Err(ErrorKind::WouldBlock.into())
}
