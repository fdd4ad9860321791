//! pipe(2) and splice(2): a socket's bytes return to it without passing through user space.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice},
};

use crate::pipes::Pipe;

/// The capacity asked for: as much as a connection moves in a turn.
const CAPACITY: usize = 512 << 10;

/// A pipe of less is not worth a system call. The kernel makes small ones for a user that has many,
/// see pipe(7), `pipe-user-pages-soft`.
const CAPACITY_MIN: usize = 64 << 10;

/// pipe(2) and splice(2).
#[derive(Debug)]
pub(crate) struct KernelPipe {
    input: OwnedFd,
    output: OwnedFd,
    len: usize,
}

impl KernelPipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let capacity = fcntl_setpipe_size(&input, CAPACITY).or_else(|_| fcntl_getpipe_size(&input))?;
        if capacity < CAPACITY_MIN {
            return Err(Errno::NOBUFS.into());
        }
        Ok(Self { input, output, len: 0 })
    }

    /// One splice(2) from `socket` into the pipe. What splice(2) itself refuses is `Unsupported`: it says nothing
    /// about the socket.
    pub(crate) fn splice_in(&mut self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        match splice(socket, None, &self.input, None, most, FLAGS) {
            Ok(n) => {
                self.len += n;
                Ok(n)
            }
            Err(errno) if REFUSALS.contains(&errno) => Err(io::ErrorKind::Unsupported.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// One splice(2) from the pipe into `socket`. Never asked for more than there is: the kernel would hold back
    /// a tail, waiting for the rest.
    pub(crate) fn splice_out(&mut self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let n = splice(&self.output, None, socket, None, most.min(self.len), FLAGS)?;
        self.len -= n;
        Ok(n)
    }
}

const REFUSALS: [Errno; 8] = [
    Errno::INVAL,
    Errno::NOMEM,
    Errno::NOSYS,
    Errno::OPNOTSUPP,
    Errno::PERM,
    Errno::ACCESS,
    Errno::BADF,
    Errno::FAULT,
];

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Pipe for KernelPipe {
    fn len(&self) -> usize {
        self.len
    }
}
