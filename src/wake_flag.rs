//! Whether a loop was asked to look for requests.

#[cfg(not(all(test, loom)))]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicBool, Ordering};

/// A flag that other threads raise when they have left a request, and that the loop lowers before it takes the requests.
///
/// No request is forgotten: whoever leaves one behind the loop's back finds the flag lowered, and wakes the loop. That
/// holds for every interleaving: `RUSTFLAGS='--cfg loom' cargo test --lib wake_flag` tries them all.
#[derive(Debug)]
pub(crate) struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// A flag that is down.
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Raises it, after the request was left. True if it was down: then the loop has to be woken.
    pub(crate) fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Lowers it, before the requests are taken: every request that is left from here on raises it again.
    pub(crate) fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::{
        sync::{Arc, Notify, atomic::AtomicUsize},
        thread,
    };

    use super::*;

    /// Another thread leaves two requests, as in a mailbox. The loop sleeps only while the flag is down, until it is woken, and
    /// takes requests only where the flag is up: if there is an interleaving in which it sleeps for ever, loom finds it.
    #[test]
    fn no_request_is_forgotten() {
        loom::model(|| {
            let flag = Arc::new(WakeFlag::new());
            let poller = Arc::new(Notify::new());
            let requests = Arc::new(AtomicUsize::new(0));
            let sender = {
                let (flag, poller, requests) =
                    (Arc::clone(&flag), Arc::clone(&poller), Arc::clone(&requests));
                thread::spawn(move || {
                    for left in 1..=2 {
                        requests.store(left, Ordering::Release);
                        if flag.raise() {
                            poller.notify();
                        }
                    }
                })
            };
            let mut taken = 0;
            while taken < 2 {
                if !flag.is_up() {
                    poller.wait();
                }
                if flag.is_up() {
                    flag.lower();
                    taken = requests.load(Ordering::Acquire);
                }
            }
            sender.join().unwrap();
        });
    }
}
