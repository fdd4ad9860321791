//! What makes the load.
//!
//! ```text
//! generator     what runs a load
//! phases        a load from beginning to end: connect, warm up, measure, disconnect
//! loops         the event loops, each on a thread of its own
//! role          what a connection of a loop is there for: the load, or the pacer
//! pacer         open loop: hands out messages when they are due
//! protocol      one connection: send, check what comes back, disconnect
//! worker        what the connections of one loop share
//! messages      the messages of one connection, sent and in flight
//! pattern       the bytes that are sent, and expected back
//! schedule      when things are due, counted from the start
//! wake_up       when to wake up for what is due
//! timetable     when messages are due, on the clock
//! rotation      values that take turns
//! datagrams/    a load of datagrams, which has loops of its own
//! instruction, event    what connections, and the thread that runs the load, are told
//! ```
//!
//! It reports what it measures to `measure`, and knows nothing of how figures are presented.

pub(crate) mod datagrams;
mod event;
pub(crate) mod generator;
mod instruction;
mod loops;
mod messages;
mod pacer;
mod pattern;
pub(crate) mod phases;
mod protocol;
mod role;
mod rotation;
mod schedule;
mod timetable;
mod wake_up;
mod worker;

use std::sync::mpsc::Sender;

use self::event::LoadEvent;

/// A function that tells the thread that runs a load of an event.
fn teller(sender: &Sender<LoadEvent>, event: LoadEvent) -> impl Fn() + Send + 'static {
    let sender = sender.clone();
    move || {
        // Nobody listens when the program is about to end.
        let _ = sender.send(event);
    }
}
