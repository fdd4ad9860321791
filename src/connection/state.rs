//! The states of a connection, and the events that change them.

use std::fmt;

use crate::close_reason::CloseReason;

/// Where a connection is in its life.
///
/// ```text
///             data in, all of it sent
///                  ┌─────┐
///                  │     ▼
///   accept ─────▶ Reading ──── data in, some of it unsent ────▶ Echoing
///                  │  ▲                                           │ │
///                  │  └──────────── queue flushed ────────────────┘ │
///      end, nothing queued                            end, queue flushed
///                  │                                                │
///                  └──▶ shutdown(Write) ──▶ HalfClosed ◀── shutdown(Write)
///                                              │
///   all acknowledged, and: peer's EOF (seen already, or now) · linger deadline · linger byte cap
///                                              ▼
///    error / reset / abort, from any state ─▶ Closed: close, free the slot
/// ```
///
/// An outbound connection begins as `Connecting` and becomes `Reading` when it is made. So does a client with a TLS
/// handshake before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Outbound, and not made yet; or a client whose TLS handshake is under way.
    Connecting,
    /// Nothing is queued; what comes is handed to the protocol.
    Reading,
    /// Output is queued, waiting for the socket to take it.
    Echoing,
    /// Everything was sent, and our FIN behind it; the peer may still send.
    HalfClosed,
    /// Ended. The socket is closed and the slot freed after the current batch of events.
    Closed(CloseReason),
}

impl State {
    /// The outbound connection is made, or the handshake is over.
    #[must_use]
    pub fn connected(self) -> Self {
        match self {
            Self::Connecting => Self::Reading,
            Self::Reading | Self::Echoing | Self::HalfClosed => self.impossible("connected"),
            Self::Closed(_) => self,
        }
    }

    /// The socket did not take all the output; the tail is queued.
    #[must_use]
    pub fn queued(self) -> Self {
        match self {
            Self::Reading | Self::Echoing => Self::Echoing,
            // Nothing can be written before the connection is made, or behind our FIN.
            Self::Connecting | Self::HalfClosed => self.impossible("queued"),
            Self::Closed(_) => self,
        }
    }

    /// The queue is empty.
    #[must_use]
    pub fn flushed(self) -> Self {
        match self {
            Self::Reading | Self::Echoing => Self::Reading,
            Self::Connecting | Self::HalfClosed => self.impossible("flushed"),
            Self::Closed(_) => self,
        }
    }

    /// Our FIN was sent.
    #[must_use]
    pub fn write_shut(self) -> Self {
        match self {
            Self::Reading => Self::HalfClosed,
            // FIN goes behind the last byte, so never while output is queued, and only once.
            Self::Connecting | Self::Echoing | Self::HalfClosed => self.impossible("write_shut"),
            Self::Closed(_) => self,
        }
    }

    /// The connection ended. The first reason stays.
    #[must_use]
    pub const fn close(self, reason: CloseReason) -> Self {
        match self {
            Self::Connecting | Self::Reading | Self::Echoing | Self::HalfClosed => Self::Closed(reason),
            Self::Closed(_) => self,
        }
    }

    /// Whether the connection is made and has not ended.
    #[must_use]
    pub const fn is_made(self) -> bool {
        match self {
            Self::Reading | Self::Echoing | Self::HalfClosed => true,
            Self::Connecting | Self::Closed(_) => false,
        }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        match self {
            Self::Closed(_) => true,
            Self::Connecting | Self::Reading | Self::Echoing | Self::HalfClosed => false,
        }
    }

    fn impossible(self, event: &str) -> Self {
        debug_assert!(false, "{event} while {self}");
        self
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("Connecting"),
            Self::Reading => f.write_str("Reading"),
            Self::Echoing => f.write_str("Echoing"),
            Self::HalfClosed => f.write_str("HalfClosed"),
            Self::Closed(reason) => write!(f, "Closed ({reason})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const CLOSED: State = State::Closed(CloseReason::Idle);

    /// Each event from each state; `None` where the event cannot happen, which debug builds assert.
    #[test]
    fn every_event_in_every_state() {
        use State::{Connecting, Echoing, HalfClosed, Reading};
        type Event = fn(State) -> State;
        let connected: Event = State::connected;
        let table: [(Event, [Option<State>; 4]); 4] = [
            (connected, [Some(Reading), None, None, None]),
            (State::queued, [None, Some(Echoing), Some(Echoing), None]),
            (State::flushed, [None, Some(Reading), Some(Reading), None]),
            (State::write_shut, [None, Some(HalfClosed), None, None]),
        ];
        for (event, expected) in table {
            for (state, expected) in [Connecting, Reading, Echoing, HalfClosed].into_iter().zip(expected) {
                match expected {
                    Some(next) => assert_eq!(event(state), next, "from {state}"),
                    None if cfg!(debug_assertions) => assert!(catch_unwind(|| event(state)).is_err()),
                    None => assert_eq!(event(state), state),
                }
            }
            assert_eq!(event(CLOSED), CLOSED, "nothing brings a connection back");
        }
    }

    #[test]
    fn any_state_can_close_and_the_first_reason_stays() {
        for state in [State::Connecting, State::Reading, State::Echoing, State::HalfClosed, CLOSED] {
            assert_eq!(state.close(CloseReason::Idle), CLOSED);
            assert_eq!(state.close(CloseReason::Idle).close(CloseReason::Reset), CLOSED);
        }
        assert!(CLOSED.is_closed());
        assert!(!State::HalfClosed.is_closed());
    }
}
