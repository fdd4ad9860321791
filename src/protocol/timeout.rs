//! Which timeout ran out.

/// Which timeout ran out; see [`Protocol::on_timeout`](crate::Protocol::on_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// No byte moved for [`idle_timeout`](crate::Config::idle_timeout) while nothing was queued.
    Idle,
    /// Nothing was received for [`read_idle_timeout`](crate::Config::read_idle_timeout).
    ReadIdle,
    /// Nothing was sent for [`write_idle_timeout`](crate::Config::write_idle_timeout).
    WriteIdle,
    /// A timer set with [`Context::set_timer`](crate::Context::set_timer), by its key.
    Timer(u64),
    /// A timer that an inner protocol has set: [`for_inner`](Self::for_inner).
    Inner(InnerTimer),
}

/// A timer of an inner protocol; see [`Timeout::for_inner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerTimer(TimerKey);

/// A timer's key, and how far inside the protocol is that has set it: those of layers do not clash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    pub(crate) depth: u8,
    pub(crate) key: u64,
}

impl Timeout {
    /// What a protocol that calls an inner one hands on to it; `None` for a timer of its own. See
    /// [`Context::inner`](crate::Context::inner).
    #[must_use]
    pub fn for_inner(self) -> Option<Self> {
        match self {
            Self::Idle | Self::ReadIdle | Self::WriteIdle => Some(self),
            Self::Timer(_) => None,
            Self::Inner(InnerTimer(timer)) => Some(timer.timeout()),
        }
    }
}

impl TimerKey {
    /// As the outermost protocol sees it.
    pub(crate) fn timeout(self) -> Timeout {
        match self.depth.checked_sub(1) {
            None => Timeout::Timer(self.key),
            Some(depth) => Timeout::Inner(InnerTimer(Self { depth, ..self })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_handed_inwards_to_the_one_who_set_it() {
        let timer = |depth| TimerKey { depth, key: 7 }.timeout();
        assert_eq!(timer(0), Timeout::Timer(7));
        assert_eq!(timer(0).for_inner(), None);
        assert_eq!(timer(1).for_inner(), Some(Timeout::Timer(7)));
        assert_eq!(timer(2).for_inner().and_then(Timeout::for_inner), Some(Timeout::Timer(7)));
        assert_eq!(timer(2).for_inner().and_then(Timeout::for_inner).and_then(Timeout::for_inner), None);
        assert_eq!(Timeout::Idle.for_inner(), Some(Timeout::Idle));
    }
}
