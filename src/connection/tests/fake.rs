//! A transport that does what the test says, and notes what is asked of it.

use super::*;

/// What the fake kernel holds of one socket, shared with the test.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// What reads give, in order. When there is nothing they would block.
    pub(super) incoming: VecDeque<Incoming>,
    /// How many bytes writes take before they would block.
    pub(super) room: usize,
    /// Errors of the next writes.
    pub(super) write_errors: VecDeque<ErrorKind>,
    pub(super) shutdown_error: Option<ErrorKind>,
    pub(super) pending_error: Option<ErrorKind>,
    pub(super) connecting: bool,
    /// Both ends have the same address.
    pub(super) is_own_peer: bool,
    /// How often connecting again finds the backlog full; `None`: it need not be tried.
    pub(super) full_backlogs: Option<usize>,
    pub(super) short_read_drains: bool,
    pub(super) has_pipes: bool,
    pub(super) sent: Vec<u8>,
    /// What the peer's system has yet to acknowledge; `None`: the fake cannot say.
    pub(super) unacknowledged: Option<usize>,
    /// How often that was asked.
    pub(super) looks: usize,
    /// What was called, in order: `read N`, `write N`, `shutdown`, `reset`, `close`; would-blocks left out.
    pub(super) calls: Vec<String>,
    pub(super) reads: usize,
    pub(super) writes: usize,
    pub(super) interest: Option<Interest>,
}

#[derive(Clone, Debug)]
pub(super) enum Incoming {
    Bytes(Vec<u8>),
    Fin,
    Error(ErrorKind),
}

#[derive(Clone, Debug)]
pub(super) struct Fake(pub(super) Rc<RefCell<Wire>>);

impl Read for Fake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        wire.reads += 1;
        match wire.incoming.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Incoming::Error(kind)) => Err(kind.into()),
            Some(Incoming::Fin) => {
                wire.incoming.push_front(Incoming::Fin);
                wire.calls.push("read 0".to_owned());
                Ok(0)
            }
            Some(Incoming::Bytes(mut bytes)) => {
                let n = bytes.len().min(buffer.len());
                let rest = bytes.split_off(n);
                buffer[..n].copy_from_slice(&bytes);
                if !rest.is_empty() {
                    wire.incoming.push_front(Incoming::Bytes(rest));
                }
                wire.calls.push(format!("read {n}"));
                Ok(n)
            }
        }
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        wire.writes += 1;
        if let Some(kind) = wire.write_errors.pop_front() {
            return Err(kind.into());
        }
        if wire.room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = bytes.len().min(wire.room);
        wire.room -= n;
        wire.sent.extend_from_slice(&bytes[..n]);
        wire.calls.push(format!("write {n}"));
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Addresses for Fake {
    fn peer_addr(&self) -> io::Result<Address> {
        match &*self.0.borrow() {
            wire if wire.connecting => Err(ErrorKind::NotConnected.into()),
            wire if wire.is_own_peer => Ok(own_address()),
            _ => Ok(Address::Unix("fake".into())),
        }
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(if self.0.borrow().is_own_peer { own_address() } else { Address::Unix("fake".into()) })
    }
}

fn own_address() -> Address {
    "127.0.0.1:40000".parse().unwrap()
}

impl Transport for Fake {
    type Pipe = FakePipe;

    fn new_pipe(&self) -> io::Result<FakePipe> {
        let wire = self.0.borrow();
        if wire.has_pipes { Ok(FakePipe::default()) } else { Err(ErrorKind::Unsupported.into()) }
    }

    fn splice_in(&mut self, pipe: &mut FakePipe, most: usize) -> io::Result<usize> {
        assert!(pipe.is_empty());
        let wire = &mut *self.0.borrow_mut();
        if let Some(&Incoming::Error(kind)) = wire.incoming.front() {
            wire.incoming.pop_front();
            return Err(kind.into());
        }
        let bytes = match wire.incoming.front_mut() {
            Some(Incoming::Bytes(bytes)) => bytes,
            Some(Incoming::Fin | Incoming::Error(_)) => return Ok(0),
            None => return Err(ErrorKind::WouldBlock.into()),
        };
        pipe.0 = bytes.drain(..most.min(bytes.len())).collect();
        if bytes.is_empty() {
            wire.incoming.pop_front();
        }
        wire.calls.push(format!("move {}", pipe.len()));
        Ok(pipe.len())
    }

    fn splice_out(&mut self, pipe: &mut FakePipe, most: usize) -> io::Result<usize> {
        let most = most.min(pipe.len());
        let n = self.write(&pipe.0[..most])?;
        pipe.0.drain(..n);
        Ok(n)
    }

    fn short_read_drains(&self) -> bool {
        self.0.borrow().short_read_drains
    }

    fn must_connect_again(&self) -> bool {
        self.0.borrow().full_backlogs.is_some()
    }

    fn connect_again(&mut self) -> io::Result<()> {
        let wire = &mut *self.0.borrow_mut();
        wire.calls.push("connect".to_owned());
        wire.full_backlogs = wire.full_backlogs.and_then(|times| times.checked_sub(1));
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        wire.calls.push("shutdown".to_owned());
        wire.shutdown_error.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn unacknowledged(&self) -> Option<usize> {
        let mut wire = self.0.borrow_mut();
        wire.looks += 1;
        wire.unacknowledged
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.0.borrow_mut().pending_error.take().map(io::Error::from))
    }

    fn reset_on_close(&mut self) {
        self.0.borrow_mut().calls.push("reset".to_owned());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.borrow_mut().calls.push("close".to_owned());
    }
}

#[derive(Debug, Default)]
pub(super) struct FakePipe(Vec<u8>);

impl Pipe for FakePipe {
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Keeps what each socket is watched for.
pub(super) struct FakePoller;

impl Poller<Fake> for FakePoller {
    fn register(&mut self, transport: &mut Fake, _: ConnectionId, interest: Interest) -> io::Result<()> {
        transport.0.borrow_mut().interest = Some(interest);
        Ok(())
    }

    fn reregister(&mut self, transport: &mut Fake, _: ConnectionId, interest: Interest) -> io::Result<()> {
        transport.0.borrow_mut().interest = Some(interest);
        Ok(())
    }
}
