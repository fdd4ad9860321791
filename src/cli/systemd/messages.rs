//! What systemd is told, and when there is nothing to say.

use std::time::{Duration, Instant};

/// What is told so far, and decides what comes next.
#[derive(Debug, Default)]
pub(super) struct Messages {
    phase: Phase,
    /// Reloads that have begun and are not over.
    reloads: usize,
    /// Why the last reload failed, if it did.
    trouble: Option<String>,
    /// The status that systemd has.
    status: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Serving,
    /// The drain begins at that time.
    Stopping(Instant),
}

/// What the status says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) open: u64,
    pub(super) accepted: u64,
    pub(super) now: Instant,
}

impl Messages {
    /// Clients are served.
    pub(super) fn ready(&mut self, figures: &Figures) -> String {
        format!("READY=1\n{}", self.renewed(figures))
    }

    /// The first stop; the drain begins after `grace`. Later ones say nothing.
    pub(super) fn stopping(&mut self, grace: Duration, figures: &Figures) -> Option<String> {
        match self.phase {
            Phase::Stopping(_) => None,
            Phase::Serving => {
                self.phase = Phase::Stopping(figures.now + grace);
                Some(format!("STOPPING=1\n{}", self.renewed(figures)))
            }
        }
    }

    /// A reload begins, at this time of the monotonic clock: systemd takes it for the answer to a request before it. A server
    /// that stops is not ready again afterwards, and says nothing.
    pub(super) fn reloading(&mut self, monotonic_usec: u64) -> Option<String> {
        self.reloads += 1;
        match self.phase {
            Phase::Stopping(_) => None,
            Phase::Serving => Some(format!("RELOADING=1\nMONOTONIC_USEC={monotonic_usec}\n")),
        }
    }

    /// A reload is over. Of several at once the last one says so.
    pub(super) fn reloaded(&mut self, outcome: Result<&str, String>, figures: &Figures) -> Option<String> {
        self.reloads = self.reloads.saturating_sub(1);
        let said = match outcome {
            Ok(said) => {
                self.trouble = None;
                Some(said)
            }
            Err(trouble) => {
                self.trouble = Some(one_line(&trouble));
                None
            }
        };
        if self.reloads > 0 || self.phase != Phase::Serving {
            return None;
        }
        let mut status = self.describe(figures);
        if let Some(said) = said {
            status = format!("{status}; {said}");
        }
        Some(format!("READY=1\n{}", self.remembered(status)))
    }

    /// The status, if it is another one than before.
    pub(super) fn status(&mut self, figures: &Figures) -> Option<String> {
        let status = self.describe(figures);
        (status != self.status).then(|| self.remembered(status))
    }

    /// The last one has not come there.
    pub(super) fn forget_status(&mut self) {
        self.status.clear();
    }

    fn renewed(&mut self, figures: &Figures) -> String {
        let status = self.describe(figures);
        self.remembered(status)
    }

    fn remembered(&mut self, status: String) -> String {
        let line = format!("STATUS={status}\n");
        self.status = status;
        line
    }

    fn describe(&self, figures: &Figures) -> String {
        let phase = match self.phase {
            Phase::Serving => "serving",
            Phase::Stopping(drain) if figures.now < drain => "stopping, but still accepting",
            Phase::Stopping(_) => "draining",
        };
        let mut status =
            format!("{phase}; connections open: {}, accepted: {}", figures.open, figures.accepted);
        if let Some(trouble) = &self.trouble {
            status = format!("{status}; {trouble}");
        }
        status
    }
}

/// A line ends a variable.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::{super::now, *};

    fn figures(now: Instant) -> Figures {
        Figures { open: 2, accepted: 7, now }
    }

    #[test]
    fn the_status_is_sent_when_it_has_changed() {
        let (mut messages, mut figures) = (Messages::default(), figures(now()));
        assert_eq!(messages.ready(&figures), "READY=1\nSTATUS=serving; connections open: 2, accepted: 7\n");
        assert_eq!(messages.status(&figures), None);
        figures.open = 3;
        let status = "STATUS=serving; connections open: 3, accepted: 7\n";
        assert_eq!(messages.status(&figures).as_deref(), Some(status));
        assert_eq!(messages.status(&figures), None);
        messages.forget_status();
        assert_eq!(messages.status(&figures).as_deref(), Some(status), "it has not come there");
    }

    #[test]
    fn a_stop_is_told_once_and_says_when_the_drain_begins() {
        let (begin, mut messages) = (now(), Messages::default());
        let grace = Duration::from_secs(5);
        let stopping = "STOPPING=1\nSTATUS=stopping, but still accepting; connections open: 2, accepted: 7\n";
        assert_eq!(messages.stopping(grace, &figures(begin)).as_deref(), Some(stopping));
        assert_eq!(messages.stopping(Duration::ZERO, &figures(begin)), None);
        let draining = "STATUS=draining; connections open: 2, accepted: 7\n";
        assert_eq!(messages.status(&figures(begin + grace)).as_deref(), Some(draining));
    }

    #[test]
    fn a_reload_is_told_with_its_time_and_its_end_with_what_came_of_it() {
        let (figures, mut messages) = (figures(now()), Messages::default());
        messages.ready(&figures);
        let reloading = Some("RELOADING=1\nMONOTONIC_USEC=17\n".to_owned());
        let ready =
            |more: &str| Some(format!("READY=1\nSTATUS=serving; connections open: 2, accepted: 7{more}\n"));
        assert_eq!(messages.reloading(17), reloading);
        assert_eq!(messages.reloaded(Ok("nothing to reload"), &figures), ready("; nothing to reload"));
        // It is said once, but a failure stays until it is mended.
        assert!(messages.status(&figures).is_some());
        assert_eq!(messages.reloading(17), reloading);
        assert_eq!(messages.reloaded(Err("no\nfile".to_owned()), &figures), ready("; no file"));
        assert_eq!(messages.status(&figures), None);
        messages.reloading(18);
        assert_eq!(messages.reloaded(Ok("done"), &figures), ready("; done"));
        assert_eq!(messages.status(&figures), ready("").map(|message| message.replace("READY=1\n", "")));
    }

    #[test]
    fn of_several_reloads_at_once_the_last_is_the_end() {
        let (figures, mut messages) = (figures(now()), Messages::default());
        assert!(messages.reloading(1).is_some());
        assert!(messages.reloading(2).is_some());
        assert_eq!(messages.reloaded(Ok("done"), &figures), None);
        assert!(
            messages.reloaded(Ok("done"), &figures).is_some_and(|message| message.starts_with("READY=1"))
        );
    }

    #[test]
    fn who_stops_is_not_ready_again_after_a_reload() {
        let (figures, mut messages) = (figures(now()), Messages::default());
        assert!(messages.reloading(1).is_some());
        messages.stopping(Duration::ZERO, &figures);
        assert_eq!(messages.reloaded(Ok("done"), &figures), None);
        assert_eq!(messages.reloading(2), None);
        assert_eq!(messages.reloaded(Ok("done"), &figures), None);
    }
}
