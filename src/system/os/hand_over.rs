//! Connections of one port that one worker accepts and another one serves.
//!
//! The kernel spreads connections over the workers by chance; a worker that has more than another one leaves what it
//! accepts to that one. They lie in the inbox of the other until it is woken and takes them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::stream::Stream;
use crate::system::{Accepted, transport::Transport};

/// One worker's part in it.
#[derive(Debug)]
pub(crate) struct HandOver {
    inboxes: Arc<[Inbox]>,
    worker: usize,
    /// What was in the inbox when it closed.
    rest: VecDeque<Accepted<Stream>>,
}

/// `None` once its worker takes over no more.
type Inbox = Mutex<Option<VecDeque<Accepted<Stream>>>>;

impl HandOver {
    /// One for each worker.
    pub(crate) fn among(workers: usize) -> impl Iterator<Item = Self> {
        let inboxes: Arc<[Inbox]> = (0..workers).map(|_| Mutex::new(Some(VecDeque::new()))).collect();
        (0..workers).map(move |worker| Self { inboxes: Arc::clone(&inboxes), worker, rest: VecDeque::new() })
    }

    /// Leaves a connection to another worker, or gives it back if that one takes over no more.
    pub(crate) fn give(&self, accepted: Accepted<Stream>, to: u32) -> Result<(), Accepted<Stream>> {
        match self.inboxes.get(to as usize).map(lock).as_deref_mut() {
            Some(Some(inbox)) => {
                inbox.push_back(accepted);
                Ok(())
            }
            _ => Err(accepted),
        }
    }

    /// The next connection that was left to this worker.
    pub(crate) fn take(&mut self) -> Option<Accepted<Stream>> {
        let left = lock(&self.inboxes[self.worker]).as_mut().and_then(VecDeque::pop_front);
        left.or_else(|| self.rest.pop_front())
    }

    /// Takes over no more but what is there.
    pub(crate) fn close(&mut self) {
        self.rest.extend(lock(&self.inboxes[self.worker]).take().into_iter().flatten());
    }
}

/// The inbox goes on with the other workers, but what lies in it ends with this one: it is never served.
impl Drop for HandOver {
    fn drop(&mut self) {
        self.close();
        for (stream, _) in &mut self.rest {
            stream.reset_on_close();
        }
    }
}

/// Nothing that is done under the lock leaves an inbox half changed.
fn lock(inbox: &Inbox) -> MutexGuard<'_, Option<VecDeque<Accepted<Stream>>>> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::address::Address;

    /// A connection, told from others by the address it is given.
    fn accepted(n: u16) -> Accepted<Stream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = mio::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Stream::Tcp(stream), Address::Ip(([127, 0, 0, 1], n).into()))
    }

    /// What was left to the worker.
    fn taken(worker: &mut HandOver) -> Vec<String> {
        std::iter::from_fn(|| worker.take()).map(|(_, address)| address.to_string()).collect()
    }

    #[test]
    fn what_is_left_to_a_worker_is_taken_by_it_in_order() {
        let mut workers: Vec<_> = HandOver::among(3).collect();
        for n in [1, 2] {
            workers[0].give(accepted(n), 2).unwrap();
        }
        assert!(taken(&mut workers[1]).is_empty());
        assert_eq!(taken(&mut workers[2]), ["127.0.0.1:1", "127.0.0.1:2"]);
        assert!(taken(&mut workers[2]).is_empty());
    }

    #[test]
    fn a_worker_that_closes_its_inbox_has_what_came_before_and_the_giver_what_comes_later() {
        let mut workers: Vec<_> = HandOver::among(2).collect();
        workers[0].give(accepted(1), 1).unwrap();
        workers[1].close();
        let (_, address) = workers[0].give(accepted(2), 1).expect_err("the inbox is closed");
        assert_eq!(address.to_string(), "127.0.0.1:2");
        assert_eq!(taken(&mut workers[1]), ["127.0.0.1:1"]);
    }

    #[test]
    fn a_worker_that_is_gone_and_one_that_never_was_take_nothing() {
        let mut workers: Vec<_> = HandOver::among(2).collect();
        drop(workers.pop());
        for to in [1, 2] {
            assert!(workers[0].give(accepted(1), to).is_err());
        }
    }
}
